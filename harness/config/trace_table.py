"""The table of a trace: named columns and rows of text to courses, with every mistake at its line.

A column is ``[down_|up_]QUANTITY_UNIT``; one without a direction holds for both. There is exactly one column of time.

    time_s time_ms time_us      when the row's values begin; ascending
    rate_bps ..kbps ..mbps ..gbps   bottleneck rate, counted in IP bytes; 0: packets wait in the buffer
    delay_s ..ms ..us           one-way delay
    jitter_s ..ms ..us          variation of the delay
    loss_pct or loss_share      each packet's chance to be lost: 0 to 100, or 0 to 1
    blocked                     1: every packet is lost; 0: not

An empty cell means: as in the row before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from harness.config.fields import LARGEST_RATE_BPS, LONGEST_DELAY_US, LONGEST_SCHEDULE_US
from harness.config.problems import DocumentError, Problem, did_you_mean
from harness.model.trace import MOST_POINTS, SLOWEST_BPS, Course
from harness.model.units import quote

MOST_PROBLEMS = 20

_UNITS: dict[str, dict[str, float]] = {
    "time": {"s": 1e6, "ms": 1e3, "us": 1.0},
    "rate": {"bps": 1.0, "kbps": 1e3, "mbps": 1e6, "gbps": 1e9},
    "delay": {"s": 1e6, "ms": 1e3, "us": 1.0},
    "jitter": {"s": 1e6, "ms": 1e3, "us": 1.0},
    "loss": {"pct": 0.01, "share": 1.0},
    "blocked": {"": 1.0},
}
_MOST = {
    "time": float(LONGEST_SCHEDULE_US),
    "rate": float(LARGEST_RATE_BPS),
    "delay": float(LONGEST_DELAY_US),
    "jitter": float(LONGEST_DELAY_US),
    "loss": 1.0,
    "blocked": 1.0,
}
_FIELD = {"rate": "rate_bps", "delay": "delay_us", "jitter": "jitter_us", "loss": "loss", "blocked": "blocked"}
_COLUMN = re.compile(r"(?:(down|up)_)?(time|rate|delay|jitter|loss|blocked)(?:_([a-z]+))?")
COLUMN_NAMES = tuple(f"{quantity}_{unit}".rstrip("_") for quantity, units in _UNITS.items() for unit in units)
ACCEPTED = (
    "time_ms (or _s, _us), rate_kbps (_bps, _mbps, _gbps), delay_ms, jitter_ms (_s, _us), loss_pct (_share), blocked; "
    "down_ or up_ before it for one direction"
)


class Column(NamedTuple):
    """One column. ``directions`` that it holds for; ``scale`` from its unit to the model's."""

    name: str
    quantity: str
    directions: tuple[str, ...]
    scale: float


class Row(NamedTuple):
    """One row, and the line of the file where it stands."""

    line: int
    cells: Sequence[str]


class Table(NamedTuple):
    """Courses by direction, as far as the columns name any; times begin where the table's do."""

    down: Course
    up: Course | None
    last_step_us: int
    """Typical time between two rows, for a table that does not say when its last row ends; 0 for a single row."""


