"""The models of an impairment in netem's numbers, and back: loss, chances, reordering, slots, and the distributions
whose tables they need. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from harness.model.impairment import (
    UNIFORM,
    Chance,
    DelayDistribution,
    FourStateLoss,
    GilbertElliottLoss,
    Impairment,
    IndependentLoss,
    Loss,
    Reordering,
    Slots,
)
from harness.plan.delay_distribution import fingerprint
from harness.plan.qdisc_settings import (
    U32_MAX,
    FourStateSettings,
    GilbertElliottSettings,
    NetemSettings,
    SlotSettings,
)

_SLOT_TABLE = 2**62
"""Stands in the longest delay of slots that go by a table; its fingerprint is in the shortest."""
_DECIMALS = 9
"""Probabilities are kept by the kernel in units of 2**-32: nine decimals survive the way there and back."""

_NAMED = (UNIFORM, *(DelayDistribution(kind=kind) for kind in ("normal", "pareto", "paretonormal")))


def distribution_of(table: int, known: Mapping[int, DelayDistribution]) -> DelayDistribution:
    """The distribution whose table has this fingerprint: netem's own uniform one (0), one of ``known``, a named one;
    else a custom one without quantiles."""
    if table == 0:
        return UNIFORM
    if table in known:
        return known[table]
    return next((named for named in _NAMED if fingerprint(named) == table), DelayDistribution(kind="custom"))


def loss_settings(impairment: Impairment) -> NetemSettings:
    """The loss alone; all else is still to come."""
    none = NetemSettings(limit=0, ecn=impairment.loss_marks)
    match impairment.loss:
        case None:
            return none
        case IndependentLoss() as loss:
            chance = to_u32(loss.probability)
            if chance == U32_MAX:
                # Certain loss is a black hole, which marks nothing.
                return NetemSettings(limit=0, loss=U32_MAX)
            return none._replace(loss=chance, loss_correlation=to_u32(loss.correlation) if chance else 0)
        case GilbertElliottLoss() as loss:
            settings = GilbertElliottSettings(
                p=to_u32(loss.good_to_bad),
                r=to_u32(loss.bad_to_good),
                h=to_u32(1 - loss.loss_in_bad),
                k1=to_u32(loss.loss_in_good),
            )
            return none._replace(gilbert_elliott=settings)
        case FourStateLoss() as loss:
            p13, p14 = _two_ways(loss.p13, loss.p14)
            p31, p32 = _two_ways(loss.p31, loss.p32)
            states = FourStateSettings(p13=p13, p31=p31, p32=p32, p14=p14, p23=to_u32(loss.p23))
            return none._replace(four_state=states)


def _two_ways(one: float, other: float) -> tuple[int, int]:
    """The chances to leave a state in two ways. netem adds them in 32 bits, where two rounded halves make nothing."""
    first = to_u32(one)
    return first, min(to_u32(other), max(0, U32_MAX - first))


def loss_of(settings: NetemSettings) -> Loss | None:
    """The loss in these settings; None when they lose nothing."""
    burst, states = settings.gilbert_elliott, settings.four_state
    if burst is not None:
        return GilbertElliottLoss(
            good_to_bad=from_u32(burst.p),
            bad_to_good=from_u32(burst.r),
            loss_in_bad=from_u32(U32_MAX - burst.h),
            loss_in_good=from_u32(burst.k1),
        )
    if states is not None:
        return FourStateLoss(
            p13=from_u32(states.p13),
            p31=from_u32(states.p31),
            p32=from_u32(states.p32),
            p23=from_u32(states.p23),
            p14=from_u32(states.p14),
        )
    if not settings.loss:
        return None
    return IndependentLoss(probability=from_u32(settings.loss), correlation=from_u32(settings.loss_correlation))


def slot_settings(slots: Slots | None) -> tuple[SlotSettings | None, DelayDistribution | None]:
    """The slots, and the distribution whose table they need: always one, since a table that was set once stays."""
    if slots is None:
        return None, None
    if slots.distribution is not None:
        if not slots.jitter_us:
            raise ValueError("slots by a distribution need a jitter; a fixed time is min and max alike")
        settings = SlotSettings(
            min_delay_ns=fingerprint(slots.distribution),
            max_delay_ns=_SLOT_TABLE,
            packets=slots.packets,
            bytes=slots.bytes,
            dist_delay_ns=slots.delay_us * 1000,
            dist_jitter_ns=slots.jitter_us * 1000,
        )
        return settings, slots.distribution
    low, high = slots.min_delay_us * 1000, slots.max_delay_us * 1000
    if not 0 < low <= high:
        raise ValueError("slots need a time between two openings: 0 < min <= max")
    settings = SlotSettings(
        min_delay_ns=low,
        max_delay_ns=high,
        packets=slots.packets,
        bytes=slots.bytes,
        dist_delay_ns=(low + high) // 2,
        dist_jitter_ns=(high - low) // 2,
    )
    return settings, UNIFORM


def slots_of(slot: SlotSettings | None, names: Mapping[int, DelayDistribution]) -> Slots | None:
    """The inverse of ``slot_settings``; ``names``: distributions by fingerprint."""
    if slot is None:
        return None
    if slot.max_delay_ns == _SLOT_TABLE:
        return Slots(
            packets=slot.packets,
            bytes=slot.bytes,
            delay_us=slot.dist_delay_ns // 1000,
            jitter_us=slot.dist_jitter_ns // 1000,
            distribution=distribution_of(slot.min_delay_ns, names),
        )
    return Slots(
        min_delay_us=slot.min_delay_ns // 1000,
        max_delay_us=slot.max_delay_ns // 1000,
        packets=slot.packets,
        bytes=slot.bytes,
    )


def chance_of(share: int, correlation: int) -> Chance | None:
    """A share and a correlation of the kernel; None when it never happens."""
    return Chance(share=from_u32(share), correlation=from_u32(correlation)) if share else None


def reordering_of(settings: NetemSettings) -> Reordering | None:
    """The reordering in these settings; None when there is none."""
    if not settings.gap:
        return None
    return Reordering(
        share=from_u32(settings.reorder),
        correlation=from_u32(settings.reorder_correlation),
        gap=settings.gap,
    )


def to_u32(probability: float) -> int:
    """A probability in units of 1/(2**32-1)."""
    return round(probability * U32_MAX)


def from_u32(value: int) -> float:
    """The inverse, rounded to what survives the way there and back."""
    return round(value / U32_MAX, _DECIMALS)
