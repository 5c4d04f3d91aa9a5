"""A benchmark's pictures. What a peer moved by another transport than it claims is in no picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.model.bench import BenchRecord, Cell, FlowResult, TrialResult
from harness.model.units import format_duration, format_rate
from harness.plan.bench_figures import Spread, spread
from harness.plan.bench_grid import GOALS, goal_of
from harness.report.bench_tables import OURS
from harness.report.plots import Bar, Mark, Panel, Points, Series, bars, line_panels, scatter

_BIN_S = 0.5
_SMALL_GOAL = 2000.0


def draw_bench(record: BenchRecord, directory: Path) -> list[Path]:
    """All that the results are enough for, as PNG in ``directory``."""
    results = record.results
    names = list(dict.fromkeys(name for one in results for name in one.trial.peers))
    alone = [one for one in results if len(one.trial.peers) == 1 and one.trial.workload.kind != "small"]
    return [
        *_by_loss(alone, names, directory),
        *_by_axis(alone, names, directory, "rate"),
        *_by_axis(alone, names, directory, "buffer"),
        *_goals(alone, directory, OURS[record.kind]),
        *_delays(alone, directory),
        *_over_time(alone, names, directory),
        *_pairs([one for one in results if len(one.trial.peers) > 1], directory),
        *_small_files([one for one in results if one.trial.workload.kind == "small"], directory),
        *_cpu(alone, directory),
    ]


def _by_loss(results: Sequence[TrialResult], names: Sequence[str], directory: Path) -> Iterator[Path]:
    """Share of the rate over loss, a picture for each round-trip time; bursts of 1% have a place of their own."""
    plain = [one for one in results if _is_plain(one.trial.cell) and one.trial.cell.buffer_bdp == 1]
    rate_bps = _base_rate(plain)
    plain = [one for one in plain if one.trial.cell.rate_bps == rate_bps]
    for rtt_us in sorted({one.trial.cell.rtt_us for one in plain}):
        here = [one for one in plain if one.trial.cell.rtt_us == rtt_us]
        places = sorted({(one.trial.cell.loss, one.trial.cell.burst) for one in here})
        if len(places) < 2:
            continue
        groups = []
        for name in names:
            found = [
                (place, share)
                for place, (loss, burst) in enumerate(places)
                if (share := _share_of(here, name, lambda cell: (cell.loss, cell.burst) == (loss, burst))) is not None  # noqa: B023
            ]
            if found:
                groups.append(_points(name, found))
        if groups:
            ticks = [
                (place, f"{loss * 100:g}%" + (f"\nin bursts of {burst:g}" if burst > 1 else ""))
                for place, (loss, burst) in enumerate(places)
            ]
            yield from scatter(
                directory / f"share-by-loss-{rtt_us // 1000}ms.png",
                f"Share of {format_rate(rate_bps or 0)} at a round trip of {format_duration(rtt_us)}",
                groups,
                x_label="packets lost, each way",
                y_label="goodput after 3 s over the link's rate",
                x_ticks=ticks,
                y_from_zero=True,
                note="median of the repeats, from the least to the greatest",
            )


def _base_rate(results: Sequence[TrialResult]) -> int | None:
    """The rate that most was measured at: the base point's. None where nothing was."""
    rates = Counter(one.trial.cell.rate_bps for one in results if one.trial.cell.rate_bps is not None)
    return rates.most_common(1)[0][0] if rates else None


def _by_axis(results: Sequence[TrialResult], names: Sequence[str], directory: Path, axis: str) -> Iterator[Path]:
    """Share over the link's rate, or over its buffer, at the base point, for each loss that was looked at."""
    base = [one for one in results if _is_plain(one.trial.cell) and one.trial.cell.burst == 1]
    base = [one for one in base if one.trial.cell.rtt_us == 80_000]
    if axis == "rate":
        base = [one for one in base if one.trial.cell.buffer_bdp == 1]
    else:
        base = [one for one in base if one.trial.cell.rate_bps == _base_rate(results)]
    for loss in sorted({one.trial.cell.loss for one in base}):
        here = [one for one in base if one.trial.cell.loss == loss]

        def value(one: TrialResult) -> float:
            return one.rate_bps / 1e6 if axis == "rate" else one.trial.cell.buffer_bdp

        values = sorted({value(one) for one in here})
        if len(values) < 2:
            continue
        groups = []
        for name in names:
            found = [
                (at, share)
                for at in values
                if (share := _shares([one for one in here if value(one) == at], name)) is not None
            ]
            if found:
                groups.append(_points(name, found))
        words = {
            "rate": ("link's rate, Mbit/s", "rate"),
            "buffer": ("bottleneck's buffer, bandwidth-delay products", "buffer"),
        }
        if groups:
            yield from scatter(
                directory / f"share-by-{axis}-loss-{loss * 100:g}.png",
                f"Share of the rate by {words[axis][1]}, 80 ms, {loss:.1%} lost",
                groups,
                x_label=words[axis][0],
                y_label="goodput after 3 s over the link's rate",
                log_x=True,
                y_from_zero=True,
                x_ticks=[(at, f"{at:g}") for at in values],
            )


