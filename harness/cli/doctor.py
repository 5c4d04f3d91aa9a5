"""``longhaul doctor``: what this machine has and lacks."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.errors import ExitCode

MARKS = {"ok": "[green]ok[/green]", "limit": "[yellow]limit[/yellow]", "lack": "[bold red]lack[/bold red]"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON on standard output.")] = False,
) -> int:
    """Say what this machine has and lacks for building labs, what each lack costs, and how to mend it.

    Exit code 3 when a lab cannot be built here. Changes nothing.

    Examples:

        longhaul doctor

        longhaul doctor --json | jq '.findings[] | select(.state != "ok")'
    """
    from harness.lab.machine import examine

    findings = examine()
    able = all(finding.state != "lack" for finding in findings)
    if as_json:
        print(json.dumps({"able": able, "findings": [finding.model_dump() for finding in findings]}, indent=2))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for finding in findings:
            lines = [finding.found]
            if finding.cost:
                lines.append(f"[dim]costs:[/dim] {finding.cost}")
            if finding.remedy:
                lines.append(f"[dim]mend: [/dim] {finding.remedy}")
            table.add_row(MARKS[finding.state], f"[b]{finding.subject}[/b]", "\n".join(lines))
        console = Console()
        console.print(table)
        console.print(
            "\nThis machine can build labs." if able else "\n[bold red]This machine cannot build labs.[/bold red]"
        )
    return ExitCode.PASSED if able else ExitCode.LAB_BROKE
