"""Small topologies for tests of labs."""

from __future__ import annotations

from harness.model.impairment import Impairment
from harness.model.topology import Link, Outage, Site, Topology


def two_sites(delay_us: int = 10_000, timeline: tuple[Outage, ...] = ()) -> Topology:
    """East and west, 20 ms apart."""
    impairment = Impairment(delay_us=delay_us)
    return Topology(
        name="two-sites",
        sites=(Site(name="east"), Site(name="west")),
        links=(
            Link(source="east", destination="west", impairment=impairment),
            Link(source="west", destination="east", impairment=impairment),
        ),
        timeline=timeline,
    )
