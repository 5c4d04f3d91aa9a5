"""The picture of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.model.trace import Course, Trace
from harness.report.plots import Panel, Series, Span, line_panels

_HOURS_FROM_US = 2 * 3_600_000_000


def plot_trace(trace: Trace, path: Path) -> tuple[Path, ...]:
    """Rate, delay, and loss where there is any, over time; outages shaded. See ``plots`` for ``path``."""
    hours = trace.duration_us >= _HOURS_FROM_US
    unit_us = 3.6e9 if hours else 1e6
    courses = {"both ways": trace.down} if trace.up is None else {"down": trace.down, "up": trace.up}

    def steps(scale: float, column: str) -> list[Series]:
        alike = trace.up is not None and _alike(trace.down, trace.up, column)
        return [
            Series(
                label="both ways" if alike else name,
                x=[*(at_us / unit_us for at_us in course.at_us), trace.duration_us / unit_us],
                y=[value / scale for value in (*getattr(course, column), getattr(course, column)[-1])],
                kind="step",
            )
            for name, course in courses.items()
            if getattr(course, column) and not (alike and name == "up")
        ]

    panels = []
    rates = steps(1e6, "rate_bps")
    if rates:
        panels.append(
            Panel("rate, Mbit/s", rates, spans=_outages(trace.down, trace.duration_us, unit_us), spans_label="blocked")
        )
    for label, column, scale in (("delay, ms", "delay_us", 1e3), ("loss, %", "loss", 0.01)):
        series = steps(scale, column)
        if series:
            panels.append(Panel(label, series))
    if not panels:
        panels.append(Panel("blocked", steps(1, "blocked")))
    title = trace.title or trace.name
    return line_panels(
        path, title, panels, x_label="time of day, h" if hours else "time, s", note=trace.recipe or trace.source_note
    )


def _alike(first: Course, second: Course, column: str) -> bool:
    """Whether both say the same of it at every time."""
    if bool(getattr(first, column)) != bool(getattr(second, column)):
        return False
    return not getattr(first, column) or all(
        getattr(first, column)[first.index_at(at_us)] == getattr(second, column)[second.index_at(at_us)]
        for at_us in {*first.at_us, *second.at_us}
    )


def _outages(course: Course, duration_us: int, unit_us: float) -> Sequence[Span]:
    spans = []
    begin: int | None = None
    for at_us, blocked in zip((*course.at_us, duration_us), (*course.blocked, False), strict=False):
        if blocked and begin is None:
            begin = at_us
        elif not blocked and begin is not None:
            spans.append(Span(begin / unit_us, at_us / unit_us))
            begin = None
    return spans
