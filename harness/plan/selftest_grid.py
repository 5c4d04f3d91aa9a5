"""The grid of conditions over which a machine's accuracy is told: which links, in which labs, measured how. Pure.

Each condition has a pair of sites to itself, both ways with the same delay; what else it asks for is on the link there.
Conditions that could disturb one another are measured in different groups: loss needs many packets, a rate and a
buffer are filled, and delay and order want a quiet core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Literal

from harness.model.base import Value
from harness.model.impairment import (
    Chance,
    DelayDistribution,
    GilbertElliottLoss,
    Impairment,
    IndependentLoss,
    Reordering,
)
from harness.model.measurement import LinkCertificate, QuantityName, Unit
from harness.model.topology import Link, Site, Topology
from harness.model.verdict import Verdict

Group = Literal["delay", "loss", "rate", "order"]
GROUPS: tuple[Group, ...] = ("delay", "loss", "rate", "order")
SITES_A_LAB = 8
RTTS_MS = (0, 10, 80, 300)
LOSSES = (0.001, 0.01, 0.05)
BURSTS = ((0.01, 4.0), (0.01, 12.0), (0.05, 4.0), (0.05, 12.0))
"""Mean loss, and mean packets lost in a row."""
JITTERS: tuple[tuple[Literal["uniform", "normal", "paretonormal"], float], ...] = (
    ("uniform", 1.0),
    ("uniform", 5.0),
    ("uniform", 20.0),
    ("normal", 5.0),
    ("paretonormal", 5.0),
)
"""Shape, and jitter in milliseconds; on a delay of five jitters, so that no packet would have to arrive too early."""
RATES_MBPS = (1, 20, 100)
FAST_MBPS = 300
BUFFERS_MS = (10, 50, 200)
REORDERED = (0.01, 0.05, 0.2)
DUPLICATED = (0.01, 0.05)
CORRUPTED = 0.01
_ROOMY_MS, _ROOMY_PACKETS = 20, 40
"""Depth of the buffers of conditions that are not about buffers, whichever is more: probes that a busy machine sends
together must find room."""

LinkKey = tuple[str, str]


class Condition(Value):
    """One link's impairment, what it is called, and the quantities that it is about."""

    name: str
    group: Group
    impairment: Impairment
    about: tuple[QuantityName, ...]


class GridLab(Value):
    """A lab, and which of its links carries which condition."""

    topology: Topology
    conditions: tuple[Condition, ...]
    links: tuple[LinkKey, ...]

    def batches(self) -> tuple[tuple[Group, tuple[LinkKey, ...]], ...]:
        """The links of each group: those that are measured at a time."""
        found = {
            group: tuple(link for link, one in zip(self.links, self.conditions, strict=True) if one.group == group)
            for group in GROUPS
        }
        return tuple((group, links) for group, links in found.items() if links)


class GridRow(Value):
    """One quantity of one condition: asked against measured, with the 99% interval of what was measured.

    ``subject``: the condition is about this quantity. Units as in Quantity.
    """

    condition: str
    group: Group
    quantity: QuantityName
    unit: Unit
    subject: bool
    requested: float | None
    measured: float | None
    low: float | None
    high: float | None
    tolerance: float
    samples: int
    verdict: Verdict | None
    reason: str

    @property
    def error(self) -> float | None:
        """Measured minus asked."""
        if self.measured is None or self.requested is None:
            return None
        return self.measured - self.requested

    @property
    def relative_error(self) -> float | None:
        """The error as a share of what was asked; None where that is zero or unknown."""
        return None if self.error is None or not self.requested else self.error / self.requested


class GridSummary(Value):
    """One quantity over all conditions that are about it. Shares are of what was asked."""

    quantity: QuantityName
    conditions: int
    passed: int
    undecided: int
    unit: Unit
    worst_error: float | None
    worst_share: float | None
    worst_condition: str


def grid() -> tuple[Condition, ...]:
    """All conditions, each with a name of its own."""
    return (*_delays(), *_losses(), *_rates(), *_orders())


def labs(conditions: Sequence[Condition], sites: int = SITES_A_LAB) -> tuple[GridLab, ...]:
    """The conditions on as few labs of so many sites as hold them, each on a pair of sites of its own."""
    names = [f"s{index}" for index in range(sites)]
    pairs = list(combinations(names, 2))
    return tuple(
        _lab(f"selftest-{number}", names, pairs, conditions[start : start + len(pairs)])
        for number, start in enumerate(range(0, len(conditions), len(pairs)), start=1)
    )


def rows(condition: Condition, certificate: LinkCertificate) -> tuple[GridRow, ...]:
    """What was measured of one condition, as the lines of a table."""
    return tuple(
        GridRow(
            condition=condition.name,
            group=condition.group,
            quantity=one.name,
            unit=one.unit,
            subject=one.name in condition.about,
            requested=one.requested,
            measured=one.measured,
            low=one.low,
            high=one.high,
            tolerance=one.tolerance,
            samples=one.samples,
            verdict=one.verdict,
            reason=one.reason,
        )
        for one in certificate.quantities
    )


