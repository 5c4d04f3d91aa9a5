"""Plots, in one style: the one home of matplotlib. Nothing here needs a display, and importing this module is cheap.

Each function draws one picture and writes it:

    line_panels(path, title, panels)               lines or steps over a shared x axis, one panel below the other
    scatter(path, title, points, ...)              measured against asked or over anything, with interval bars
    ecdf(path, title, samples, ...)                distributions, as the share of samples that are at most x
    bars(path, title, bars, ...)                   a table of bars, each with its value, perhaps with an interval

``path`` that ends in ``.png`` or ``.svg`` is that file alone; any other gets both suffixes, one file each. All return
the files that were written, and replace what was there. The same data gives the same SVG, byte for byte, with the same
version of matplotlib.

A label names its quantity and its unit: ``rate, Mbit/s``. Colours are those of Okabe and Ito (2008), which people with
any common colour blindness can tell apart; scattered points differ by their markers as well. Values that are None or
NaN leave a gap. Long series are thinned for drawing, with the extremes of each stretch kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#1c2733")
"""Blue, vermilion, green, purple, orange, sky, ink; they repeat from the eighth series on."""

BAD, GOOD = "#B4202A", "#1F7A4D"

_INK, _DIM, _RULE = "#1c2733", "#5b6b7b", "#dde4eb"
_DASHES = ("-", "--", "-.", ":")
_MARKERS = "osD^vP*"
_WIDTH_IN = 9.0
_MOST_POINTS = 2400
_DENSE = 600
_STYLE: Any = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9.5,
    "text.color": _INK,
    "axes.edgecolor": _DIM,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.8,
    "xtick.color": _DIM,
    "ytick.color": _DIM,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "longhaul",
    "path.simplify": True,
}

Number = float | None


@dataclass(frozen=True)
class Series:
    """One line: ``x`` and ``y`` of equal length. A ``step`` holds each value until the next ``x``."""

    label: str
    x: Sequence[float]
    y: Sequence[Number]
    kind: Literal["line", "step", "points"] = "line"


@dataclass(frozen=True)
class Span:
    """A stretch of the x axis to shade, such as an outage."""

    begin: float
    end: float


@dataclass(frozen=True)
class Mark:
    """A line across the whole panel at ``y`` (or ``x``), such as a goal or a tolerance, with its name beside it."""

    label: str
    y: float | None = None
    x: float | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes. ``y_from_zero`` keeps zero in view; ``log_y`` takes powers of ten instead."""

    y_label: str
    series: Sequence[Series]
    log_y: bool = False
    y_from_zero: bool = True
    spans: Sequence[Span] = ()
    spans_label: str = ""
    marks: Sequence[Mark] = ()


@dataclass(frozen=True)
class Points:
    """Points of one kind; ``low`` and ``high``, when given, are the ends of each one's interval in y."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    line: bool = False
    """Whether a line joins them, in the order given."""


@dataclass(frozen=True)
class Bar:
    """One bar with its text at the left. ``low`` and ``high``: its interval. Bars of one ``group`` share a colour."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    group: str = ""
    note: str = ""
    """Behind the value, such as ``FAIL`` or ``n=40``."""


def line_panels(
    path: Path, title: str, panels: Sequence[Panel], *, x_label: str = "time, s", log_x: bool = False, note: str = ""
) -> tuple[Path, ...]:
    """Panels over one x axis. Raises ValueError for no panel, or a series whose ``x`` and ``y`` differ in length."""
    if not panels:
        raise ValueError("no panel to draw")
    with _styled() as new_figure:
        figure = new_figure(_WIDTH_IN, 1.15 + (2.6 if len(panels) == 1 else 1.75) * len(panels))
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            _panel(axes, panel, log_x=log_x)
        grid[-1].set_xlabel(x_label)
        return _write(figure, path, title, note)


