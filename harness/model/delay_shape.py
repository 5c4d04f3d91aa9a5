"""The shape of measured delays, apart from their mean and their spread: a DelayDistribution by its quantiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.model.impairment import DelayDistribution

REACH = 4.0
"""A kernel's table reaches at most this many times the jitter to either side: 16 bits at a scale of 8192."""
QUANTILES = 257
"""Enough for a smooth shape, few enough to stand in a record of every link."""
FEWEST_SAMPLES = 20


def shape_of_samples(samples: Sequence[float]) -> DelayDistribution:
    """The shape of these delays (any unit), in standard deviations around their mean, cut at REACH.

    Raises ValueError for fewer than FEWEST_SAMPLES, for a number that is none, and for delays that do not vary.
    """
    if len(samples) < FEWEST_SAMPLES:
        raise ValueError(f"{len(samples)} samples; a shape needs at least {FEWEST_SAMPLES}")
    if not all(math.isfinite(sample) for sample in samples):
        raise ValueError("a sample is not a finite number")
    mean = math.fsum(samples) / len(samples)
    deviation = math.sqrt(math.fsum((sample - mean) ** 2 for sample in samples) / len(samples))
    if deviation <= abs(mean) * 1e-12:
        raise ValueError("the samples do not vary: without jitter there is no distribution")
    return custom_distribution([(sample - mean) / deviation for sample in samples])


def custom_distribution(values: Sequence[float]) -> DelayDistribution:
    """A distribution of these values, which are in units of the jitter, at least two; cut at REACH."""
    ordered = sorted(max(-REACH, min(REACH, value)) for value in values)
    count = min(QUANTILES, len(ordered))
    quantiles = [round(_at(ordered, step / (count - 1)), 6) for step in range(count)]
    return DelayDistribution(kind="custom", quantiles=tuple(quantiles))


def _at(ordered: Sequence[float], probability: float) -> float:
    """The quantile of sorted values, linear between two of them."""
    position = probability * (len(ordered) - 1)
    low = min(int(position), len(ordered) - 2)
    return ordered[low] + (position - low) * (ordered[low + 1] - ordered[low])
