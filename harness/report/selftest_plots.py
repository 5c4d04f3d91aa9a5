"""Plots of a machine's accuracy: what was measured over the grid of conditions against what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.model.measurement import QuantityName
from harness.plan.selftest_grid import GridRow
from harness.report.plots import Mark, Points, scatter

_GOALS = {"rtt": 0.5, "rate": 1.5, "buffer": 10.0}
"""What is aimed at: RTT in milliseconds, rate and buffer in percent."""


def draw_grid(table: Sequence[GridRow], directory: Path, note: str) -> tuple[Path, ...]:
    """A picture for each kind of quantity that the table holds, as PNG and SVG in ``directory``."""
    return (
        *_rtt(_of(table, "rtt"), directory, note),
        *_shares(table, directory, note),
        *_relative(_of(table, "rate"), directory, "rate", "rate asked, Mbit/s", 1e6, note),
        *_relative(_of(table, "buffer"), directory, "buffer", "buffer asked, kB", 1e3, note),
        *_bursts(_of(table, "burst"), directory, note),
    )


def _of(table: Sequence[GridRow], quantity: QuantityName) -> list[GridRow]:
    return [row for row in table if row.quantity == quantity and row.subject and row.error is not None]


def _rtt(found: Sequence[GridRow], directory: Path, note: str) -> tuple[Path, ...]:
    if not found:
        return ()
    groups = {group: [row for row in found if row.group == group] for group in dict.fromkeys(r.group for r in found)}
    return scatter(
        directory / "rtt",
        "Error of the RTT",
        [_points(f"{group} conditions", rows, 1e3) for group, rows in groups.items()],
        x_label="RTT asked, ms",
        y_label="measured minus asked, ms",
        marks=[Mark("0.5 ms", y=_GOALS["rtt"]), Mark("-0.5 ms", y=-_GOALS["rtt"])],
        note=note,
    )


def _shares(table: Sequence[GridRow], directory: Path, note: str) -> tuple[Path, ...]:
    """Loss, duplicates and so on, on one picture: asked and measured are shares of all packets."""
    names: tuple[QuantityName, ...] = ("loss", "reordering", "duplication", "corruption")
    groups = []
    for name in names:
        # A logarithmic axis has no place for a share of zero.
        found = [row for row in _of(table, name) if row.requested and row.measured]
        if found:
            groups.append(
                Points(
                    name,
                    [100 * (row.requested or 0) for row in found],
                    [100 * (row.measured or 0) for row in found],
                    [100 * (row.low or 0) for row in found],
                    [100 * (row.high or 0) for row in found],
                )
            )
    if not groups:
        return ()
    return scatter(
        directory / "shares",
        "Shares of packets, with 99% intervals",
        groups,
        x_label="asked, %",
        y_label="measured, %",
        diagonal=True,
        log_x=True,
        log_y=True,
        note=note,
    )


def _relative(
    found: Sequence[GridRow], directory: Path, name: str, x_label: str, unit: float, note: str
) -> tuple[Path, ...]:
    if not found:
        return ()

    def percent(row: GridRow, value: float | None) -> float:
        asked = row.requested or 1.0
        return 100 * ((asked if value is None else value) - asked) / asked

    points = Points(
        "",
        [(row.requested or 0) / unit for row in found],
        [percent(row, row.measured) for row in found],
        [percent(row, row.low) for row in found],
        [percent(row, row.high) for row in found],
    )
    goal = _GOALS[name]
    return scatter(
        directory / name,
        f"Error of the {name}",
        [points],
        x_label=x_label,
        y_label="measured against asked, %",
        log_x=True,
        marks=[Mark(f"{goal:g}%", y=goal), Mark(f"-{goal:g}%", y=-goal)],
        note=note,
    )


def _bursts(found: Sequence[GridRow], directory: Path, note: str) -> tuple[Path, ...]:
    if not found:
        return ()
    points = Points(
        "",
        [row.requested or 0 for row in found],
        [row.measured or 0 for row in found],
        [row.low or 0 for row in found],
        [row.high or 0 for row in found],
    )
    return scatter(
        directory / "bursts",
        "Packets lost in a row, with 99% intervals",
        [points],
        x_label="mean asked, packets",
        y_label="mean measured, packets",
        diagonal=True,
        note=note,
    )


def _points(label: str, found: Sequence[GridRow], unit: float) -> Points:
    return Points(
        label,
        [(row.requested or 0) / unit for row in found],
        [(row.error or 0) / unit for row in found],
        [((row.error or 0) if row.low is None else row.low - (row.requested or 0)) / unit for row in found],
        [((row.error or 0) if row.high is None else row.high - (row.requested or 0)) / unit for row in found],
    )
