"""A benchmark's results as tables, for a terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.model.bench import BenchRecord
from harness.plan.bench_figures import Line, Spread, lines
from harness.plan.bench_grid import goal_of

Table = tuple[str, Sequence[str], list[list[str]]]

BUSY_SHARE = 0.95
"""Of all processors: from there on it may have been the machine that was the limit."""

OURS = {"transport": "longhaul", "sync": "syncer"}
_ALONE = ("cell", "peer", "n", "Mbit/s", "spread", "share", "goal", "added ms", "lost", "CPU s/Gbit", "note")
_PAIRS = ("cell", "peer", "n", "Mbit/s", "spread", "share", "Jain", "added ms", "note")
_SMALL = ("cell", "peer", "n", "files/s", "spread", "first after s", "all after s", "CPU s/Gbit", "note")


def bench_tables(record: BenchRecord) -> tuple[Table, ...]:
    """Title, head and rows of each table that has any."""
    found = lines(record.results)
    goals = {one.trial.cell.key: goal_of(one.trial.cell) for one in record.results}
    alone = [line for line in found if len(line.peers) == 1 and line.workload != "small"]
    pairs = [line for line in found if len(line.peers) > 1]
    small = [line for line in found if line.workload == "small"]
    title = (
        "Goodput after the first 3 s" if record.kind == "transport" else "One large file: goodput after the first 3 s"
    )
    tables: list[Table] = [
        (title, _ALONE, [_alone_row(line, OURS[record.kind], goals) for line in alone]),
        ("Two at once", _PAIRS, [_pair_row(line) for line in pairs]),
        ("Many small files", _SMALL, [_small_row(line) for line in small]),
    ]
    return tuple(table for table in tables if table[2])


def _alone_row(line: Line, ours: str, goals: Mapping[str, float | None]) -> list[str]:
    goal = goals[line.cell] if line.peer == ours else None
    reached = "" if goal is None else f"{goal:.2f} " + _verdict(line.share, goal)
    return [
        line.cell,
        line.peer,
        str(line.repeats),
        _rate(line.goodput_bps),
        _rates(line.goodput_bps),
        _share(line.share),
        reached,
        _delays(line.added_p50_ms, line.added_p95_ms),
        "-" if line.loss is None else f"{line.loss.median:.2%}",
        _cpu(line),
        _note(line),
    ]


def _pair_row(line: Line) -> list[str]:
    return [
        line.cell if line.place == 0 else "",
        line.peer,
        str(line.repeats),
        _rate(line.goodput_bps),
        _rates(line.goodput_bps),
        _share(line.share),
        "" if line.place or line.jain is None else f"{line.jain.median:.3f}",
        _delays(line.added_p50_ms, line.added_p95_ms) if line.place == 0 else "",
        _note(line) if line.place == 0 else line.note,
    ]


def _small_row(line: Line) -> list[str]:
    files = line.files_per_s
    return [
        line.cell,
        line.peer,
        str(line.repeats),
        "-" if files is None else f"{files.median:,.0f}",
        "-" if files is None or files.count < 2 else f"{files.low:,.0f} to {files.high:,.0f}",
        "-" if line.set_up_s is None else f"{line.set_up_s.median:.1f}",
        "-" if line.all_after_s is None else f"{line.all_after_s.median:.1f}",
        _cpu(line),
        _note(line),
    ]


def _note(line: Line) -> str:
    """What is wrong; what else the link carried; whether this machine had nothing left to give."""
    notes = [line.note] if line.note else []
    if line.traffic_bps is not None:
        notes.append(f"beside {line.traffic_bps.median / 1e6:.1f} Mbit/s of cross traffic")
    if line.busy_share is not None and line.busy_share.median >= BUSY_SHARE:
        notes.append(f"machine {line.busy_share.median:.0%} busy")
    return "; ".join(notes)


def _verdict(share: Spread | None, goal: float) -> str:
    return "not measured" if share is None else "reached" if share.median >= goal else "missed"


def _rate(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.median / 1e6:.1f}"


def _rates(spread: Spread | None) -> str:
    if spread is None or spread.count < 2:
        return "-"
    return f"{spread.low / 1e6:.1f} to {spread.high / 1e6:.1f}"


def _share(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.median:.3f}"


def _delays(middle: Spread | None, high: Spread | None) -> str:
    return "-" if middle is None or high is None else f"{round(middle.median)} / {round(high.median)}"


def _cpu(line: Line) -> str:
    source, destination = line.source_cpu_s_per_gbit, line.destination_cpu_s_per_gbit
    if source is None or destination is None:
        return "-"
    return f"{source.median:.2f} / {destination.median:.2f}"
