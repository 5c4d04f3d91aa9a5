"""``syncer run``"""

from __future__ import annotations

import typer

from syncer.cli.options import HomeOption


def register(app: typer.Typer) -> None:
    @app.command()
    def run(home: HomeOption) -> None:
        """Run the site in the foreground until SIGTERM or Ctrl-C.

        Example: syncer run --home ~/sync
        """
        from syncer.site.home import Home
        from syncer.site.supervise import run as run_site

        run_site(Home(home), typer.echo)
