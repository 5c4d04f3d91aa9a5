"""One quantity of a link judged by one rule, and put in words. Pure."""

from __future__ import annotations

import math

from harness.model.measurement import Quantity, QuantityName, Unit
from harness.model.units import brief_duration, brief_rate, brief_share, brief_size
from harness.model.verdict import Verdict
from harness.plan.intervals import Interval

_WORDS: dict[QuantityName, str] = {
    "one-way delay": "one-way delay",
    "rtt": "RTT",
    "jitter": "jitter",
    "delay distribution": "distance of the delays from their distribution",
    "loss": "loss",
    "burst": "mean loss burst",
    "reordering": "reordered packets",
    "duplication": "duplicated packets",
    "corruption": "damaged packets",
    "rate": "rate",
    "buffer": "buffer",
}
_MILLISECOND = 1000.0
_PRECISION = 1e-9
"""Sums of floating-point numbers that are equal on paper."""


def judged(
    name: QuantityName,
    unit: Unit,
    *,
    requested: float,
    measured: float,
    interval: Interval,
    samples: int,
    method: str,
    within: Interval,
    tolerance: float = 0.0,
) -> Quantity:
    """INVALID when the whole interval lies further than the tolerance from what was requested; undecided when it is
    not, but does not lie ``within`` the range that harness.plan.precision gives."""
    low, high = interval
    slack = tolerance + _PRECISION * max(1.0, abs(requested))
    wrong = low > requested + slack or high < requested - slack
    wide = not wrong and (low < within[0] - slack or high > within[1] + slack)
    needed = (
        f"not precise enough: the interval is to lie within {figure(within[0], unit)} and {figure(within[1], unit)}"
    )
    return Quantity(
        name=name,
        unit=unit,
        requested=requested,
        measured=measured,
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        tolerance=tolerance,
        samples=samples,
        verdict=Verdict.INVALID if wrong else None if wide else Verdict.PASS,
        method=method,
        reason=needed if wide else "",
        undecided=wide,
    )


def failed(
    name: QuantityName, unit: Unit, *, requested: float, samples: int, method: str, reason: str, tolerance: float = 0.0
) -> Quantity:
    """INVALID because there is nothing where something should be."""
    return Quantity(
        name=name,
        unit=unit,
        requested=requested,
        tolerance=tolerance,
        samples=samples,
        verdict=Verdict.INVALID,
        method=method,
        reason=reason,
    )


def untold(
    name: QuantityName,
    unit: Unit,
    reason: str,
    *,
    requested: float | None = None,
    measured: float | None = None,
    samples: int = 0,
    method: str = "",
    undecided: bool = False,
) -> Quantity:
    """No verdict, and why. ``undecided``: it could have been told."""
    return Quantity(
        name=name,
        unit=unit,
        requested=requested,
        measured=measured,
        samples=samples,
        verdict=None,
        method=method,
        reason=reason,
        undecided=undecided,
    )


def told(quantity: Quantity) -> str:
    """A quantity that is wrong, in one line."""
    name = _WORDS[quantity.name]
    if quantity.requested is None or quantity.measured is None:
        return f"{name}: {quantity.reason}"
    unit = quantity.unit
    asked = figure(quantity.requested, unit)
    if quantity.tolerance:
        asked += f" ± {figure(quantity.tolerance, unit)}"
    return f"{name} {figure(quantity.measured, unit)} ({span(quantity)}) where {asked} was asked for"


def span(quantity: Quantity) -> str:
    """The interval in words."""
    ends = (quantity.low, quantity.high)
    low, high = ("?" if end is None else figure(end, quantity.unit) for end in ends)
    return f"{low} to {high}"


def figure(value: float, unit: Unit) -> str:
    """A number of this unit as people write it."""
    if unit == "us":
        # To 10 us, so that delays compare at a glance.
        return f"{value / 1000:.2f} ms" if abs(value) >= _MILLISECOND else brief_duration(value)
    if unit == "share":
        return brief_share(value)
    if unit == "bps":
        return brief_rate(value)
    if unit == "bytes":
        return brief_size(value)
    return f"{value:.3g}" if unit == "distance" else f"{value:.2f} packets"