def scatter(
    path: Path,
    title: str,
    points: Sequence[Points],
    *,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
    log_x: bool = False,
    log_y: bool = False,
    marks: Sequence[Mark] = (),
    x_ticks: Sequence[tuple[float, str]] = (),
    y_from_zero: bool = False,
    note: str = "",
) -> tuple[Path, ...]:
    """Points with their intervals. ``diagonal`` draws y = x: where measured equals asked. ``x_ticks``: places on the x
    axis with their names, in the stead of numbers."""
    with _styled() as new_figure:
        figure = new_figure(_WIDTH_IN * (0.72 if diagonal else 1.0), 5.2)
        axes = figure.subplots()
        for index, group in enumerate(points):
            _same_length(group.label, group.x, group.y)
            spread = None
            if group.low is not None and group.high is not None:
                spread = [
                    [max(0.0, y - low) for y, low in zip(group.y, group.low, strict=True)],
                    [max(0.0, high - y) for y, high in zip(group.y, group.high, strict=True)],
                ]
            axes.errorbar(
                group.x,
                group.y,
                yerr=spread,
                fmt=_MARKERS[index % len(_MARKERS)],
                linestyle=_DASHES[index % len(_DASHES)] if group.line else "none",
                color=_colour(index),
                markersize=4.5,
                linewidth=1.3,
                elinewidth=1.1,
                capsize=2.5,
                label=group.label,
            )
        _scales(axes, log_x=log_x, log_y=log_y)
        if x_ticks:
            axes.set_xticks([at for at, _ in x_ticks], [name for _, name in x_ticks])
            axes.minorticks_off()
        if y_from_zero:
            axes.set_ylim(0.0, max(axes.get_ylim()[1], 1e-9))
        if diagonal:
            low, high = axes.get_xlim()
            axes.axline((low, low), (high, high), color=_DIM, linewidth=1, linestyle=":", zorder=1)
        _marks(axes, marks)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _legend(axes, len(points))
        return _write(figure, path, title, note)


def ecdf(
    path: Path,
    title: str,
    samples: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    log_x: bool = False,
    marks: Sequence[Mark] = (),
    note: str = "",
) -> tuple[Path, ...]:
    """A curve for each named set of samples: the share that is at most x. Raises ValueError for an empty set."""
    with _styled() as new_figure:
        figure = new_figure(_WIDTH_IN, 4.2)
        axes = figure.subplots()
        for index, (label, values) in enumerate(samples.items()):
            if not len(values):
                raise ValueError(f"no samples of {label}")
            ordered = sorted(values)
            shares = [(rank + 1) / len(ordered) for rank in range(len(ordered))]
            x, y = _thinned([ordered[0], *ordered], [0.0, *shares])
            axes.plot(
                x,
                y,
                drawstyle="steps-post",
                color=_colour(index),
                linestyle=_dash(index),
                linewidth=1.6,
                label=f"{label} (n={len(ordered):,})",
            )
        _scales(axes, log_x=log_x, log_y=False)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(x_label)
        axes.set_ylabel("share of samples ≤ x")
        _marks(axes, marks)
        _legend(axes, 2)
        return _write(figure, path, title, note)


