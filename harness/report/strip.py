"""Tests against what the WAN did, over time, as an SVG strip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor, log10

from harness.model.impairment_text import describe_change
from harness.model.run_record import RunRecord, TestRecord, WanChange
from harness.model.units import brief_duration
from harness.report.markup import xml

_LEFT = 150.0
_WIDTH = 1100.0
_RIGHT = 16.0
_ROW = 30.0
_BAR = 18.0
_TOP = 10.0
_TICK_LABEL_ROOM = 90.0
_LONGEST_NAME = 20

_STYLE = """
svg.strip { --ink: #1c2733; --dim: #5b6b7b; --rule: #d8e0e8; --pass: #2e8b57; --fail: #c0262d; --invalid: #b4600a;
  --skip: #8796a5; --cut: #c0262d; --change: #4a6f96;
  font-family: "Inter", "Segoe UI", "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
@media screen and (prefers-color-scheme: dark) { svg.strip { --ink: #e6edf3; --dim: #9fb0c0; --rule: #2b3846;
  --pass: #4fbf84; --fail: #ff6b6b; --invalid: #f0a54a; --skip: #70808f; --cut: #ff6b6b; --change: #7fb0e0; } }
svg.strip text { fill: var(--ink); font-size: 12px; }
svg.strip .dim { fill: var(--dim); font-size: 11px; }
svg.strip .rule { stroke: var(--rule); stroke-width: 1; }
svg.strip .PASS { fill: var(--pass); } svg.strip .FAIL { fill: var(--fail); }
svg.strip .INVALID { fill: var(--invalid); } svg.strip .SKIP { fill: var(--skip); }
svg.strip .cut { fill: var(--cut); fill-opacity: .75; } svg.strip .shade { fill: var(--cut); fill-opacity: .1; }
svg.strip .change { fill: var(--change); }
""".strip()


@dataclass(frozen=True)
class Moment:
    """Changes that were made together: same reason, same instant to a tenth of a second."""

    at_s: float
    planned_s: float | None
    reason: str
    changes: tuple[WanChange, ...]


@dataclass(frozen=True)
class Cut:
    """A time in which links were black holes. ``end_s`` is the end of the run for one that was never lifted."""

    start_s: float
    end_s: float
    links: tuple[str, ...]


def moments(changes: Sequence[WanChange]) -> list[Moment]:
    """What the WAN did, in order, one entry for each thing that someone did to it."""
    grouped: dict[tuple[float, str], list[WanChange]] = defaultdict(list)
    for change in sorted(changes, key=lambda change: change.actual_s):
        grouped[round(change.actual_s, 1), change.reason].append(change)
    return [
        Moment(group[0].actual_s, group[0].planned_s, reason, tuple(group)) for (_, reason), group in grouped.items()
    ]


def all_changes(record: RunRecord) -> list[WanChange]:
    """Every change of the run once, in order; a change may be noted at more than one test, and outside of all."""
    noted = (change for test in record.tests for change in test.wan_changes)
    return sorted(dict.fromkeys((*record.changes, *noted)), key=lambda change: change.actual_s)


def cuts(changes: Sequence[WanChange], end_s: float) -> list[Cut]:
    """The times in which links were blocked, links that were blocked together in one entry."""
    began: dict[str, float] = {}
    spans: dict[tuple[float, float], list[str]] = defaultdict(list)
    for change in changes:
        link = f"{change.source}>{change.destination}"
        if change.after.blocked:
            began.setdefault(link, change.actual_s)
        elif link in began:
            spans[round(began.pop(link), 1), round(change.actual_s, 1)].append(link)
    for link, start in began.items():
        spans[round(start, 1), end_s].append(link)
    return [Cut(start, end, tuple(links)) for (start, end), links in sorted(spans.items())]


def draw_strip(record: RunRecord) -> str:
    """The SVG's text: a row for the WAN, a row for each suite, and an axis in seconds since the run began."""
    changes = all_changes(record)
    end_s = max([record.elapsed_s, 0.001, *(test.started_s + test.elapsed_s for test in record.tests)])
    suites: dict[str, list[TestRecord]] = defaultdict(list)
    for test in record.tests:
        suites[test.suite].append(test)
    height = _TOP + _ROW * (1 + len(suites)) + 26
    bottom = height - 22
    parts = [
        f'<svg class="strip" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img">',
        "<title>Tests and changes of the WAN over time</title>",
        f"<style>{_STYLE}</style>",
        *_axis(end_s, bottom, height),
        *_wan_row(changes, end_s, bottom),
    ]
    for row, (suite, tests) in enumerate(suites.items(), start=1):
        parts += _suite_row(suite, tests, _TOP + row * _ROW, end_s)
    return "\n".join([*parts, "</svg>"])


def _x(at_s: float, end_s: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(max(at_s / end_s, 0.0), 1.0)


def _axis(end_s: float, bottom: float, height: float) -> Iterator[str]:
    step = _round_step(end_s / ((_WIDTH - _LEFT) / _TICK_LABEL_ROOM))
    for index in range(floor(end_s / step) + 1):
        x = _x(index * step, end_s)
        yield f'<line class="rule" x1="{x:.1f}" y1="{_TOP:.0f}" x2="{x:.1f}" y2="{bottom:.0f}"/>'
        label = brief_duration(index * step * 1e6) if index else "0 s"
        yield f'<text class="dim" x="{x:.1f}" y="{height - 6:.0f}" text-anchor="middle">{label}</text>'


def _round_step(at_least: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 ... seconds, or tenths of them."""
    decade = 10.0 ** floor(log10(at_least))
    return next(decade * factor for factor in (1, 2, 5, 10) if decade * factor >= at_least)


def _wan_row(changes: Sequence[WanChange], end_s: float, bottom: float) -> Iterator[str]:
    yield _name("WAN", _TOP)
    middle = _TOP + _ROW / 2
    for cut in cuts(changes, end_s):
        x, width = _x(cut.start_s, end_s), max(_x(cut.end_s, end_s) - _x(cut.start_s, end_s), 1.5)
        said = f"cut off {cut.start_s:.1f} s to {cut.end_s:.1f} s: {', '.join(cut.links)}"
        yield f'<rect class="shade" x="{x:.1f}" y="{_TOP:.0f}" width="{width:.1f}" height="{bottom - _TOP:.0f}"/>'
        yield (
            f'<rect class="cut" x="{x:.1f}" y="{middle - _BAR / 2:.1f}" width="{width:.1f}" height="{_BAR:.0f}" rx="2">'
            f"<title>{xml(said)}</title></rect>"
        )
    for moment in moments([change for change in changes if not (change.before.blocked or change.after.blocked)]):
        x = _x(moment.at_s, end_s)
        first = moment.changes[0]
        said = f"{moment.at_s:.1f} s, {moment.reason}: {describe_change(first.before, first.after)}"
        more = f" (and {len(moment.changes) - 1} more links)" if len(moment.changes) > 1 else ""
        diamond = f"M{x:.1f} {middle - 7:.1f}l6 7l-6 7l-6 -7z"
        yield f'<path class="change" d="{diamond}"><title>{xml(said + more)}</title></path>'


def _suite_row(suite: str, tests: Sequence[TestRecord], top: float, end_s: float) -> Iterator[str]:
    yield f'<line class="rule" x1="0" y1="{top:.0f}" x2="{_WIDTH:.0f}" y2="{top:.0f}"/>'
    yield _name(suite, top)
    for test in tests:
        x = _x(test.started_s, end_s)
        width = max(_x(test.started_s + test.elapsed_s, end_s) - x - 1, 2.0)
        said = f"{test.name}: {test.status}, {test.started_s:.1f} s to {test.started_s + test.elapsed_s:.1f} s"
        yield (
            f'<rect class="{test.status}" x="{x:.1f}" y="{top + (_ROW - _BAR) / 2:.1f}" width="{width:.1f}" '
            f'height="{_BAR:.0f}" rx="3"><title>{xml(said)}</title></rect>'
        )


def _name(text: str, top: float) -> str:
    short = text if len(text) <= _LONGEST_NAME else f"…{text[-_LONGEST_NAME + 1 :]}"
    return f'<text x="0" y="{top + _ROW / 2 + 4:.1f}">{xml(short)}</text>'
