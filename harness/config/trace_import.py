"""Traces in the forms of others: Mahimahi's, CSV and JSON. Text in, Trace out; problems carry their line.

**Mahimahi** (``mm-link(1)``): each line is the millisecond at which one packet of 1,500 bytes may leave; the time of
the last line is the period, after which the file begins again. A rate is made of it in windows (50 ms unless stated):
the packets of a window over its length. Windows without any packet, together, let through the one packet that comes
next, which is then taken off the window that it came in. So the amount is kept exactly, a gap stays as long as it was
(packets wait in the buffer, as they do in Mahimahi), and what a window blurs is below its length. Two files become
``down`` and ``up``; the shorter one repeats until the longer one ends, as it does in Mahimahi.

**CSV**: a row of column names as in ``trace_table``, then rows of values, separated by commas, semicolons or tabs;
lines that begin with # are comments. Time counts from the first row; the last row lasts as long as a typical one.

**JSON**: a list of objects with those names as keys, or an object with such a list as ``points``, or two as ``down``
and ``up``. ``name``, ``title``, ``description``, ``source`` and ``duration_s`` may stand beside them.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from harness.config.fields import LARGEST_RATE_BPS
from harness.config.problems import DocumentError, Problem
from harness.config.trace_table import MOST_PROBLEMS, Row, Table, read_table
from harness.model.trace import MOST_POINTS, SLOWEST_BPS, Course, Trace
from harness.model.units import quote

Form = Literal["native", "mahimahi", "csv", "json"]

DEFAULT_WINDOW_MS = 50
PACKET_BITS = 1_500 * 8
_NAME = re.compile(r"[^a-z0-9]+")


def looks_like(text: str) -> Form:
    """Which form a text is in, by its first lines."""
    head = text.lstrip()[:1]
    if head in {"{", "["}:
        return "json"
    first = next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    if first.isascii() and first.isdigit():
        return "mahimahi"
    if "time" in first.lower() and re.search(r"[,;\t]", first):
        return "csv"
    return "native"


def import_mahimahi(
    down: str, file: str, *, name: str, up: tuple[str, str] | None = None, window_ms: int = DEFAULT_WINDOW_MS
) -> Trace:
    """From the text of the downlink's file; ``up`` is the uplink's text and file. One file: the same both ways.

    Raises DocumentError.
    """
    towards = _opportunities(down, file)
    back = None if up is None else _opportunities(*up)
    period_ms = max(towards[-1], back[-1] if back else 0)
    return Trace(
        name=plain_name(name),
        source_note=f"imported from Mahimahi's form: {file}" + (f" and {up[1]}" if up else ""),
        duration_us=period_ms * 1000,
        down=_course(towards, period_ms, window_ms),
        up=None if back is None else _course(back, period_ms, window_ms),
    )


def import_csv(text: str, file: str, *, name: str) -> Trace:
    """From a table with a row of names. Raises DocumentError."""
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise DocumentError([file_problem(file, 1, "the file is empty")])
    delimiter = max(",;\t", key=lines[0][1].count)
    parsed = csv.reader((line for _, line in lines), delimiter=delimiter)
    rows = [Row(number, cells) for (number, _), cells in zip(lines, parsed, strict=True)]
    table = read_table(file, rows[0], rows[1:], from_zero=True)
    return _trace(file, {"name": name}, table)


def import_json(text: str, file: str, *, name: str) -> Trace:
    """From a list of points, or an object with one or two. Raises DocumentError."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise DocumentError(
            [Problem(file=file, line=error.lineno, column=error.colno, message=f"not valid JSON: {error.msg}")]
        ) from None
    except RecursionError:
        raise DocumentError([file_problem(file, 1, "the file is nested too deeply")]) from None
    if isinstance(document, list):
        document = {"points": document}
    known = {"points", "down", "up", "name", "title", "description", "source", "duration_s"}
    if not isinstance(document, dict) or not {"points", "down"} & set(document):
        message = "expected a list of points, or an object with points, or with down and up"
        raise DocumentError([file_problem(file, 1, message)])
    unknown = sorted(set(document) - known)
    if unknown:
        message = f"unknown key {quote(unknown[0])}; accepted: {', '.join(sorted(known))}"
        raise DocumentError([file_problem(file, _line_of(text, unknown[0]), message)])
    if "points" in document:
        if {"down", "up"} & set(document):
            raise DocumentError([file_problem(file, _line_of(text, "points"), "points excludes down and up")])
        return _trace(file, {"name": name, **document}, _objects(text, file, "points", document["points"]))
    down = _objects(text, file, "down", document["down"])
    if "up" not in document:
        return _trace(file, {"name": name, **document}, down)
    up = _objects(text, file, "up", document["up"])
    both = Table(down=down.down, up=up.down, last_step_us=max(down.last_step_us, up.last_step_us))
    return _trace(file, {"name": name, **document}, both)


def file_problem(file: str, line: int | None, message: str) -> Problem:
    """A mistake of a whole line, or of the whole file."""
    return Problem(file=file, line=line, column=None if line is None else 1, message=message)


def plain_name(text: str) -> str:
    """A name as traces have it, from a file's: ``TMobile-LTE.down`` to ``tmobile-lte-down``."""
    return _NAME.sub("-", text.lower()).strip("-")[:64].strip("-") or "trace"


