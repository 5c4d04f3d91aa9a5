"""Tables of delay distributions as netem takes them: equally likely values, in units of jitter / 8192, 16 bits each.

For each packet netem draws one entry t and delays the packet by latency + jitter * t / 8192 (``tabledist`` in
net/sched/sch_netem.c). Entry i of n is therefore the quantile at probability (i + 1/2) / n of the wanted law:

- normal: the inverse of the normal distribution function (statistics.NormalDist);
- pareto: x = (1 - p)**(-1/a) with shape a = 3, whose mean is 3/2 (Johnson, Kotz, Balakrishnan: Continuous Univariate
  Distributions 1, chapter 20);
- paretonormal: three parts pareto and one part normal at the same p, the proportion that NIST Net found to match
  measured delays (Carson, Santay: NIST Net, 2003), and that iproute2 uses;
- custom: linear between the given quantiles.

A table reaches four times the jitter at most. The named laws are cut there and scaled so that, cut, their mean is 0 and
their standard deviation 1: the delay is then the mean and the jitter the standard deviation, exactly. (iproute2's
pareto table is cut and not scaled again: by its formula it has a mean of -0.03 and a standard deviation of 0.82.)
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist

from harness.model.impairment import DelayDistribution

SCALE = 8192
ENTRIES = 4096
REACH = 32767 / SCALE
_PARETO_SHAPE = 3.0
_NORMAL_SHARE = 0.25
_STANDARDISING_STEPS = 15


@lru_cache(maxsize=256)
def table_of(distribution: DelayDistribution) -> bytes:
    """The table, as native 16-bit integers. Raises ValueError for quantiles that are no distribution's."""
    match distribution.kind:
        case "uniform":
            values = [2 * (i + 0.5) / ENTRIES - 1 for i in range(ENTRIES)]
        case "normal":
            values = _standardised(_normal)
        case "pareto":
            values = _standardised(_pareto)
        case "paretonormal":
            values = _standardised(lambda p: (1 - _NORMAL_SHARE) * _pareto(p) + _NORMAL_SHARE * _normal(p))
        case "custom":
            values = _interpolated(distribution.quantiles)
    return struct.pack(f"={ENTRIES}h", *(round(max(-REACH, min(REACH, value)) * SCALE) for value in values))


@lru_cache(maxsize=256)
def fingerprint(distribution: DelayDistribution) -> int:
    """Names the distribution, in 32 bits and never 0."""
    return zlib.crc32(f"{distribution.kind} {distribution.quantiles}".encode()) or 1


def _normal(probability: float) -> float:
    return NormalDist().inv_cdf(probability)


def _pareto(probability: float) -> float:
    """Standardised: mean 0 and standard deviation 1, before it is cut."""
    value = math.pow(1 - probability, -1 / _PARETO_SHAPE)
    mean = _PARETO_SHAPE / (_PARETO_SHAPE - 1)
    variance = _PARETO_SHAPE / ((_PARETO_SHAPE - 1) ** 2 * (_PARETO_SHAPE - 2))
    return (value - mean) / math.sqrt(variance)


def _standardised(quantile: Callable[[float], float]) -> list[float]:
    """The law's values, scaled until what is left inside REACH has mean 0 and standard deviation 1."""
    values = [quantile((i + 0.5) / ENTRIES) for i in range(ENTRIES)]
    for _ in range(_STANDARDISING_STEPS):
        cut = [max(-REACH, min(REACH, value)) for value in values]
        mean = math.fsum(cut) / ENTRIES
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in cut) / ENTRIES)
        values = [(value - mean) / deviation for value in values]
    return values


def _interpolated(quantiles: tuple[float, ...]) -> list[float]:
    if len(quantiles) < 2:
        raise ValueError("a custom distribution needs at least two quantiles")
    if any(not math.isfinite(value) or abs(value) > REACH + 0.001 for value in quantiles):
        raise ValueError(f"a quantile is beyond {REACH:.0f} times the jitter, where no table reaches")
    if any(before > after for before, after in pairwise(quantiles)):
        raise ValueError("the quantiles of a distribution must ascend")
    values = []
    for i in range(ENTRIES):
        position = (i + 0.5) / ENTRIES * (len(quantiles) - 1)
        low = min(int(position), len(quantiles) - 2)
        values.append(quantiles[low] + (position - low) * (quantiles[low + 1] - quantiles[low]))
    return values
