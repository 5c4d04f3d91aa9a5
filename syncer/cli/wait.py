"""``syncer wait``"""

from __future__ import annotations

from typing import Annotated

import typer

from syncer.cli.options import HomeOption


def register(app: typer.Typer) -> None:
    @app.command()
    def wait(
        home: HomeOption,
        in_sync: Annotated[bool, typer.Option("--in-sync", help="Until all sites hold the same.")] = True,
        timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")] = 60.0,
    ) -> None:
        """Wait until all that was written at any site before this call is at every site.

        Every site scans its folder first; all configured sites must be connected. Waits for an engine that is just
        starting, too. Exit code 4 when the time is over.

        Example: syncer wait --home ~/sync --in-sync --timeout 30
        """
        from syncer.site.home import Home
        from syncer.site.waiting import wait_until_in_sync

        wait_until_in_sync(Home(home), timeout)
        typer.echo("in sync")