def _opportunities(text: str, file: str) -> list[int]:
    """Milliseconds, ascending, the last one above 0."""
    problems: list[Problem] = []
    times: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if len(problems) >= MOST_PROBLEMS:
            break
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if not (stripped.isascii() and stripped.isdigit()) or len(stripped) > 10:
            message = f"expected a whole number of milliseconds, found {quote(stripped)}"
            problems.append(file_problem(file, number, message))
        elif times and int(stripped) < times[-1]:
            problems.append(file_problem(file, number, f"{stripped} is before the line above; times must not descend"))
        else:
            times.append(int(stripped))
    if not problems and (not times or times[-1] == 0):
        message = "the last line is the period of the trace, so it must be above 0"
        problems.append(file_problem(file, max(1, len(text.splitlines())), message))
    if problems:
        raise DocumentError(problems)
    return times


def _course(times: Sequence[int], period_ms: int, window_ms: int) -> Course:
    if not 1 <= window_ms <= 10_000:
        raise ValueError("a window has 1 to 10,000 ms")
    windows = min(-(-period_ms // window_ms), MOST_POINTS)
    counts = [0] * windows
    for at_ms in _repeated(times, period_ms):
        counts[min(max(at_ms - 1, 0) // window_ms, windows - 1)] += 1
    at_us: list[int] = []
    rates: list[int] = []
    place = 0
    while place < windows:
        if counts[place]:
            length_ms = min(window_ms, period_ms - place * window_ms)
            _add(at_us, rates, place * window_ms, counts[place] * PACKET_BITS * 1000 / length_ms)
            place += 1
            continue
        begin = place
        while place < windows and not counts[place]:
            place += 1
        if place == windows:
            _add(at_us, rates, begin * window_ms, 0)
        elif counts[place] == 1:
            # The packet that ends the gap is alone in its window: one rate for both.
            end_ms = min((place + 1) * window_ms, period_ms)
            _add(at_us, rates, begin * window_ms, PACKET_BITS * 1000 / (end_ms - begin * window_ms))
            place += 1
        else:
            counts[place] -= 1
            _add(at_us, rates, begin * window_ms, PACKET_BITS * 1000 / ((place - begin) * window_ms))
    return Course(at_us=tuple(at_us), rate_bps=tuple(rates)).compacted()


def _repeated(times: Sequence[int], until_ms: int) -> Iterator[int]:
    begin_ms = 0
    while begin_ms < until_ms:
        for at_ms in times:
            if begin_ms + at_ms > until_ms:
                return
            yield begin_ms + at_ms
        begin_ms += times[-1]


def _add(at_us: list[int], rates: list[int], at_ms: int, rate_bps: float) -> None:
    at_us.append(at_ms * 1000)
    rates.append(min(max(round(rate_bps), SLOWEST_BPS), LARGEST_RATE_BPS))


def _objects(text: str, file: str, key: str, points: object) -> Table:
    """A table from a list of objects; the keys of the first one are the columns."""
    if not isinstance(points, list) or not points or not all(isinstance(point, dict) for point in points):
        message = f'{key}: expected a list of objects such as {{"time_s": 0, "rate_mbps": 12}}'
        raise DocumentError([file_problem(file, _line_of(text, key), message)])
    lines = _element_lines(text, None if text.lstrip().startswith("[") else key)
    names = list(points[0])
    problems = []
    rows = []
    for line, point in zip(lines, points, strict=True):
        strange = sorted(set(point) - set(names))
        if strange:
            problems.append(file_problem(file, line, f"the first point has no {quote(strange[0])}"))
        rows.append(Row(line, [_cell(point.get(name)) for name in names]))
    if problems:
        raise DocumentError(problems[:MOST_PROBLEMS])
    return read_table(file, Row(lines[0], names), rows, from_zero=True)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _line_of(text: str, key: str) -> int:
    """The line of a top-level key; 1 when there is none."""
    place = _places(text).get(key)
    return 1 if place is None else text.count("\n", 0, place) + 1


def _element_lines(text: str, key: str | None) -> list[int]:
    """The line at which each element of a list begins: the document itself, or the list at ``key``. Valid JSON only."""
    decoder = json.JSONDecoder()
    place = _space(text, 0 if key is None else _places(text)[key]) + 1
    lines = []
    line, counted = 1, 0
    while text[place := _space(text, place)] != "]":
        line, counted = line + text.count("\n", counted, place), place
        lines.append(line)
        _, place = decoder.raw_decode(text, place)
        place = _space(text, place)
        place += text[place] == ","
    return lines


def _places(text: str) -> dict[str, int]:
    """Where the value of each key of a top-level object begins."""
    decoder = json.JSONDecoder()
    places: dict[str, int] = {}
    place = _space(text, 0)
    if text[place] != "{":
        return places
    place = _space(text, place + 1)
    while text[place] != "}":
        key, place = decoder.raw_decode(text, place)
        place = _space(text, _space(text, place) + 1)
        places[key] = place
        _, place = decoder.raw_decode(text, place)
        place = _space(text, place)
        place = _space(text, place + (text[place] == ","))
    return places


def _space(text: str, place: int) -> int:
    while text[place] in " \t\r\n":
        place += 1
    return place


def _trace(file: str, says: Mapping[str, Any], table: Table) -> Trace:
    last_us = max(course.at_us[-1] for course in (table.down, table.up) if course is not None)
    duration_us = last_us + (table.last_step_us or 1_000_000)
    if "duration_s" in says:
        written = says["duration_s"]
        if not isinstance(written, int | float) or isinstance(written, bool) or written * 1e6 <= last_us:
            message = f"duration_s: expected a number above {last_us / 1e6:g}, the last point's time"
            raise DocumentError([file_problem(file, 1, message)])
        duration_us = round(written * 1e6)
    return Trace(
        name=plain_name(str(says["name"])),
        title=str(says.get("title", "")),
        description=str(says.get("description", "")),
        source_note=str(says.get("source", "")) or f"imported from {file}",
        duration_us=duration_us,
        down=table.down,
        up=table.up,
    )