def bars(
    path: Path,
    title: str,
    rows: Sequence[Bar],
    *,
    x_label: str,
    log_x: bool = False,
    marks: Sequence[Mark] = (),
    note: str = "",
) -> tuple[Path, ...]:
    """A bar for each row, the first on top, each with its value in figures. Raises ValueError for no row."""
    if not rows:
        raise ValueError("no bar to draw")
    with _styled() as new_figure:
        figure = new_figure(_WIDTH_IN, 1.4 + 0.34 * len(rows))
        axes = figure.subplots()
        groups = list(dict.fromkeys(row.group for row in rows))
        for place, row in enumerate(rows):
            spread = None
            if row.low is not None and row.high is not None:
                spread = [[max(0.0, row.value - row.low)], [max(0.0, row.high - row.value)]]
            axes.barh(
                place,
                row.value,
                height=0.66,
                color=_colour(groups.index(row.group)),
                xerr=spread,
                error_kw={"ecolor": _INK, "elinewidth": 1.1, "capsize": 2.5},
            )
            end = max(row.value, row.high if row.high is not None else row.value)
            text = f"{row.value:.4g}" + (f"  {row.note}" if row.note else "")
            axes.annotate(text, (end, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        _scales(axes, log_x=log_x, log_y=False)
        axes.margins(x=0.14)
        axes.set_xlabel(x_label)
        _marks(axes, marks)
        if len(groups) > 1:
            from matplotlib.patches import Patch

            handles = [Patch(color=_colour(index), label=group) for index, group in enumerate(groups)]
            axes.legend(
                handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=min(4, len(groups)), borderpad=0
            )
        return _write(figure, path, title, note)


class _styled:
    """Gives a maker of figures while the house's style is in force. No pyplot: no global figures, no display."""

    def __enter__(self) -> Any:
        import matplotlib as mpl
        from matplotlib.figure import Figure

        self._context = mpl.rc_context(_STYLE)
        self._context.__enter__()
        return lambda width, height: Figure(figsize=(width, height), layout="constrained")

    def __exit__(self, *failure: Any) -> None:
        self._context.__exit__(*failure)


def _panel(axes: Axes, panel: Panel, *, log_x: bool) -> None:
    for span in panel.spans:
        label = panel.spans_label if span is panel.spans[0] else None
        axes.axvspan(span.begin, span.end, color=BAD, alpha=0.16, linewidth=0, zorder=0, label=label or None)
    for index, series in enumerate(panel.series):
        _same_length(series.label, series.x, series.y)
        x, y = _thinned(series.x, [math.nan if value is None else value for value in series.y])
        axes.plot(
            x,
            y,
            drawstyle="steps-post" if series.kind == "step" else "default",
            linestyle="none" if series.kind == "points" else _dash(index),
            marker=_MARKERS[index % len(_MARKERS)] if series.kind == "points" else "",
            markersize=2.6,
            color=_colour(index),
            linewidth=1.3 if len(x) < _DENSE else 0.8,
            label=series.label,
        )
    _scales(axes, log_x=log_x, log_y=panel.log_y)
    if panel.y_from_zero and not panel.log_y and axes.dataLim.ymin >= 0:
        axes.set_ylim(0.0, max(axes.get_ylim()[1], 1e-9))
    axes.set_ylabel(panel.y_label)
    axes.margins(x=0.01)
    _marks(axes, panel.marks)
    _legend(axes, len(panel.series) + bool(panel.spans and panel.spans_label))


def _scales(axes: Axes, *, log_x: bool, log_y: bool) -> None:
    from matplotlib.ticker import FuncFormatter

    plain = FuncFormatter(lambda value, _: f"{value:,.10g}")
    for axis, log in ((axes.xaxis, log_x), (axes.yaxis, log_y)):
        if log:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
            axis.set_major_formatter(plain)


def _marks(axes: Axes, marks: Sequence[Mark]) -> None:
    style: dict[str, Any] = {"color": BAD, "linewidth": 1.1, "linestyle": (0, (5, 3)), "zorder": 1.5}
    text: dict[str, Any] = {"color": BAD, "fontsize": 8.5, "va": "bottom"}
    for mark in marks:
        if mark.y is not None:
            axes.axhline(mark.y, **style)
            axes.annotate(mark.label, (1.0, mark.y), xycoords=axes.get_yaxis_transform(), ha="right", **text)
        if mark.x is not None:
            axes.axvline(mark.x, **style)
            axes.annotate(mark.label, (mark.x, 1.0), xycoords=axes.get_xaxis_transform(), ha="left", **text)


def _legend(axes: Axes, entries: int) -> None:
    if entries > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(4, entries), borderpad=0, handlelength=2.2)


def _write(figure: Figure, path: Path, title: str, note: str) -> tuple[Path, ...]:
    figure.suptitle(title, fontsize=12.5, fontweight="bold", x=0.012, ha="left", color=_INK)
    if note:
        figure.supxlabel(note, fontsize=8.5, x=0.012, ha="left", color=_DIM)
    single = path.suffix.lower() in {".png", ".svg"}
    files = (path,) if single else tuple(path.with_name(path.name + suffix) for suffix in (".png", ".svg"))
    for file in files:
        svg = file.suffix.lower() == ".svg"
        figure.savefig(file, dpi=110, facecolor="white", metadata={"Date": None} if svg else {"Software": None})
    return files


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most about ``_MOST_POINTS`` points; of each stretch the ends, the lowest and the highest, in their order."""
    size = len(x)
    if size <= _MOST_POINTS:
        return list(x), list(y)
    stretch = -(-size * 4 // _MOST_POINTS)
    kept: list[int] = []
    for begin in range(0, size, stretch):
        places = range(begin, min(begin + stretch, size))
        gaps = [place for place in places if math.isnan(y[place])]
        numbers = [place for place in places if not math.isnan(y[place])] or [begin]
        kept += sorted({begin, min(numbers, key=y.__getitem__), max(numbers, key=y.__getitem__), *gaps[:1], places[-1]})
    return [x[place] for place in kept], [y[place] for place in kept]


def _same_length(label: str, x: Sequence[float], y: Sequence[Number]) -> None:
    if len(x) != len(y):
        raise ValueError(f"{label}: {len(x)} values of x, but {len(y)} of y")


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _dash(index: int) -> str:
    return _DASHES[index // len(COLOURS) % len(_DASHES)] if index < len(COLOURS) else _DASHES[1]
