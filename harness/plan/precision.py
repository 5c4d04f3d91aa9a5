"""How narrow a 99% interval must be before a quantity is called as asked for. Pure.

An interval that holds what was asked for does not show that the link is so: a few packets show nothing. Each function
gives the range that the whole interval must lie in; wider, and the quantity is undecided.
"""

from __future__ import annotations

from harness.model.measurement import Depth
from harness.plan.intervals import Interval

TOLERANCES = 3.0
"""Of what has a tolerance, an error of so many of them must be excluded."""
JITTERS: dict[Depth, float] = {"quick": 1.0, "full": 0.5}
"""Of the delay on a link with jitter, an error of this share of the jitter, if that is more."""
FACTOR: dict[Depth, float] = {"quick": 4.0, "full": 2.0}
"""Of a share of packets or a length of bursts, an error by this factor."""
NOTHING: dict[Depth, float] = {"quick": 0.1, "full": 0.02}
"""Of what is to happen to no packet, that it happens to this share of them."""
FARTHEST: dict[Depth, float] = {"quick": 0.5, "full": 0.25}
"""Of a distribution, that it is this far away."""


def around(requested: float, tolerance: float, spread: float = 0.0) -> Interval:
    """For what has a tolerance. ``spread`` widens it."""
    radius = max(TOLERANCES * tolerance, spread)
    return requested - radius, requested + radius


def share(requested: float, depth: Depth) -> Interval:
    """For a share of packets."""
    if requested <= 0:
        return 0.0, NOTHING[depth]
    return requested / FACTOR[depth], min(1.0, requested * FACTOR[depth])


def length(requested: float, depth: Depth) -> Interval:
    """For the mean length of bursts, in packets."""
    return requested / FACTOR[depth], requested * FACTOR[depth]


def distance(depth: Depth) -> Interval:
    """For the distance of two distributions."""
    return 0.0, FARTHEST[depth]
