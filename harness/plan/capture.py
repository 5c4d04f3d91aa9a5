"""Where to listen to what a site or a link carries, and with which filter. Pure.

A link is heard at one of its ends: after the impairment at the destination's ``wan0``, what is left of it; before the
impairment at the source's, all that was sent.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from harness.model.base import Value
from harness.plan.addressing import WAN_INTERFACE, LabPlan, SitePlan

Where = Literal["before", "after"]


class Tap(Value):
    """One interface in one network namespace, and the filter (pcap-filter(7)) that belongs to it; empty for all."""

    netns: str
    interface: str
    expression: str = ""

    def narrowed(self, expression: str) -> str:
        """Its filter, and the user's as well."""
        return " and ".join(f"({part})" for part in (self.expression, expression) if part)


def tap_site(plan: LabPlan, name: str) -> Tap:
    """All that a site exchanges with the WAN, or one node of a larger site (``SITE.NAME``) with anybody.

    KeyError when there is neither.
    """
    if name in plan.sites_by_name:
        return Tap(netns=plan.site(name).netns, interface=WAN_INTERFACE)
    node = plan.node(name)
    return Tap(netns=node.netns, interface=node.interface)


def tap_link(plan: LabPlan, source: str, destination: str, where: Where = "after") -> Tap:
    """What a directed link carries. KeyError when one of the sites does not exist."""
    ends = {"after": destination, "before": source}
    direction, other = ("src", source) if where == "after" else ("dst", destination)
    networks = _networks(plan.site(other))
    expression = " or ".join(f"{direction} net {network}" for network in networks)
    return Tap(netns=plan.site(ends[where]).netns, interface=WAN_INTERFACE, expression=expression)


def _networks(site: SitePlan) -> list[IPv4Network | IPv6Network]:
    """Every network of a site that others see."""
    found: list[IPv4Network | IPv6Network | None] = [site.network, site.wan_network6]
    if site.edge is not None:
        found.append(site.edge.lan_network6)
    return [network for network in found if network is not None]
