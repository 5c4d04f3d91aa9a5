"""Two certificates of one topology held against each other: do both placements make the same WAN? Pure."""

from __future__ import annotations

from collections.abc import Iterable

from harness.model.base import Value
from harness.model.measurement import Certificate, LinkCertificate, Quantity, QuantityName, Unit


class Agreement(Value):
    """One quantity of one link in both. ``one`` and ``other`` are the 99% intervals of what was measured.

    ``gap`` is how far the intervals lie apart, 0 where they overlap. They agree when that is within ``tolerance``, the
    wider of what the certificates allow between asked and measured.
    """

    link: str
    quantity: QuantityName
    unit: Unit
    requested: float | None
    one: tuple[float, float]
    other: tuple[float, float]
    gap: float
    tolerance: float

    @property
    def overlap(self) -> bool:
        """Whether a value lies in both intervals."""
        return self.gap == 0

    @property
    def agree(self) -> bool:
        """Whether the two may be of the same WAN."""
        return self.gap <= self.tolerance


def agreement(one: Certificate, other: Certificate) -> tuple[Agreement, ...]:
    """Every quantity that both measured, link by link in the order of ``one``."""
    links = {link.name: link for link in other.links}
    return tuple(compared for link in one.links if link.name in links for compared in _of_link(link, links[link.name]))


def _of_link(one: LinkCertificate, other: LinkCertificate) -> Iterable[Agreement]:
    for quantity in one.quantities:
        counterpart = other.quantity(quantity.name)
        if counterpart is None:
            continue
        here, there = _interval(quantity), _interval(counterpart)
        if here is None or there is None:
            continue
        yield Agreement(
            link=one.name,
            quantity=quantity.name,
            unit=quantity.unit,
            requested=quantity.requested,
            one=here,
            other=there,
            gap=max(0.0, here[0] - there[1], there[0] - here[1]),
            tolerance=max(quantity.tolerance, counterpart.tolerance),
        )


def _interval(quantity: Quantity) -> tuple[float, float] | None:
    if quantity.low is None or quantity.high is None:
        return None
    return quantity.low, quantity.high
