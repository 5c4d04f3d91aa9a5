"""``longhaul exec``: run one command at a site."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from harness.cli import complete
from harness.cli.lab_choice import LabOption, open_site


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("exec")(execute)


def execute(
    site: Annotated[
        str, typer.Argument(help="A site, or one of its nodes as SITE.NODE.", autocompletion=complete.nodes)
    ],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="What to run, after `--`.")],
    lab: LabOption = None,
) -> int:
    """Run a command at a site, in its data directory, and exit with the command's exit code.

    Standard input (unless it is a terminal), output and error are passed
    through as they come. The command is run as it stands, without a shell;
    other sites are known by name.

    Examples:

        longhaul exec tokyo -- ping -c 3 ireland

        longhaul exec tokyo.db -- sh -c 'ls -l | wc -l'
    """
    node = open_site(lab, site)
    stdin = None if sys.stdin.isatty() else sys.stdin.buffer
    try:
        return node.remote.stream(command, stdin=stdin, stdout=sys.stdout.buffer, stderr=sys.stderr.buffer)
    finally:
        node.remote.close()
