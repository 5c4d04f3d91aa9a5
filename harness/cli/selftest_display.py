"""What ``longhaul selftest`` shows: a live line while it runs, and one screen at the end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.errors import ExitCode
from harness.model.units import brief_duration
from harness.model.verdict import Verdict
from harness.plan.agreement import Agreement
from harness.plan.quantities import figure
from harness.plan.selftest_grid import GridRow
from harness.selftest.grid import GridRecord
from harness.selftest.guest import Event
from harness.selftest.in_vm import GuestRecord
from harness.selftest.parts import TITLES, PartOutcome

_STYLES = {
    ExitCode.PASSED: "[green]PASS[/green]",
    ExitCode.TEST_FAILED: "[red]FAIL[/red]",
    ExitCode.LAB_BROKE: "[bold red]BROKE[/bold red]",
    ExitCode.INVALID: "[yellow]INVALID[/yellow]",
}
_FAILED = re.compile(r"^FAIL |::.* (FAILED|ERROR) +\[")
"""How Robot's and pytest's lines of a failed test look."""

_MOST_OF_A_LINE = 150


class Display:
    """A live status line with what was found above it, on standard error; results go to standard output."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._status = self._console.status("preparing")
        self._step = ""

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """No more live line."""
        self._status.stop()

    def say(self, step: str) -> None:
        """What is being done."""
        self._step = step
        self._status.update(escape(step))
        if not self._console.is_terminal:
            self._print(escape(step), style="dim")

    def advance(self, share: float) -> None:
        """How much of it all is done, 0 to 1."""
        self._status.update(f"{share:4.0%} {escape(self._step)}")

    def show(self, event: Event) -> None:
        """An event of harness.selftest.inside."""
        match event["event"]:
            case "begin":
                self._status.update(f"{event['part']}: {TITLES[event['part']]}")
            case "line" if event["text"]:
                self._status.update(f"[dim]{event['part']}:[/dim] {escape(event['text'][:_MOST_OF_A_LINE])}")
                if _FAILED.search(event["text"]):
                    self._print(f"{event['part']}: {escape(event['text'])}")
            case "end":
                outcome = PartOutcome.model_validate(event["outcome"])
                tests = f", {outcome.tests} tests" if outcome.tests else ""
                reason = f": {escape(outcome.reason)}" if outcome.reason else ""
                style = _STYLES[outcome.exit_code]
                self._print(f"{style} {outcome.name}{tests}, {outcome.seconds:.0f} s of the guest's clock{reason}")

    def tell_guest(self, record: GuestRecord) -> None:
        """The outcome of a test in a guest."""
        console = Console()
        machine = "KVM" if record.accelerator == "kvm" else "emulated, on a clock of its own"
        console.print(f"namespace placement on Linux {record.kernel} ({machine})", highlight=False)
        table = _table("part", "", "tests", "failed", "skipped", "seconds", "verdict", right=(2, 3, 4, 5))
        for one in record.parts:
            counts = (str(one.tests or "-"), str(one.failures or "-"), str(one.skipped or "-"))
            verdict = f"{_STYLES[one.exit_code]} {escape(one.reason)}".rstrip()
            table.add_row(one.name, TITLES[one.name], *counts, f"{one.seconds:.0f}", verdict)
        console.print(table)
        console.print(f"results  {record.results}", style="dim", highlight=False, soft_wrap=True)

    def tell_agreement(self, topology: str, found: Sequence[Agreement]) -> None:
        """Both placements side by side."""
        console = Console()
        table = _table("link", "quantity", "asked", "micro-VM core, 99%", "namespace core, 99%", "")
        for one in found:
            verdict = "[green]overlap[/green]" if one.overlap else "[green]within tolerance[/green]"
            if not one.agree:
                verdict = f"[bold red]apart by {figure(one.gap, one.unit)}[/bold red]"
            asked = "-" if one.requested is None else figure(one.requested, one.unit)
            spans = [f"{figure(low, one.unit)} to {figure(high, one.unit)}" for low, high in (one.one, one.other)]
            table.add_row(one.link, one.quantity, asked, *spans, verdict)
        console.print(f"[b]{topology}[/b]")
        console.print(table)
        agree, overlap = sum(one.agree for one in found), sum(one.overlap for one in found)
        console.print(f"{agree} of {len(found)} quantities agree, {overlap} of them with overlapping intervals")

    def tell_grid(self, record: GridRecord, results: Path) -> None:
        """The grid's table: what each condition is about, then the largest errors."""
        console = Console()
        table = _table("condition", "quantity", "asked", "measured", "99% interval", "verdict")
        last = ""
        for row in record.rows:
            if row.subject or row.verdict is Verdict.INVALID:
                table.add_row("" if row.condition == last else row.condition, *_cells(row))
                last = row.condition
        console.print(table)
        table = _table(
            "quantity", "conditions", "as asked", "undecided", "largest error", "", "at", right=(1, 2, 3, 4, 5)
        )
        for one in record.summary:
            error = "-" if one.worst_error is None else figure(one.worst_error, one.unit)
            share = "-" if one.worst_share is None else f"{one.worst_share:.2%}"
            counts = str(one.conditions), str(one.passed), str(one.undecided)
            table.add_row(one.quantity, *counts, error, share, one.worst_condition)
        console.print(table)
        took = brief_duration(record.elapsed_s * 1e6)
        console.print(
            f"{record.placement} core, Linux {record.kernel}, {record.core}; in {took}", style="dim", highlight=False
        )
        console.print(f"results  {results}", style="dim", highlight=False, soft_wrap=True)

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, highlight=False, soft_wrap=True)


def _cells(row: GridRow) -> tuple[str, str, str, str, str]:
    asked, measured, low, high = (
        "-" if value is None else figure(value, row.unit) for value in (row.requested, row.measured, row.low, row.high)
    )
    if row.verdict is Verdict.PASS:
        verdict = "[green]as asked[/green]"
    elif row.verdict is None:
        verdict = f"[dim]{escape(row.reason)}[/dim]"
    else:
        verdict = "[bold red]INVALID[/bold red]"
    return row.quantity, asked, measured, f"{low} to {high}", verdict


def _table(*headings: str, right: Sequence[int] = ()) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, header_style="dim", justify="right" if number in right else "left")
    return table
