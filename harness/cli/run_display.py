"""What ``longhaul run`` shows: one line for each test as it ends, and one screen at the end."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.model.run_record import RunRecord, TestRecord

_STYLES = {"PASS": "green", "FAIL": "red", "SKIP": "dim", "INVALID": "yellow"}
_SLOWEST = 3
_MESSAGE_LINES = 10
_NOT_RUN = "Parent suite setup failed:"


class RunDisplay:
    """A live status line with the tests that ended above it. Implements ``Progress``."""

    def __init__(self, console: Console, tests: int) -> None:
        self._console = console
        self._tests = tests
        self._done = 0
        self._told: set[str] = set()
        self._status = console.status("starting")

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def say(self, step: str) -> None:
        """What is being done outside of tests."""
        if not self._console.is_terminal and ":" not in step:
            self._console.print(step, style="dim", highlight=False)
        self._status.update(escape(step))

    def test_began(self, suite: str, name: str) -> None:
        """See Progress."""
        self._status.update(f"[dim]{self._done + 1}/{self._tests}[/dim] {escape(suite)}: {escape(name)}")

    def test_ended(self, record: TestRecord) -> None:
        """See Progress."""
        self._done += 1
        style = _STYLES[record.status]
        wan = "" if not record.wan_changes else f"  [dim]{escape(_wan_in_words(record))}[/dim]"
        self._console.print(
            f"[{style}]{record.status:7}[/{style}] {record.elapsed_s:6.1f} s  "
            f"{escape(record.suite)}: {escape(record.name)}{wan}",
            highlight=False,
            soft_wrap=True,
        )
        if record.status in ("FAIL", "INVALID"):
            self._explain(record.message, style)

    def suite_failed(self, suite: str, message: str) -> None:
        """See Progress."""
        self._console.print(
            f"[red]FAIL[/red]     setup or teardown of {escape(suite)}", highlight=False, soft_wrap=True
        )
        self._explain(message, "red")

    def _explain(self, message: str, style: str) -> None:
        """A message in a few lines, once: a failed setup is the message of every test that it kept from running."""
        cause = message.removeprefix(_NOT_RUN).strip()
        if cause in self._told:
            return
        self._told.add(cause)
        for line in cause.splitlines()[:_MESSAGE_LINES]:
            self._console.print(f"          {escape(line)}", style=style, highlight=False, soft_wrap=True)


def print_summary(console: Console, record: RunRecord, directory: Path) -> None:
    """Verdict, counts, why not, the slowest tests, how fast data went, and where to look."""
    style = _STYLES[record.verdict]
    counts = {status: sum(test.status == status for test in record.tests) for status in _STYLES}
    tests = ", ".join(f"{number} {status.lower()}" for status, number in counts.items() if number) or "no tests ran"
    console.print(f"\n[{style} bold]{record.verdict}[/]  {tests} in {record.elapsed_s:.0f} s", highlight=False)
    for reason in record.reasons[:8]:
        console.print(f"  [{style}]{escape(reason.splitlines()[0])}[/]", highlight=False, soft_wrap=True)
    for finding in () if record.health is None else record.health.findings:
        if finding.severity == "warning":
            console.print(f"  [yellow]{escape(str(finding))}[/yellow]", highlight=False, soft_wrap=True)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    down = "left up" if record.lab_down_s is None else f"down in {record.lab_down_s:.1f} s"
    core = "micro-VM" if record.environment.core_placement == "vm" else "namespace"
    grid.add_row(
        "lab",
        f"{record.topology.name}, {len(record.topology.sites)} sites, WAN core in a {core} "
        f"(Linux {record.environment.core_kernel}), up in {record.lab_up_s:.1f} s, {down}",
    )
    for name, value in _speeds(record):
        grid.add_row(name, value)
    for test in sorted(record.tests, key=lambda test: -test.elapsed_s)[:_SLOWEST]:
        grid.add_row("slowest", f"{test.elapsed_s:.1f} s  {escape(test.suite)}: {escape(test.name)}")
    grid.add_row("seed", f"{record.environment.seed}  (longhaul run --seed {record.environment.seed} replays it)")
    grid.add_row("report", escape(str(directory / "index.html")))
    console.print(grid, highlight=False, soft_wrap=True)


def _speeds(record: RunRecord) -> list[tuple[str, str]]:
    rows = []
    for test in record.tests:
        found = test.measurements
        if "tree files/s" in found:
            speed = f"{found['tree files']} files at {found['tree files/s']} files/s until the last site had all"
            rows.append(("real tree", speed))
        if "file goodput Mbit/s" in found and "real-data" in test.tags:
            size = float(found["file bytes"]) / 1e6
            rows.append(("large file", f"{size:.0f} MB at {found['file goodput Mbit/s']} Mbit/s to each site"))
    return rows


def _wan_in_words(record: TestRecord) -> str:
    """The reasons of the WAN's changes in the test, each once, without the final restoring."""
    reasons = dict.fromkeys(
        change.reason for change in record.wan_changes if not change.reason.startswith(("restored", "end of"))
    )
    return ", ".join(reasons)