def _goal_cells(results: Sequence[TrialResult]) -> list[tuple[Cell, float]]:
    """The cells that were measured and that a goal is set for, in the goals' order, the standard rate's first."""
    measured = {one.trial.cell: goal for one in results if (goal := goal_of(one.trial.cell)) is not None}
    order = [goal.model_copy(update={"rate_bps": None}) for goal, _ in GOALS]
    place = {cell: order.index(cell.model_copy(update={"rate_bps": None})) for cell in measured}
    return sorted(measured.items(), key=lambda one: (place[one[0]], -(one[0].rate_bps or 0)))


def _goals(results: Sequence[TrialResult], directory: Path, ours: str) -> Iterator[Path]:
    """Ours in the cells that goals are set for, beside the best of the others."""
    rows: list[Bar] = []
    for cell, goal in _goal_cells(results):
        here = [one for one in results if one.trial.cell == cell]
        for name in dict.fromkeys(one.trial.peers[0] for one in here):
            share = _shares(here, name)
            if share is not None:
                note = f"goal {goal:.2f}" if name == ours else ""
                rows.append(_bar(f"{cell.key}  {name}", share, name, note))
    if rows:
        yield from bars(
            directory / "goals.png",
            "Goodput over the link's rate where goals are set",
            rows,
            x_label="share of the rate (of what a trace offers)",
        )


def _delays(results: Sequence[TrialResult], directory: Path) -> Iterator[Path]:
    """Added delay in the cells that goals are set for: the median, up to the 95th percentile."""
    rows = []
    for cell, _ in _goal_cells(results):
        here = [one for one in results if one.trial.cell == cell]
        for name in dict.fromkeys(one.trial.peers[0] for one in here):
            measured = [one.delay for one in here if one.trial.peers[0] == name and one.delay is not None]
            middle = spread(delay.added_p50_ms for delay in measured)
            high = spread(delay.added_p95_ms for delay in measured)
            if middle is not None and high is not None:
                value = max(0.0, middle.median)
                label = f"{cell.key}  {name}"
                rows.append(Bar(label, value, value, max(value, high.median), group=name))
    if rows:
        yield from bars(
            directory / "added-delay.png",
            "Delay that a transfer adds: median, and 95th percentile",
            rows,
            x_label="one way beyond what the link is set to, ms",
        )


def _over_time(results: Sequence[TrialResult], names: Sequence[str], directory: Path) -> Iterator[Path]:
    """What arrived over time, and the delay, in the first repeat of the cells that goals are set for."""
    for number, (cell, _) in enumerate(_goal_cells(results)):
        here = [one for one in results if one.trial.cell == cell and one.trial.repeat == 0 and one.flows[:1]]
        counted = {one.trial.peers[0]: one for one in here if one.flows[0].intervals and one.flows[0].counts}
        if not counted:
            continue
        kept = [name for name in names if name in counted]
        rates = [_rate_series(name, counted[name].flows[0], counted[name].trial.seconds) for name in kept]
        delays = [
            Series(name, [at for at, _ in series], [value for _, value in series])
            for name in kept
            if (delay := counted[name].delay) is not None and (series := delay.series)
        ]
        panels = [Panel("arrived, Mbit/s", rates)]
        panels += [Panel("added delay, ms", delays)] if delays else []
        yield from line_panels(
            directory / f"over-time-{number + 1}.png",
            f"Over time: {cell.key}",
            panels,
            x_label="time since the first byte, s",
        )


