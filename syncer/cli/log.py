"""``syncer log``"""

from __future__ import annotations

from typing import Annotated

import typer

from syncer.cli.options import HomeOption


def register(app: typer.Typer) -> None:
    @app.command()
    def log(
        home: HomeOption,
        process: Annotated[
            str | None, typer.Option(help="One process only: coordinator, mover-udt, mover-tcp, circusd.")
        ] = None,
        follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines arrive.")] = False,
    ) -> None:
        """Print the logs of the site's processes.

        Example: syncer log --home ~/sync --process coordinator --follow
        """
        from syncer.site.home import Home
        from syncer.site.log_files import print_logs

        place = Home(home)
        place.load()
        print_logs(place, process, follow=follow, out=typer.echo)