def read_table(
    file: str,
    header: Row,
    rows: Iterable[Row],
    *,
    from_zero: bool,
    buffers: tuple[int | None, int | None] = (None, None),
) -> Table:
    """Courses that change nothing between their points. ``from_zero``: the first row's time counts as 0.

    ``buffers``: of down and up. Raises DocumentError with at most MOST_PROBLEMS problems, each with its line.
    """
    columns, problems = _columns(file, header)
    if problems:
        raise DocumentError(problems)
    values: list[list[float]] = [[] for _ in columns]
    place_of_time = next(place for place, column in enumerate(columns) if column.quantity == "time")
    times = values[place_of_time]
    for row in rows:
        if len(problems) >= MOST_PROBLEMS:
            break
        if len(row.cells) != len(columns):
            problems.append(_problem(file, row.line, f"{len(row.cells)} values, but {len(columns)} columns"))
            continue
        if len(times) >= MOST_POINTS:
            problems.append(_problem(file, row.line, f"more than {MOST_POINTS:,} rows; split the trace"))
            break
        read = [
            _value(file, row.line, column, cell, done[-1] if done else None)
            for column, cell, done in zip(columns, row.cells, values, strict=True)
        ]
        wrong = [value for value in read if isinstance(value, Problem)]
        problems += wrong
        if wrong:
            continue
        found = [value for value in read if isinstance(value, float)]
        if times and found[place_of_time] <= times[-1]:
            problems.append(_problem(file, row.line, "the time is not after that of the row before"))
            continue
        for done, value in zip(values, found, strict=True):
            done.append(value)
    if not problems and not times:
        problems.append(_problem(file, header.line, "there is no row of values below the columns' names"))
    if not problems and times[0] != 0 and not from_zero:
        problems.append(_problem(file, header.line + 1, "the first row's time must be 0"))
    if problems:
        raise DocumentError(problems)
    begin = times[0]
    at_us = tuple(round(time - begin) for time in times)
    down = _course(columns, values, at_us, "down", buffers[0])
    up = _course(columns, values, at_us, "up", buffers[1])
    assert down is not None
    steps = sorted(later - at for at, later in pairwise(at_us))
    return Table(down=down, up=up, last_step_us=steps[len(steps) // 2] if steps else 0)


def _columns(file: str, header: Row) -> tuple[list[Column], list[Problem]]:
    problems: list[Problem] = []
    columns: list[Column] = []
    for name in (cell.strip() for cell in header.cells):
        match = _COLUMN.fullmatch(name.lower())
        unit = (match.group(3) or "") if match else ""
        if match is None or (match.group(1) and match.group(2) == "time"):
            close = did_you_mean(name, COLUMN_NAMES)
            problems.append(_problem(file, header.line, f"unknown column {quote(name)}; accepted: {ACCEPTED}{close}"))
            continue
        direction, quantity = match.group(1), match.group(2)
        units = _UNITS[quantity]
        if unit not in units:
            known = ", ".join(f"{quantity}_{one}".rstrip("_") for one in units)
            what = f"has the unknown unit {quote(unit)}" if unit else "names no unit"
            problems.append(_problem(file, header.line, f"the column {quote(name)} {what}; accepted: {known}"))
            continue
        directions = (direction,) if direction else ("down", "up")
        columns.append(Column(name, quantity, directions, units[unit]))
    problems += _mismatched(file, header, columns)
    return columns, problems[:MOST_PROBLEMS]


def _mismatched(file: str, header: Row, columns: Sequence[Column]) -> list[Problem]:
    messages = []
    times = [column.name for column in columns if column.quantity == "time"]
    if len(times) != 1:
        found = "none" if not times else ", ".join(times)
        messages.append(f"there must be one column of time (time_s, time_ms or time_us), found {found}")
    seen: dict[tuple[str, str], str] = {}
    for column in (column for column in columns if column.quantity != "time"):
        for direction in column.directions:
            if (column.quantity, direction) in seen:
                other = seen[column.quantity, direction]
                messages.append(f"the columns {other} and {column.name} both say the {column.quantity} of {direction}")
            seen[column.quantity, direction] = column.name
    said = {direction for _, direction in seen}
    if not said:
        messages.append(f"there is no column beside the time; accepted: {ACCEPTED}")
    elif "down" not in said:
        messages.append("there are columns for up alone; name them without a direction, or add those for down")
    return [_problem(file, header.line, message) for message in dict.fromkeys(messages)]


def _value(file: str, line: int, column: Column, cell: str, before: float | None) -> float | Problem:
    text = cell.strip()
    if not text:
        if before is None or column.quantity == "time":
            return _problem(file, line, f"{column.name} has no value")
        return before
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in text:
        return _problem(file, line, f"{column.name}: expected a number, found {quote(text)}")
    scaled = number * column.scale
    if column.quantity == "blocked" and scaled not in (0.0, 1.0):
        return _problem(file, line, f"{column.name}: {quote(text)} is not accepted; accepted: 0, 1")
    most = _MOST[column.quantity]
    # Logs count their time from anywhere, so only what is left after the first row's is bounded, by their order.
    if scaled < 0 or (scaled > most and column.quantity != "time"):
        accepted = f"accepted: 0 to {most / column.scale:g}"
        return _problem(file, line, f"{column.name}: {quote(text)} is out of range; {accepted}")
    if column.quantity == "loss":
        # By way of decimals, so that 0.7% is the number that 0.007 is.
        return float(Decimal(text) * Decimal(str(column.scale)))
    return float(max(SLOWEST_BPS, round(scaled)) if column.quantity == "rate" else round(scaled))


def _course(
    columns: Sequence[Column],
    values: Sequence[Sequence[float]],
    at_us: tuple[int, ...],
    direction: str,
    buffer: int | None,
) -> Course | None:
    """One direction; None for ``up`` when no column is its alone."""
    if direction == "up" and all(column.directions != ("up",) for column in columns):
        return None
    made: dict[str, object] = {}
    for column, numbers in zip(columns, values, strict=True):
        if column.quantity == "time" or direction not in column.directions:
            continue
        match column.quantity:
            case "loss":
                made["loss"] = tuple(numbers)
            case "blocked":
                made["blocked"] = tuple(number != 0 for number in numbers)
            case quantity:
                made[_FIELD[quantity]] = tuple(int(number) for number in numbers)
    if not made:
        return None
    return Course.model_validate({"at_us": at_us, "buffer_bytes": buffer, **made}).compacted()


def _problem(file: str, line: int, message: str) -> Problem:
    return Problem(file=file, line=line, column=1, message=message)
