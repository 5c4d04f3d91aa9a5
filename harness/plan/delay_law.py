"""What the delay of a packet over a link should be: its fixed part, and the law of its variation. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from statistics import NormalDist

from harness.model.impairment import DelayDistribution, Framing, Impairment
from harness.plan.intervals import quantile, step_function

_GRID = 401


def wire_bytes(ip_bytes: int, framing: Framing | None) -> int:
    """What a packet counts against the rate: with the link layer's overhead, in whole cells where there are cells."""
    if framing is None:
        return ip_bytes
    size = ip_bytes + framing.overhead
    if framing.cell:
        size = -(-size // framing.cell) * (framing.cell + framing.cell_overhead)
    return max(1, size)


def serialisation_us(impairment: Impairment, ip_bytes: int) -> float:
    """The time that the bottleneck takes to send a packet; 0 without a rate."""
    if impairment.rate_bps is None:
        return 0.0
    return wire_bytes(ip_bytes, impairment.framing) * 8e6 / impairment.rate_bps


class DelayLaw:
    """One-way delay of packets of one size, so far apart that none waits for another; in microseconds.

    ``shape`` are quantiles of the variation at equally spaced probabilities, in units of the jitter. A packet is never
    early: what would be less than no delay is none.
    """

    def __init__(self, impairment: Impairment, ip_bytes: int, shape: Sequence[float]) -> None:
        sending = serialisation_us(impairment, ip_bytes)
        self.fixed_us = impairment.delay_us + sending
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
        """Standard deviation."""
        mean = math.fsum(self._quantiles) / len(self._quantiles)
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self._quantiles) / len(self._quantiles))

    @property
    def distribution(self) -> Callable[[float], float]:
        """Its distribution function."""
        return self._distribution

    def steepest(self, width_us: float) -> float:
        """The largest share of all packets within ``width_us`` of one another: what a shift by that much could make of
        the distance between two distribution functions."""
        return max(self._distribution(value + width_us) - self._distribution(value) for value in self._quantiles)


def delay_law(impairment: Impairment, ip_bytes: int) -> DelayLaw | None:
    """None where there is no law to hold a sample against: slots, or a variation with a memory."""
    if impairment.slots is not None or (impairment.jitter_us and impairment.delay_correlation):
        return None
    shape = (0.0, 0.0) if not impairment.jitter_us else shape_quantiles(impairment.distribution)
    return None if shape is None else DelayLaw(impairment, ip_bytes, shape)


@cache
def shape_quantiles(distribution: DelayDistribution) -> tuple[float, ...] | None:
    """The variation's quantiles at equally spaced probabilities, in units of the jitter; None when they are unknown."""
    if distribution.kind == "custom":
        return distribution.quantiles or None
    if distribution.kind == "uniform":
        return -1.0, 1.0
    if distribution.kind == "normal":
        normal = NormalDist()
        return tuple(normal.inv_cdf((step + 0.5) / _GRID) for step in range(_GRID))
    return None


def median_of_sum(one: DelayLaw, other: DelayLaw) -> float:
    """Median of the sum of two independent delays, on a grid of their quantiles."""
    steps = [(step + 0.5) / 41 for step in range(41)]
    sums = sorted(one.quantile(left) + other.quantile(right) for left in steps for right in steps)
    return quantile(sums, 0.5)
