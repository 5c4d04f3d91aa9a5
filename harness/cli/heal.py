"""``longhaul heal``: everything undone, and verified."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from harness.cli.lab_choice import JsonOption, LabOption, open_lab

if TYPE_CHECKING:
    from harness.lab.fault_desk import Healed


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("heal")(heal)


def heal(lab: LabOption = None, as_json: JsonOption = False) -> int:
    """Undo every fault of a lab, put every link back to the topology, and verify it in the kernel.

    It also finishes what a process that was killed has left behind. Exit code 3 when something is not undone; what it
    is stands in the table.

    Examples:

        longhaul heal

        longhaul heal --json | jq '.healed[] | select(.problem)'
    """
    from harness.lab.fault_desk import FaultDesk

    opened = open_lab(lab)
    try:
        healed = FaultDesk(opened, origin="command").heal_everything()
    finally:
        opened.close()
    return tell(opened.lab_id, healed, as_json)


def tell(lab_id: str, healed: Sequence[Healed], as_json: bool) -> int:
    """Print what became of faults; the exit code."""
    from rich.console import Console
    from rich.table import Table

    from harness.errors import ExitCode

    left = any(one.problem is not None for one in healed)
    if as_json:
        rows = [one.model_dump() for one in healed]
        print(json.dumps({"lab": lab_id, "whole": not left, "healed": rows}, indent=2))
    else:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("id", "fault", "of", "now"):
            table.add_column(heading, header_style="dim")
        for one in healed:
            now = "[green]undone, verified[/green]" if one.problem is None else f"[bold red]{one.problem}[/bold red]"
            table.add_row(one.id, one.what, one.subject, now)
        Console().print(table)
    return ExitCode.LAB_BROKE if left else ExitCode.PASSED
