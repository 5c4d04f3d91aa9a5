"""A delay with its jitter and distribution for a set of measured delays, and how well it fits. Pure.

Each candidate gets the sample's own moments: the mean is the delay, the standard deviation the jitter, except that a
uniform jitter is the half width (sqrt(3) deviations). Goodness of fit is the distance of Kolmogorov and Smirnov, the
largest difference of the two cumulative distributions. The critical distance for n samples and 5% with parameters taken
from the sample is about 0.895 / sqrt(n) (Lilliefors 1967, for the normal; used here as a yardstick for all). When no
named shape comes near that, the sample's own quantiles are the distribution. Those are judged by the distance between
the first half of the samples and the second, against the critical one of two samples, 1.36 * sqrt(2 / (n/2)): a path
that changed its ways while it was measured is above it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Literal

from harness.model.base import Value

Shape = Literal["none", "uniform", "normal", "pareto", "samples"]
CRITICAL = 0.895
CRITICAL_OF_TWO = 1.36
FEWEST_SAMPLES = 20
FEWEST_FOR_A_SHAPE = 100
"""Below this many samples the quantiles of a sample are mostly chance."""
NO_JITTER_US = 50.0
"""A deviation below this is the measuring host's own."""
NO_JITTER_SHARE = 0.001
PARETO_SHAPE = 3.0
"""netem's tables are made with this shape (iproute2, netem/pareto.c)."""


class ShapeFit(Value):
    """One shape with its jitter in microseconds, and its distance from the sample."""

    shape: Shape
    jitter_us: float
    distance: float


class DelayFit(Value):
    """Delay and jitter in microseconds; ``distance`` and ``critical`` are of Kolmogorov and Smirnov."""

    samples: int
    delay_us: float
    jitter_us: float
    shape: Shape
    distance: float
    critical: float
    minimum_us: float
    median_us: float
    p99_us: float
    candidates: tuple[ShapeFit, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the sample could well have been drawn from it."""
        return self.distance <= self.critical


def fit_delay(delays_us: Sequence[float]) -> DelayFit:
    """The best shape of these delays. Raises ValueError for fewer than FEWEST_SAMPLES."""
    ordered = sorted(delays_us)
    count = len(ordered)
    if count < FEWEST_SAMPLES:
        raise ValueError(f"{count} delays say too little; at least {FEWEST_SAMPLES} are needed")
    mean = math.fsum(ordered) / count
    deviation = math.sqrt(math.fsum((delay - mean) ** 2 for delay in ordered) / count)
    critical = CRITICAL / math.sqrt(count)
    fits: tuple[ShapeFit, ...] = ()
    if deviation <= max(NO_JITTER_US, NO_JITTER_SHARE * abs(mean)):
        # A median is not moved by the few that the measuring host delayed.
        chosen = ShapeFit(shape="none", jitter_us=0.0, distance=0.0)
        mean = ordered[count // 2]
    else:
        fits = tuple(
            sorted(
                (
                    ShapeFit(
                        shape=shape,
                        jitter_us=deviation * width,
                        distance=_distance(ordered, mean, deviation, cumulative),
                    )
                    for shape, width, cumulative in _SHAPES
                ),
                key=lambda fit: fit.distance,
            )
        )
        chosen = fits[0]
        if chosen.distance > critical and count >= FEWEST_FOR_A_SHAPE:
            chosen = ShapeFit(shape="samples", jitter_us=deviation, distance=_halves_apart(delays_us))
            critical = CRITICAL_OF_TWO * math.sqrt(4 / count)
            fits = (*fits, chosen)
    return DelayFit(
        samples=count,
        delay_us=mean,
        jitter_us=chosen.jitter_us,
        shape=chosen.shape,
        distance=chosen.distance,
        critical=critical,
        minimum_us=ordered[0],
        median_us=ordered[count // 2],
        p99_us=ordered[min(count - 1, math.ceil(0.99 * count) - 1)],
        candidates=fits,
    )


def quantiles(delays_us: Sequence[float], count: int) -> tuple[float, ...]:
    """So many quantiles at equally spaced probabilities from 0 to 1, with linear interpolation between samples."""
    ordered = sorted(delays_us)
    found = []
    for index in range(count):
        place = index / (count - 1) * (len(ordered) - 1)
        below = min(int(place), len(ordered) - 2)
        found.append(ordered[below] + (ordered[below + 1] - ordered[below]) * (place - below))
    return tuple(found)


def fitted_quantiles(fit: DelayFit, count: int) -> tuple[float, ...]:
    """So many quantiles of the fitted delay, of a shape with a name, at the middles of equal probabilities."""
    inverse: dict[Shape, Callable[[float], float]] = {
        "uniform": _uniform_quantile,
        "normal": NormalDist().inv_cdf,
        "pareto": _pareto_quantile,
    }
    shape = inverse.get(fit.shape, _steady)
    return tuple(fit.delay_us + fit.jitter_us * shape((index + 0.5) / count) for index in range(count))


def _steady(_share: float) -> float:
    return 0.0


def _uniform_quantile(share: float) -> float:
    """In half widths around the mean, as a uniform jitter is given."""
    return 2 * share - 1


def _pareto_quantile(share: float) -> float:
    a = PARETO_SHAPE
    return float((1 - share) ** (-1 / a) - a / (a - 1)) / math.sqrt(a / ((a - 1) ** 2 * (a - 2)))


def _distance(ordered: Sequence[float], mean: float, deviation: float, cumulative: Callable[[float], float]) -> float:
    """The largest vertical distance between the sample's steps and a standardised distribution."""
    count = len(ordered)
    worst = 0.0
    for index, delay in enumerate(ordered):
        expected = cumulative((delay - mean) / deviation)
        worst = max(worst, expected - index / count, (index + 1) / count - expected)
    return worst


def _halves_apart(delays_us: Sequence[float]) -> float:
    """The distance of two samples: the first half of the delays, as they came, and the second."""
    middle = len(delays_us) // 2
    first, second = sorted(delays_us[:middle]), sorted(delays_us[middle:])
    return max(
        abs(bisect_right(first, delay) / len(first) - bisect_right(second, delay) / len(second)) for delay in delays_us
    )


def _uniform(z: float) -> float:
    return min(1.0, max(0.0, 0.5 + z / (2 * math.sqrt(3))))


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _pareto(z: float) -> float:
    """Pareto's with mean 0 and deviation 1: for shape a the mean is a/(a-1), the variance a/((a-1)^2 (a-2))."""
    a = PARETO_SHAPE
    x = z * math.sqrt(a / ((a - 1) ** 2 * (a - 2))) + a / (a - 1)
    return 1 - x**-a if x > 1 else 0.0


_SHAPES: tuple[tuple[Shape, float, Callable[[float], float]], ...] = (
    ("uniform", math.sqrt(3), _uniform),
    ("normal", 1.0, _normal),
    ("pareto", 1.0, _pareto),
)
