"""What a benchmark shows while it runs and when it has ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from harness.model.bench import BenchRecord, Trial, TrialResult
from harness.model.units import brief_rate
from harness.plan.bench_grid import expected_seconds
from harness.report.bench_tables import bench_tables


def tell_trials(trials: Sequence[Trial], *, whole: bool, as_json: bool) -> None:
    """How many there are and how long they take; ``whole``: each of them on standard output."""
    seconds = expected_seconds(trials)
    cells = {(trial.cell.key, trial.workload.kind) for trial in trials}
    if as_json:
        keys = [trial.key for trial in trials]
        print(json.dumps({"cells": len(cells), "trials": keys, "expected_s": round(seconds)}, indent=2))
        return
    if whole:
        for trial in trials:
            print(trial.key)
    text = f"{_count(len(cells), 'cell')}, {_count(len(trials), 'trial')}, about {brief_minutes(seconds)}"
    Console(stderr=not whole).print(text, highlight=False)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def brief_minutes(seconds: float) -> str:
    """Whole minutes, or hours and minutes."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


class BenchDisplay:
    """Progress on standard error: a bar on a terminal, else one line for each trial."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._total = len(trials)
        self._task = self._progress.add_task("", total=len(trials))
        self._trial_keys = [trial.key for trial in trials]
        self._began_s = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """What is being done."""
        if text in self._trial_keys:
            self._progress.update(self._task, completed=self._trial_keys.index(text))
        self._progress.update(self._task, description=text)

    def show(self, result: TrialResult) -> None:
        """One trial has ended."""
        self._progress.update(self._task, advance=1)
        for flow in result.flows:
            figure = "-" if flow.goodput_bps is None else brief_rate(flow.goodput_bps)
            share = "" if flow.share is None else f", {flow.share:.1%} of the rate"
            files = "" if flow.files_per_s is None else f", {flow.files_per_s:,.0f} files/s"
            wrong = f"  [{flow.problem}]" if flow.problem else ""
            text = (
                f"{result.trial.cell.key}  {result.trial.workload.kind:6} {flow.peer:12} {figure}{share}{files}{wrong}"
            )
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        if result.problem:
            self._console.print(f"{result.trial.key}: {result.problem}", highlight=False, markup=False, soft_wrap=True)


def _by_cell(rows: Sequence[Sequence[str]]) -> Iterator[tuple[str, list[Sequence[str]]]]:
    """Rows below the name of their cell, which the first of them bears; the further flows of a line-up have none."""
    groups: dict[str, list[Sequence[str]]] = {}
    cell = ""
    for row in rows:
        cell = row[0] or cell
        groups.setdefault(cell, []).append(row)
    yield from groups.items()


def tell_record(record: BenchRecord, page: Path, *, interrupted: bool = False) -> None:
    """The tables, and where the report is; of an interrupted run only how to go on."""
    console = Console(stderr=interrupted)
    if interrupted:
        console.print(
            f"Interrupted after {_count(len(record.results), 'trial')}; --resume {page} goes on.",
            highlight=False,
            soft_wrap=True,
        )
        return
    for title, head, rows in bench_tables(record):
        console.print(f"[bold]{title}[/bold]")
        widths = [max(len(row[place]) for row in [list(head), *rows]) for place in range(len(head))]
        for cell, of_cell in _by_cell(rows):
            console.print(cell, style="bold dim", highlight=False)
            table = Table(box=None, padding=(0, 1, 0, 0))
            # The last column is a note, which would squeeze all others: it stands below.
            for place, name in enumerate(head[1:-1], 1):
                justify: Literal["left", "right"] = "left" if place == 1 else "right"
                table.add_column(name, header_style="dim", justify=justify, min_width=widths[place], no_wrap=True)
            for row in of_cell:
                table.add_row(*row[1:-1])
            console.print(table)
            for row in of_cell:
                if row[-1]:
                    console.print(f"  {row[1]}: {row[-1]}", style="dim", highlight=False, markup=False)
        console.print()
    if record.ceiling is not None:
        console.print(
            f"The core carries {record.ceiling.packets_per_s / 1000:.1f} thousand packets/s one way "
            f"({brief_rate(record.ceiling.bits_per_s)}); {record.host}; {record.core}",
            style="dim",
            highlight=False,
        )
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)
