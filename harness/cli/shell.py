"""``longhaul shell``: an interactive session at a site."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from harness.cli import complete
from harness.cli.lab_choice import LabOption, open_site


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("shell")(shell)


def shell(
    site: Annotated[
        str, typer.Argument(help="A site, or one of its nodes as SITE.NODE.", autocompletion=complete.nodes)
    ],
    lab: LabOption = None,
) -> int:
    """Open a shell at a site, in its data directory.

    It goes over SSH with the lab's own key. Other sites are known by name, and
    the WAN is the only way to them. Leave with `exit` or Ctrl-D.

    Examples:

        longhaul shell tokyo

        longhaul shell tokyo --lab desk
    """
    from harness.errors import NodeError

    command = open_site(lab, site).remote.ssh_command()
    try:
        os.execvp(command[0], command)
    except FileNotFoundError as error:
        raise NodeError("this machine has no ssh", hint="apt-get install openssh-client") from error
