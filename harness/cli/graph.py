"""``longhaul graph``: draw a topology."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import complete
from harness.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("graph")(graph)


def graph(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A topology file, or the name of a shipped one.", autocompletion=complete.topologies
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="SVG", help="Where to write it; standard output if left out."),
    ] = None,
) -> int:
    """Draw a topology as SVG: its sites, and its links with RTT, loss and rate.

    Examples:

        longhaul graph topologies/four-sites-mobile.yaml -o mobile.svg

        longhaul graph four-sites > four-sites.svg
    """
    from harness.cli.output import writing
    from harness.config.shipped import find_topology
    from harness.config.topology_file import load_topology
    from harness.report.picture import draw

    svg = draw(load_topology(find_topology(file)))
    if output is None:
        print(svg, end="")
        return ExitCode.PASSED
    with writing(output):
        output.write_text(svg, encoding="utf-8")
    typer.echo(f"wrote {output}", err=True)
    return ExitCode.PASSED
