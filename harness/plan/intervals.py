"""Confidence intervals of what a sample says, all at 99%. Pure, and without random numbers.

An end that a sample is too small to give is infinite.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import cache

CONFIDENCE = 0.99
Interval = tuple[float, float]
ANYTHING: Interval = (-math.inf, math.inf)


def proportion(trials: int, successes: int, inflation: float = 1.0) -> Interval:
    """Clopper and Pearson's exact interval of a probability (Biometrika 26, 1934), for a sample that is worth
    ``trials / inflation`` independent ones.

    Raises ValueError when nothing was tried or more succeeded than were tried.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials}")
    from scipy.special import betaincinv  # here, since importing scipy takes longer than most commands

    worth, hits = trials / inflation, successes / inflation
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if successes == 0 else float(betaincinv(hits, worth - hits + 1, tail))
    high = 1.0 if successes == trials else float(betaincinv(hits + 1, worth - hits, 1 - tail))
    return low, high


def mean_run(failures: int, runs: int, inflation: float = 1.0) -> Interval:
    """Interval of the mean length of runs, from ``failures`` in ``runs`` runs of them.

    After each failure the run ends with probability 1/mean (renewal theory), so the ends are a proportion of the
    failures. Without a failure there is nothing to say.
    """
    if failures < 1:
        return 1.0, math.inf
    low, high = proportion(failures, min(runs, failures), inflation)
    return 1 / high, 1 / low if low > 0 else math.inf


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between the two nearest of a sorted, non-empty sequence."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def quantile_interval(ordered: Sequence[float], share: float, confidence: float = CONFIDENCE) -> Interval:
    """Interval of a quantile by order statistics, whatever the distribution (Conover, Practical Nonparametric
    Statistics, section 3.2): how many of n values lie below the true quantile is binomial."""
    low_rank, high_rank = _ranks(len(ordered), share, confidence)
    low = -math.inf if low_rank < 0 else ordered[low_rank]
    high = math.inf if high_rank >= len(ordered) else ordered[high_rank]
    return low, high


@cache
def _ranks(count: int, share: float, confidence: float) -> tuple[int, int]:
    """Indices of the order statistics that bound the quantile; -1 and ``count`` when there are too few values."""
    from scipy.special import bdtr

    tail = (1 - confidence) / 2
    # P(fewer than k+1 values below the quantile) = bdtr(k, n, share).
    low = _largest(count, lambda rank: float(bdtr(rank, count, share)) <= tail)
    high = _largest(count, lambda rank: 1 - float(bdtr(rank, count, share)) > tail) + 1
    return low, high


def _largest(count: int, holds: Callable[[int], bool]) -> int:
    """The largest index below ``count`` for which a condition holds that holds up to some index; -1 for none."""
    low, high = -1, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def mean_of_batches(values: Sequence[float]) -> Interval:
    """Student's interval of the mean of a few batches' means, which are taken for independent and nearly normal."""
    count = len(values)
    if count < 2:
        return ANYTHING
    from scipy.special import stdtrit

    mean = math.fsum(values) / count
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    radius = float(stdtrit(count - 1, 1 - (1 - CONFIDENCE) / 2)) * deviation / math.sqrt(count)
    return mean - radius, mean + radius


def distance_radius(samples: int) -> float:
    """How far a sample's distribution function may be from the true one (Dvoretzky, Kiefer and Wolfowitz 1956)."""
    return 1.0 if samples < 1 else min(1.0, math.sqrt(math.log(2 / (1 - CONFIDENCE)) / (2 * samples)))


def distance(ordered: Sequence[float], distribution: Callable[[float], float], slack: float = 0.0) -> float:
    """Kolmogorov and Smirnov's distance of a sorted sample from a distribution function, when every value may be off by
    ``slack``; without slack the function must be continuous."""
    count = len(ordered)
    largest = 0.0
    for index, value in enumerate(ordered):
        above = (index + 1) / count - distribution(value + slack)
        largest = max(largest, above, distribution(value - slack) - index / count)
    return largest


def step_function(ordered: Sequence[float]) -> Callable[[float], float]:
    """The linearly interpolated distribution function of equally likely, sorted values; at least two."""
    last = len(ordered) - 1

    def distribution(value: float) -> float:
        if value <= ordered[0]:
            return (bisect_right(ordered, value) - 1) / last if value == ordered[0] else 0.0
        if value >= ordered[-1]:
            return 1.0
        above = bisect_left(ordered, value)
        below = above - 1
        width = ordered[above] - ordered[below]
        return (below + ((value - ordered[below]) / width if width else 1.0)) / last

    return distribution