def summary(table: Iterable[GridRow]) -> tuple[GridSummary, ...]:
    """For each quantity, how many of the conditions that are about it are as asked, and the largest error."""
    by_quantity: dict[QuantityName, list[GridRow]] = {}
    for row in table:
        if row.subject:
            by_quantity.setdefault(row.quantity, []).append(row)
    return tuple(_summarised(quantity, found) for quantity, found in by_quantity.items())


def _summarised(quantity: QuantityName, found: Sequence[GridRow]) -> GridSummary:
    told = [row for row in found if row.error is not None]
    worst = max(told, key=lambda row: abs(row.error or 0.0), default=None)
    shares = [abs(row.relative_error) for row in told if row.relative_error is not None]
    return GridSummary(
        quantity=quantity,
        conditions=len(found),
        passed=sum(row.verdict is Verdict.PASS for row in found),
        undecided=sum(row.verdict is None for row in found),
        unit=found[0].unit,
        worst_error=None if worst is None else worst.error,
        worst_share=max(shares, default=None),
        worst_condition="" if worst is None else worst.condition,
    )


def _lab(name: str, names: Sequence[str], pairs: Sequence[LinkKey], conditions: Sequence[Condition]) -> GridLab:
    there: Mapping[LinkKey, Condition] = dict(zip(pairs, conditions, strict=False))
    impairments = {pair: condition.impairment for pair, condition in there.items()}
    # The way back has the same delay, and nothing else.
    impairments |= {(b, a): Impairment(delay_us=one.impairment.delay_us) for (a, b), one in there.items()}
    links = tuple(
        Link(source=a, destination=b, impairment=impairments.get((a, b), Impairment()))
        for a in names
        for b in names
        if a != b
    )
    topology = Topology(name=name, sites=tuple(Site(name=one) for one in names), links=links)
    return GridLab(topology=topology, conditions=tuple(conditions), links=tuple(there))


def _delays() -> Iterable[Condition]:
    for rtt_ms in RTTS_MS:
        yield Condition(
            name=f"RTT {rtt_ms} ms",
            group="delay",
            impairment=_base(rtt_ms),
            about=("one-way delay", "rtt", "loss"),
        )
    for shape, jitter_ms in JITTERS:
        yield Condition(
            name=f"jitter {jitter_ms:g} ms {shape}",
            group="delay",
            impairment=Impairment(
                delay_us=round(5000 * jitter_ms),
                jitter_us=round(1000 * jitter_ms),
                distribution=DelayDistribution(kind=shape),
            ),
            about=("jitter", "delay distribution"),
        )


def _losses() -> Iterable[Condition]:
    for rtt_ms in RTTS_MS:
        for share in LOSSES:
            yield Condition(
                name=f"loss {share:.1%}, RTT {rtt_ms} ms",
                group="loss",
                impairment=_base(rtt_ms, loss=IndependentLoss(probability=share)),
                about=("rtt", "loss"),
            )
    for share, burst in BURSTS:
        loss = GilbertElliottLoss(good_to_bad=share / (1 - share) / burst, bad_to_good=1 / burst)
        yield Condition(
            name=f"loss {share:.1%} in bursts of {burst:g}",
            group="loss",
            impairment=_base(80, loss=loss),
            about=("loss", "burst"),
        )


def _rates() -> Iterable[Condition]:
    for rtt_ms in RTTS_MS[1:]:
        for mbps in RATES_MBPS:
            yield Condition(
                name=f"rate {mbps} Mbit/s, RTT {rtt_ms} ms",
                group="rate",
                impairment=_bottleneck(rtt_ms, mbps),
                about=("rtt", "rate"),
            )
    yield Condition(
        name=f"rate {FAST_MBPS} Mbit/s, RTT 10 ms",
        group="rate",
        impairment=_bottleneck(10, FAST_MBPS),
        about=("rtt", "rate"),
    )
    for mbps in RATES_MBPS[1:]:
        for depth_ms in BUFFERS_MS:
            yield Condition(
                name=f"buffer {depth_ms} ms at {mbps} Mbit/s",
                group="rate",
                impairment=_bottleneck(10, mbps, depth_ms),
                about=("rate", "buffer"),
            )


def _orders() -> Iterable[Condition]:
    for share in REORDERED:
        yield Condition(
            name=f"reordering {share:.0%}",
            group="order",
            impairment=_base(80, reorder=Reordering(share=share)),
            about=("reordering",),
        )
    for share in DUPLICATED:
        yield Condition(
            name=f"duplication {share:.0%}",
            group="order",
            impairment=_base(80, duplicate=Chance(share=share)),
            about=("duplication",),
        )
    yield Condition(
        name=f"corruption {CORRUPTED:.0%}",
        group="order",
        impairment=_base(80, corrupt=Chance(share=CORRUPTED)),
        about=("corruption",),
    )


def _base(rtt_ms: int, **more: object) -> Impairment:
    return Impairment.model_validate({"delay_us": rtt_ms * 500, **more})


def _bottleneck(rtt_ms: int, mbps: int, depth_ms: int | None = None) -> Impairment:
    size = max(mbps * 125 * _ROOMY_MS, 1500 * _ROOMY_PACKETS) if depth_ms is None else mbps * 125 * depth_ms
    return _base(rtt_ms, rate_bps=mbps * 1_000_000, buffer_bytes=size)