def _pairs(results: Sequence[TrialResult], directory: Path) -> Iterator[Path]:
    """The two shares of every pair, one bar each."""
    rows = []
    for key in dict.fromkeys((one.trial.cell.key, one.trial.peers) for one in results):
        group = [one for one in results if (one.trial.cell.key, one.trial.peers) == key]
        for place, name in enumerate(key[1]):
            shares = spread(
                one.flows[place].share for one in group if len(one.flows) > place and one.flows[place].counts
            )
            if shares is not None:
                beside = " + ".join(key[1])
                rows.append(_bar(f"{key[0].replace(' rate=200Mbit', '')}: {beside}  {name}", shares, name))
    if rows:
        yield from bars(directory / "pairs.png", "Two at once: the share of each", rows, x_label="share of the rate")


def _small_files(results: Sequence[TrialResult], directory: Path) -> Iterator[Path]:
    rows = []
    for key in dict.fromkeys((one.trial.cell.key, one.trial.peers[0]) for one in results):
        found = spread(
            one.flows[0].files_per_s
            for one in results
            if (one.trial.cell.key, one.trial.peers[0]) == key and one.flows and one.flows[0].as_claimed is not False
        )
        if found is not None:
            rows.append(_bar(f"{key[0]}  {key[1]}", found, key[1]))
    if rows:
        yield from bars(
            directory / "small-files.png",
            "10,000 files of 10 kB",
            rows,
            x_label="files per second at the destination",
            marks=[Mark("goal", x=_SMALL_GOAL)],
        )


def _cpu(results: Sequence[TrialResult], directory: Path) -> Iterator[Path]:
    """Of all processes of both nodes, in the first cell that a goal is set for."""
    first = next(iter(_goal_cells(results)), None)
    here = [one for one in results if first is not None and one.trial.cell == first[0]]
    rows = []
    for name in dict.fromkeys(one.trial.peers[0] for one in here):
        both = spread(
            one.source_cpu_s_per_gbit + one.destination_cpu_s_per_gbit
            for one in here
            if one.trial.peers[0] == name
            and one.source_cpu_s_per_gbit is not None
            and one.destination_cpu_s_per_gbit is not None
        )
        if both is not None:
            rows.append(_bar(name, both, name))
    if rows:
        yield from bars(
            directory / "cpu.png",
            f"Processor time at both ends, {GOALS[0][0].key}",
            rows,
            x_label="CPU seconds for each Gbit of payload",
        )


def _rate_series(name: str, flow: FlowResult, seconds: float) -> Series:
    """Arrivals in steps of half a second."""
    lasted_s = min(seconds, max(one.end_s for one in flow.intervals))
    count = max(1, int(lasted_s / _BIN_S + 0.02))
    sizes = [0.0] * count
    for one in flow.intervals:
        lasted = one.end_s - one.begin_s
        for place in range(int(one.begin_s / _BIN_S), min(count, int(one.end_s / _BIN_S) + 1)):
            inside = min(one.end_s, (place + 1) * _BIN_S) - max(one.begin_s, place * _BIN_S)
            if inside > 0 and lasted > 0:
                sizes[place] += one.bytes * inside / lasted
    rates = [size * 8 / _BIN_S / 1e6 for size in sizes]
    # A step holds its value until the next point: the last one needs an end.
    return Series(name, [place * _BIN_S for place in range(count + 1)], [*rates, rates[-1]], "step")


def _is_plain(cell: Cell) -> bool:
    return cell.trace is None and cell.traffic is None


def _share_of(results: Sequence[TrialResult], name: str, wanted: object) -> Spread | None:
    assert callable(wanted)
    return _shares([one for one in results if wanted(one.trial.cell)], name)


def _shares(results: Iterable[TrialResult], name: str) -> Spread | None:
    return spread(
        one.flows[0].share for one in results if one.trial.peers == (name,) and one.flows and one.flows[0].counts
    )


def _points(name: str, found: Sequence[tuple[float, Spread]]) -> Points:
    return Points(
        name,
        [at for at, _ in found],
        [share.median for _, share in found],
        [share.low for _, share in found],
        [share.high for _, share in found],
        line=True,
    )


def _bar(label: str, found: Spread, group: str, note: str = "") -> Bar:
    several = found.count > 1
    return Bar(
        label, found.median, found.low if several else None, found.high if several else None, group=group, note=note
    )
