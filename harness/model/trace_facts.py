"""What a trace comes to: mean rate, best second, longest gap. Pure.

A blocked link has the rate 0. The *best second* is the largest amount that any stretch of one second lets through. The
*longest gap* is the longest time between two packets of 1,500 bytes that leave one after the other at the trace's rate,
from its beginning to its end; so an outage counts, and so does a rate of 10 kbit/s, at which a packet takes 1.2 s.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from harness.model.base import Value
from harness.model.trace import Course

FULL_PACKET_BITS = 1_500 * 8


class CourseFacts(Value):
    """One direction in figures. Rates in bit/s, times in microseconds; None where the course says nothing of it.

    ``changes`` counts its points; delay, jitter and loss are means over time; ``blocked_us`` is time spent blocked.
    """

    changes: int
    mean_rate_bps: float | None = None
    best_second_bps: float | None = None
    lowest_rate_bps: int | None = None
    longest_gap_us: int | None = None
    mean_delay_us: float | None = None
    least_delay_us: int | None = None
    most_delay_us: int | None = None
    mean_jitter_us: float | None = None
    mean_loss: float | None = None
    blocked_us: int = 0
    outages: int = 0


def facts(course: Course, duration_us: int) -> CourseFacts:
    """The figures of one direction over the trace's duration."""
    spans = [later - at for at, later in zip(course.at_us, (*course.at_us[1:], duration_us), strict=True)]
    blocked = course.blocked or (False,) * len(spans)
    begins = [now and not before for before, now in zip((False, *blocked), blocked, strict=False)]
    found: dict[str, object] = {
        "changes": len(spans),
        "blocked_us": sum(span for span, cut in zip(spans, blocked, strict=True) if cut),
        "outages": sum(begins),
    }
    if course.rate_bps:
        rates = [0 if cut else rate for rate, cut in zip(course.rate_bps, blocked, strict=True)]
        bits = [0.0, *accumulate(rate * span / 1e6 for rate, span in zip(rates, spans, strict=True))]
        edges = (*course.at_us, duration_us)
        found |= {
            "mean_rate_bps": bits[-1] / duration_us * 1e6,
            "best_second_bps": _best_second(edges, bits),
            "lowest_rate_bps": min(rates),
            "longest_gap_us": _longest_gap(edges, rates, bits),
        }
    if course.delay_us:
        found |= {
            "mean_delay_us": _mean(course.delay_us, spans),
            "least_delay_us": min(course.delay_us),
            "most_delay_us": max(course.delay_us),
        }
    if course.jitter_us:
        found["mean_jitter_us"] = _mean(course.jitter_us, spans)
    if course.loss:
        found["mean_loss"] = _mean(course.loss, spans)
    return CourseFacts.model_validate(found)


def carried_bits(edges: Sequence[int], bits: Sequence[float], at_us: float) -> float:
    """Bits let through until a time, from the amounts at each edge; between edges the rate is constant."""
    place = min(max(bisect_right(edges, at_us) - 1, 0), len(edges) - 2)
    share = (at_us - edges[place]) / (edges[place + 1] - edges[place])
    return bits[place] + (bits[place + 1] - bits[place]) * min(max(share, 0.0), 1.0)


def _mean(values: Sequence[float], spans: Sequence[int]) -> float:
    return sum(value * span for value, span in zip(values, spans, strict=True)) / sum(spans)


def _best_second(edges: Sequence[int], bits: Sequence[float]) -> float:
    """The amount in a window is piecewise linear in its place: its largest value has an edge at one of its ends."""
    duration = edges[-1]
    if duration <= 1_000_000:
        return bits[-1] / duration * 1e6
    starts = {min(max(start, 0), duration - 1_000_000) for edge in edges for start in (edge, edge - 1_000_000)}
    return max(
        carried_bits(edges, bits, start + 1_000_000) - carried_bits(edges, bits, start) for start in sorted(starts)
    )


def _longest_gap(edges: Sequence[int], rates: Sequence[float], bits: Sequence[float]) -> int:
    """Walks from packet to packet, many at a time while the rate stays the same."""
    longest = last_us = 0.0
    sent = 0
    for place, rate in enumerate(rates):
        whole = int(bits[place + 1] // FULL_PACKET_BITS)
        if whole <= sent or rate == 0:
            continue
        first_us = edges[place] + ((sent + 1) * FULL_PACKET_BITS - bits[place]) / rate * 1e6
        longest = max(longest, first_us - last_us)
        if whole > sent + 1:
            longest = max(longest, FULL_PACKET_BITS / rate * 1e6)
        last_us = edges[place] + (whole * FULL_PACKET_BITS - bits[place]) / rate * 1e6
        sent = whole
    return round(max(longest, edges[-1] - last_us))
