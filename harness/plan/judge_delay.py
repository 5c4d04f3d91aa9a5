"""Judges delay: one way, there and back, its variation and its distribution. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from harness.model.impairment import Impairment
from harness.model.measurement import Depth, Quantity
from harness.plan import precision
from harness.plan.delay_law import DelayLaw, delay_law, median_of_sum
from harness.plan.intervals import (
    ANYTHING,
    CONFIDENCE,
    Interval,
    distance,
    distance_radius,
    quantile,
    quantile_interval,
)
from harness.plan.prober_protocol import Observation
from harness.plan.probing import HEADERS_BYTES, JITTER_SPACING
from harness.plan.quantities import failed, judged, untold

DELAY_TOLERANCE_US: dict[Depth, float] = {"quick": 1000.0, "full": 500.0}
DELAY_TOLERANCE_SHARE: dict[Depth, float] = {"quick": 0.02, "full": 0.01}
JITTER_TOLERANCE_US: dict[Depth, float] = {"quick": 3000.0, "full": 1000.0}
"""What a busy machine itself adds to the variation is told by the delays' distribution, and by the run's health."""

JITTER_TOLERANCE_SHARE = 0.1
_TAIL = 0.1
"""Left out at each end of the delays when their width is taken."""
_GRID = 41
_NORMAL_WIDTH = 2.5631
"""Central 80% of a normal distribution, in standard deviations."""

_BY_ORDER = "median, its interval by order statistics"
_SUM = "median of the sum of both one-way delays: echoes would come between probes whose delays vary"
_WIDTH = (
    "standard deviation as the width of the central 80% of all delays makes it, which a few late packets do not spoil; "
    "interval by order statistics"
)
_DISTANCE = (
    "Kolmogorov and Smirnov's distance from what was asked for, each delay being allowed {slack} ms; "
    "interval by Dvoretzky, Kiefer and Wolfowitz"
)


def delayed(light: Observation, forward: Impairment) -> tuple[tuple[int, float], ...]:
    """The arrivals without those packets that skipped the delay, where some are to: they say nothing of it."""
    if forward.reorder is None or not light.common_clock:
        return light.arrivals
    return tuple(
        (number, at)
        for number, at in light.arrivals
        if (sent := light.sent_us[number]) is None or at - sent >= forward.delay_us / 2
    )


def tolerance_us(expected_us: float, depth: Depth) -> float:
    """Largest error of a delay that is accepted: 1 ms or 2% in a quick measurement, 0.5 ms or 1% in a full one."""
    return max(DELAY_TOLERANCE_US[depth], DELAY_TOLERANCE_SHARE[depth] * expected_us)


def judge(
    light: Observation, back_light: Observation | None, forward: Impairment, backward: Impairment, depth: Depth
) -> list[Quantity]:
    """One-way delay, RTT, jitter and distribution from a stream of light probes; ``back_light`` is the one the other
    way, which the RTT is made of where there are no echoes."""
    if forward.blocked or forward.mean_loss >= 1:
        return [untold("one-way delay", "us", "nothing is to arrive"), untold("rtt", "us", "nothing is to arrive")]
    light = replace(light, arrivals=delayed(light, forward))
    size = light.stream.payload_bytes + HEADERS_BYTES
    there, back = delay_law(forward, size), delay_law(backward, size)
    quantities = [_one_way(light, there, forward, depth)]
    if light.stream.echoes or backward.blocked or backward.mean_loss >= 1:
        quantities.append(_round_trip(light, (there, back), (forward, backward), depth))
    else:
        quantities.append(_both_ways(light, back_light, (there, back), (forward, backward), depth))
    if light.common_clock and there is not None and light.delays_us:
        quantities.append(_jitter(light, there, forward, depth))
        if forward.jitter_us:
            quantities.append(_distribution(light, there, forward, depth))
    return quantities


def _one_way(light: Observation, law: DelayLaw | None, forward: Impairment, depth: Depth) -> Quantity:
    if not light.common_clock:
        return untold("one-way delay", "us", "the two hosts have no common clock", requested=float(forward.delay_us))
    delays = sorted(light.delays_us)
    median = quantile(delays, 0.5) if delays else None
    if law is None:
        reason = "slots, or a jitter with a memory, leave no law to hold it against"
        asked = float(forward.delay_us)
        return untold("one-way delay", "us", reason, requested=asked, measured=median, samples=len(delays))
    tolerance = tolerance_us(law.median_us, depth) + _waiting_us(light, forward)
    if median is None:
        reason = f"none of {len(light.counted)} probes arrived"
        return failed(
            "one-way delay", "us", requested=law.median_us, samples=0, method=_BY_ORDER, reason=reason,
            tolerance=tolerance,
        )  # fmt: skip
    return judged(
        "one-way delay",
        "us",
        requested=law.median_us,
        measured=median,
        interval=quantile_interval(delays, 0.5),
        within=precision.around(law.median_us, tolerance, _spread_us(depth, forward)),
        tolerance=tolerance,
        samples=len(delays),
        method=_BY_ORDER,
    )


def _round_trip(
    light: Observation,
    laws: tuple[DelayLaw | None, DelayLaw | None],
    impairments: tuple[Impairment, Impairment],
    depth: Depth,
) -> Quantity:
    there, back = laws
    backward = impairments[1]
    rtts = sorted(light.rtt_us)
    median = quantile(rtts, 0.5) if rtts else None
    if there is None or back is None:
        reason = "slots, or a jitter with a memory, leave no law to hold it against"
        return untold("rtt", "us", reason, measured=median, samples=len(rtts))
    requested = median_of_sum(there, back)
    if backward.blocked or backward.mean_loss >= 1:
        return untold("rtt", "us", "no echo is to come back", requested=requested)
    if median is None:
        return failed(
            "rtt", "us", requested=requested, samples=0, method=_BY_ORDER, reason="no probe was echoed",
            tolerance=tolerance_us(requested, depth),
        )  # fmt: skip
    return judged(
        "rtt",
        "us",
        requested=requested,
        measured=median,
        interval=quantile_interval(rtts, 0.5),
        within=precision.around(requested, tolerance_us(requested, depth), _spread_us(depth, *impairments)),
        tolerance=tolerance_us(requested, depth),
        samples=len(rtts),
        method=_BY_ORDER,
    )


def _both_ways(
    light: Observation,
    back_light: Observation | None,
    laws: tuple[DelayLaw | None, DelayLaw | None],
    impairments: tuple[Impairment, Impairment],
    depth: Depth,
) -> Quantity:
    there, back = laws
    if there is None or back is None:
        return untold("rtt", "us", "slots, or a jitter with a memory, leave no law to hold it against")
    requested = median_of_sum(there, back)
    if back_light is None or not back_light.delays_us or not light.delays_us or not light.common_clock:
        return untold("rtt", "us", "the way back was not measured beside it", requested=requested, method=_SUM)
    ways = [sorted(light.delays_us), sorted(back_light.delays_us)]
    grid = [[quantile(way, (step + 0.5) / _GRID) for step in range(_GRID)] for way in ways]
    each = 1 - (1 - CONFIDENCE) / 2
    ends = [quantile_interval(way, 0.5, each) for way in ways]
    waiting = sum(
        _waiting_us(one, impairment) for one, impairment in zip((light, back_light), impairments, strict=True)
    )
    median = quantile(sorted(one + other for one in grid[0] for other in grid[1]), 0.5)
    # The median of a sum is not the sum of medians unless both are symmetric; the interval goes along with it.
    shift = median - sum(quantile(way, 0.5) for way in ways)
    tolerance = tolerance_us(requested, depth) + waiting
    return judged(
        "rtt",
        "us",
        requested=requested,
        measured=median,
        interval=(sum(end[0] for end in ends) + shift, sum(end[1] for end in ends) + shift),
        within=precision.around(requested, tolerance, _spread_us(depth, *impairments)),
        tolerance=tolerance,
        samples=min(map(len, ways)),
        method=_SUM,
    )


def _jitter(light: Observation, law: DelayLaw, forward: Impairment, depth: Depth) -> Quantity:
    delays = sorted(light.delays_us)
    wanted_width = law.quantile(1 - _TAIL) - law.quantile(_TAIL)
    wanted = law.deviation_us if forward.jitter_us else 0.0
    per_width = wanted / wanted_width if wanted and wanted_width else 1 / _NORMAL_WIDTH
    measured = (quantile(delays, 1 - _TAIL) - quantile(delays, _TAIL)) * per_width
    low, high = _width_interval(delays)
    tolerance = max(JITTER_TOLERANCE_US[depth], JITTER_TOLERANCE_SHARE * wanted) + _waiting_us(light, forward)
    return judged(
        "jitter",
        "us",
        requested=wanted,
        measured=measured,
        interval=(max(0.0, low * per_width), high * per_width),
        within=precision.around(wanted, tolerance, precision.JITTERS[depth] * wanted),
        tolerance=tolerance,
        samples=len(delays),
        method=_WIDTH,
    )


def _width_interval(delays: list[float]) -> Interval:
    """Of the width of the central part: each end at half of the error, so that both hold together."""
    each = 1 - (1 - CONFIDENCE) / 2
    first, last = quantile_interval(delays, _TAIL, each), quantile_interval(delays, 1 - _TAIL, each)
    if not math.isfinite(last[0]) or not math.isfinite(first[1]):
        return ANYTHING
    return max(0.0, last[0] - first[1]), last[1] - first[0]


def _distribution(light: Observation, law: DelayLaw, forward: Impairment, depth: Depth) -> Quantity:
    delays = sorted(light.delays_us)
    slack_us = tolerance_us(law.median_us, depth)
    found = distance(delays, law.distribution, slack_us)
    method = _DISTANCE.format(slack=f"{slack_us / 1000:.2f}")
    if _too_close(light, forward):
        reason = "probes are too close together for a jitter that keeps packets in order"
        return untold(
            "delay distribution", "distance", reason, requested=0.0, measured=found, samples=len(delays),
            method=method,
        )  # fmt: skip
    radius = distance_radius(len(delays))
    return judged(
        "delay distribution",
        "distance",
        requested=0.0,
        measured=found,
        interval=(max(0.0, found - radius), min(1.0, found + radius)),
        within=precision.distance(depth),
        samples=len(delays),
        method=method,
    )


def _too_close(light: Observation, forward: Impairment) -> bool:
    return forward.in_order and light.stream.interval_ns < JITTER_SPACING * forward.jitter_us * 1000


def _spread_us(depth: Depth, *impairments: Impairment) -> float:
    """How imprecise jitter lets a delay be."""
    return precision.JITTERS[depth] * sum(impairment.jitter_us for impairment in impairments)


def _waiting_us(light: Observation, forward: Impairment) -> float:
    """Where packets stay in order, one waits for an earlier one that was delayed more: by how much on average at most,
    for uniform jitter, when probes are closer together than the jitter is wide."""
    if not forward.jitter_us or not _too_close(light, forward):
        return 0.0
    return min(forward.jitter_us / 3, forward.jitter_us**2 / (3 * light.stream.interval_ns / 1000))
