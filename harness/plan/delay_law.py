"""What the delay of a packet over a link should be: its fixed part, and the law of its variation. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

from harness.model.impairment import DelayDistribution, Framing, Impairment
from harness.plan.delay_distribution import ENTRIES, SCALE, table_of
from harness.plan.intervals import quantile, step_function
from harness.plan.shaping import framed_size

_STEP = 8
"""Every so manieth entry of the kernel's table is fine enough."""


def serialisation_us(impairment: Impairment, ip_bytes: int) -> float:
    """The time that the bottleneck takes to send a packet; 0 without a rate."""
    if impairment.rate_bps is None:
        return 0.0
    return framed_size(ip_bytes, impairment.framing or Framing()) * 8e6 / impairment.rate_bps


class DelayLaw:
    """One-way delay of packets of one size, so far apart that none waits for another; in microseconds.

    ``shape`` are quantiles of the variation at equally spaced probabilities, in units of the jitter. A packet is never
    early: what would be less than no delay is none.
    """

    def __init__(self, impairment: Impairment, ip_bytes: int, shape: Sequence[float]) -> None:
        # The token bucket before an active queue lets a packet that finds it full go at once.
        sending = 0.0 if impairment.active_queue is not None else serialisation_us(impairment, ip_bytes)
        self._quantiles = tuple(max(0.0, impairment.delay_us + impairment.jitter_us * step) + sending for step in shape)
        self._distribution = step_function(self._quantiles)

    def quantile(self, share: float) -> float:
        """The delay that this share of all packets stays below."""
        return quantile(self._quantiles, share)

    @property
    def median_us(self) -> float:
        """Half of all packets take longer."""
        return self.quantile(0.5)

    @property
    def deviation_us(self) -> float:
        """Standard deviation: between two neighbouring quantiles the delay is uniform."""
        mean = math.fsum((one + other) / 2 for one, other in pairwise(self._quantiles)) / (len(self._quantiles) - 1)
        ends = [(one - mean, other - mean) for one, other in pairwise(self._quantiles)]
        return math.sqrt(math.fsum(one * one + one * other + other * other for one, other in ends) / (3 * len(ends)))

    @property
    def distribution(self) -> Callable[[float], float]:
        """Its distribution function."""
        return self._distribution


def delay_law(impairment: Impairment, ip_bytes: int) -> DelayLaw | None:
    """None where there is no law to hold a sample against: slots, or a variation with a memory."""
    if impairment.slots is not None or (impairment.jitter_us and impairment.delay_correlation):
        return None
    shape = shape_quantiles(impairment.distribution) if impairment.jitter_us else (0.0, 0.0)
    return DelayLaw(impairment, ip_bytes, shape)


@cache
def shape_quantiles(distribution: DelayDistribution) -> tuple[float, ...]:
    """The variation's quantiles at equally spaced probabilities, in units of the jitter, from the kernel's table."""
    if distribution.kind == "uniform":
        # As many steps as the others, so that a delay that is cut off at none keeps its shape.
        return tuple(2 * step * _STEP / ENTRIES - 1 for step in range(ENTRIES // _STEP + 1))
    table = struct.unpack(f"={ENTRIES}h", table_of(distribution))
    return tuple(value / SCALE for value in (*table[::_STEP], table[-1]))


def median_of_sum(one: DelayLaw, other: DelayLaw) -> float:
    """Median of the sum of two independent delays, on a grid of their quantiles."""
    steps = [(step + 0.5) / 41 for step in range(41)]
    sums = sorted(one.quantile(left) + other.quantile(right) for left in steps for right in steps)
    return quantile(sums, 0.5)
