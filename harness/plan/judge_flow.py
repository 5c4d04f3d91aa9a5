"""Judges the bottleneck: its rate, and its buffer by how long packets wait in it when it is full. Pure."""

from __future__ import annotations

import math

from harness.model.impairment import Impairment
from harness.model.measurement import Quantity
from harness.plan import precision
from harness.plan.delay_law import delay_law, serialisation_us
from harness.plan.intervals import mean_of_batches, quantile
from harness.plan.prober_protocol import Observation
from harness.plan.probing import saturated_us
from harness.plan.quantities import failed, judged, untold
from harness.plan.shaping import buffer_packets

RATE_TOLERANCE_SHARE = 0.015
BUFFER_TOLERANCE_SHARE = 0.1
_BATCHES = 8
_FEWEST_ARRIVALS = 40
_WARM_UP = 0.25
"""Share of the arrivals at the beginning that are left out: the buffer is not full yet."""
_COOL_DOWN = 0.02
_FED = 1.1
"""How much faster than its rate a link must have been fed to say anything of its rate."""
_LAST = 0.9
"""Share of the time in which the buffer is to be full that its depth is taken from."""
_LATEST = 0.999
_FULL = 0.9
"""The wait that a tenth of the packets of a full queue exceed is taken for the longest, which noise stretches."""

_RATE = "IP bytes by their arrival while the link is fed faster than its rate; interval of eight parts' means"
_DEPTH = "longest wait of full packets in a full queue, times the rate; interval of eight parts' means"


def judge(idle: Observation, saturating: Observation, forward: Impairment, mtu: int) -> list[Quantity]:
    """Rate and buffer from full packets on the idle link, and then faster than its rate."""
    assert forward.rate_bps is not None
    rate, depth = float(forward.rate_bps), float(buffer_packets(forward, mtu) * mtu)
    arrivals = _while_fed(saturating, forward)
    first, last = _middle(len(arrivals))
    middle = arrivals[first:last]
    if len(middle) < _FEWEST_ARRIVALS // 2:
        reason = f"only {len(arrivals)} of {len(saturating.counted)} packets arrived"
        return [failed("rate", "bps", requested=rate, samples=len(middle), method=_RATE, reason=reason)]
    each_us = serialisation_us(forward, mtu)
    if _pace_us(saturating) * _FED > each_us * (1 - forward.mean_loss):
        reason = "this machine could not feed the link faster than its rate"
        return [
            untold("rate", "bps", reason, requested=rate, undecided=True),
            untold("buffer", "bytes", reason, requested=depth, undecided=forward.active_queue is None),
        ]
    # What the link carries of IP bytes, as the rate of the line that its framing makes of them.
    line_bits = each_us * rate / 1e6
    batch = len(middle) // _BATCHES
    rates = [
        batch * line_bits * 1e6 / max(1e-3, middle[start + batch][1] - middle[start][1])
        for start in range(0, len(middle) - batch, batch)
    ]
    span_us = middle[-1][1] - middle[0][1]
    quantities = [
        judged(
            "rate",
            "bps",
            requested=rate,
            measured=(len(middle) - 1) * line_bits * 1e6 / max(1e-3, span_us),
            interval=mean_of_batches(rates),
            within=precision.around(rate, RATE_TOLERANCE_SHARE * rate),
            tolerance=RATE_TOLERANCE_SHARE * rate,
            samples=len(middle),
            method=_RATE,
        )
    ]
    quantities.append(_buffer(idle, saturating, forward, mtu, depth))
    return quantities


def _buffer(idle: Observation, saturating: Observation, forward: Impairment, mtu: int, depth: float) -> Quantity:
    if forward.active_queue is not None:
        return untold("buffer", "bytes", "an active queue manages its own length")
    if not saturating.common_clock:
        return untold("buffer", "bytes", "the two hosts have no common clock", requested=depth)
    if not idle.delays_us:
        return untold("buffer", "bytes", "no packet crossed the idle link", requested=depth, undecided=True)
    waits = _waits_us(idle, saturating, saturated_us(forward, mtu))
    if len(waits) < _BATCHES:
        reason = f"only {len(waits)} packets came out of the full queue"
        return failed("buffer", "bytes", requested=depth, samples=len(waits), method=_DEPTH, reason=reason)
    batch = len(waits) // _BATCHES
    longest = [
        quantile(sorted(waits[start : start + batch]), _FULL) for start in range(0, len(waits) - batch + 1, batch)
    ]
    per_us = mtu / serialisation_us(forward, mtu)
    low, high = mean_of_batches(longest)
    law = delay_law(forward, mtu)
    # Packets that stay in order reach a full queue as late as the latest of them.
    varying_us = 0.0 if law is None else law.quantile(_LATEST) - law.median_us
    # A queue is full to within one packet.
    tolerance = max(BUFFER_TOLERANCE_SHARE * depth, float(mtu)) + varying_us * per_us
    return judged(
        "buffer",
        "bytes",
        requested=depth,
        measured=max(0.0, math.fsum(longest) / len(longest) * per_us),
        interval=(max(0.0, low * per_us), max(0.0, high * per_us)),
        within=precision.around(depth, tolerance),
        tolerance=tolerance,
        samples=len(waits),
        method=_DEPTH,
    )


def _waits_us(idle: Observation, saturating: Observation, full_us: float) -> list[float]:
    """How long packets waited that left within the last ``full_us``, when the queue was full."""
    unloaded_us = quantile(sorted(idle.delays_us), 0.5)
    left = {number: at for number, at in enumerate(saturating.sent_us) if at is not None}
    begin_us = max(left.values()) - _LAST * full_us
    return [
        arrived - left[number] - unloaded_us
        for number, arrived in saturating.first_arrivals.items()
        if left[number] >= begin_us
    ]


def _while_fed(saturating: Observation, forward: Impairment) -> tuple[tuple[int, float], ...]:
    """The arrivals that tell the rate: of an active queue, which drops what it holds, those while more comes in."""
    if forward.active_queue is None or not saturating.common_clock:
        return saturating.arrivals
    end_us = max((at for at in saturating.sent_us if at is not None), default=0.0) + forward.delay_us
    return tuple(arrival for arrival in saturating.arrivals if arrival[1] <= end_us)


def _middle(count: int) -> tuple[int, int]:
    return math.ceil(count * _WARM_UP), math.floor(count * (1 - _COOL_DOWN))


def _pace_us(saturating: Observation) -> float:
    """Time between two packets as they left."""
    left = [at for at in saturating.sent_us if at is not None]
    return (left[-1] - left[0]) / max(1, len(left) - 1)
