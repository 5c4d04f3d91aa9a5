"""The linter's rules on sites, load, and what the whole core carries. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.topology import CrossTraffic, Link, Topology
from harness.model.units import brief_rate, brief_share
from harness.plan.lint_finding import Capacity, LintFinding
from harness.plan.lint_link import IPV6_LEAST_MTU

FULL_SHARE = 0.9
"""Cross traffic above this share of a link leaves the software under test nothing that it could use."""


def check_sites(topology: Topology) -> Iterator[LintFinding]:
    """The topology's MTU, and sites that others cannot reach."""
    if topology.mtu < IPV6_LEAST_MTU:
        yield LintFinding(
            severity="warning",
            rule="mtu-below-ipv6",
            subject=("mtu",),
            reason=f"IPv6 needs {IPV6_LEAST_MTU} B on every link (RFC 8200): with {topology.mtu} B the lab has IPv4 "
            "alone",
            instead=f"mtu: {IPV6_LEAST_MTU} or more, unless only IPv4 is to be tested",
        )
    behind = [site.name for site in topology.sites if site.nat is not None]
    for name in behind:
        yield LintFinding(
            severity="note",
            rule="nat-hides-site",
            subject=("site", name, "nat"),
            reason=f"nobody can open a connection to {name}: software that listens there is reached only over "
            "connections that it opened itself",
        )
    if len(behind) > 1:
        yield LintFinding(
            severity="warning",
            rule="nat-hides-pair",
            subject=("site", behind[1], "nat"),
            reason=f"{', '.join(behind)} are all behind NAT, so no two of them can connect to one another",
            instead="one of them without nat, unless traversal of NAT is what you test",
        )
    if len(behind) == len(topology.sites):
        yield LintFinding(
            severity="error",
            rule="nat-hides-all",
            subject=("site", behind[0], "nat"),
            reason="every site is behind NAT: no connection can be opened at all",
            instead="at least one site without nat",
        )


def check_cross_traffic(topology: Topology) -> Iterator[LintFinding]:
    """Load that its link cannot carry, or that never arrives."""
    hidden = {site.name for site in topology.sites if site.nat is not None}
    asked: dict[tuple[str, str], int] = {}
    for index, load in enumerate(topology.cross_traffic):
        link = _link(topology, load)
        if load.destination in hidden:
            yield LintFinding(
                severity="error",
                rule="cross-traffic-into-nat",
                subject=("cross_traffic", index, "to"),
                reason=f"{load.destination} is behind NAT, and cross traffic is sent to it unasked: it never arrives",
                instead="the other direction, or a destination without nat",
            )
        if link is None:
            continue
        mtu = topology.mtu if link.mtu is None else min(topology.mtu, link.mtu)
        if load.pattern != "tcp" and load.packet_bytes > mtu:
            yield LintFinding(
                severity="warning",
                rule="cross-traffic-fragments",
                subject=("cross_traffic", index, "packet"),
                reason=f"packets of {load.packet_bytes} B are cut in pieces on a link with an MTU of {mtu} B",
                instead=f"packet: {mtu} B or less",
            )
        yield from _load(index, load, link, asked)


def _load(index: int, load: CrossTraffic, link: Link, asked: dict[tuple[str, str], int]) -> Iterator[LintFinding]:
    rate = link.impairment.rate_bps
    if rate is None or load.rate_bps is None or load.pattern == "tcp":
        return
    ends = (link.source, link.destination)
    asked[ends] = asked.get(ends, 0) + load.rate_bps
    if asked[ends] > rate:
        yield LintFinding(
            severity="warning",
            rule="cross-traffic-above-rate",
            subject=("cross_traffic", index, "rate"),
            reason=f"{brief_rate(asked[ends])} of cross traffic are more than {link.name} carries "
            f"({brief_rate(rate)}): its buffer is always full, and most of what else is sent gets lost",
            instead=f"rate: {brief_rate(rate / 2)}",
        )
    elif asked[ends] > FULL_SHARE * rate:
        yield LintFinding(
            severity="note",
            rule="cross-traffic-fills-link",
            subject=("cross_traffic", index, "rate"),
            reason=f"it takes {brief_share(asked[ends] / rate)} of {link.name}, while it sends",
        )


def _link(topology: Topology, load: CrossTraffic) -> Link | None:
    try:
        return topology.link(load.source, load.destination)
    except KeyError:
        return None


def check_capacity(topology: Topology, capacity: Capacity) -> Iterator[LintFinding]:
    """Whether this core has room for the sites, and what all links together would ask of it."""
    if len(topology.sites) > capacity.max_sites:
        yield LintFinding(
            severity="error",
            rule="sites-above-core",
            subject=("sites",),
            reason=f"{len(topology.sites)} sites; a core in a {_place(capacity)} holds {capacity.max_sites}",
            instead=f"at most {capacity.max_sites} sites (--sites {capacity.max_sites})",
        )
    rates = [link.impairment.rate_bps for link in topology.links if link.impairment.rate_bps is not None]
    packets = sum(rates) / (topology.mtu * 8)
    if packets > capacity.packets_per_s:
        yield LintFinding(
            severity="note",
            rule="load-above-core",
            subject=("links",),
            reason=f"all {len(rates)} links full at a time are {packets / 1000:.0f} thousand packets/s; the core "
            f"carries {capacity.packets_per_s / 1000:.0f} thousand ({capacity.source})",
            instead="lower rates, where a test loads every link at a time",
        )


def _place(capacity: Capacity) -> str:
    return "micro-VM" if capacity.placement == "vm" else "namespace"
