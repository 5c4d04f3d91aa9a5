"""Addresses, interface names and MACs of a lab, from its slot number alone. Pure.

IPv4 is from RFC 2544's benchmarking range 198.18.0.0/15, IPv6 from RFC 5180's, 2001:2::/48; neither is ever routed
publicly. A lab has one of 16 slots:

| what | where | for each lab | for each site or node |
|---|---|---|---|
| WAN, IPv4 | 198.18.0.0/16 | /20 | /27: the first /29 is the site's line to the core, the second /28 its LAN |
| WAN, IPv6 | 2001:2::/48 | /56 | /64 for the line to the core, /64 for the LAN |
| management | 198.19.0.0/16 | /20 | /31 for each node; IPv4 alone |
| behind NAT | 192.168.77.0/24 | the same in all | the LAN of every site behind NAT |

A site with one node and no NAT is that node: the line ends at the node's ``wan0``. Any other site has an edge, a router
in a namespace of its own: its ``wan0`` ends the line, and its LAN is a bridge with every node's ``lan0``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

from pydantic import Field

from harness.model.base import Value
from harness.model.topology import MAX_NODES_OF_A_SITE, MAX_SITES, Nat, Topology

LAB_ID_PATTERN = r"^[a-z0-9]{1,6}$"
LAB_SLOTS = 16
WAN_RANGE = IPv4Network("198.18.0.0/16")
WAN_RANGE6 = IPv6Network("2001:2::/48")
MANAGEMENT_RANGE = IPv4Network("198.19.0.0/16")
NAT_RANGE = IPv4Network("192.168.77.0/24")
WAN_INTERFACE = "wan0"
LAN_INTERFACE = "lan0"
MANAGEMENT_INTERFACE = "mgmt0"
SMALLEST_MTU6 = 1280
"""IPv6 runs on no line with a smaller MTU (RFC 8200, section 5)."""

PROBE_PORT = 40404
"""UDP and TCP port of the harness's own measurements, which an edge with NAT lets in, to its first node."""

_SLOT_BITS = 12
_SITE_BITS = 5
_LAN_OFFSET = 16
_LAN_SUBNET6 = 0x80


class NodePlan(Value):
    """One host of a site.

    ``address`` and ``address6`` are its own, on ``interface``; ``public_address`` is where other sites find it, which
    differs behind NAT. ``address6`` is None where the lab has no IPv6.
    """

    name: str
    site: str
    index: int
    netns: str
    interface: Literal["wan0", "lan0"]
    address: IPv4Address
    address6: IPv6Address | None
    public_address: IPv4Address
    mac: str
    management_host_interface: str
    management_host_address: IPv4Address
    management_address: IPv4Address


class EdgePlan(Value):
    """A site's router. ``lan_address`` and ``lan_address6`` are its own on the LAN; ``extra_addresses`` on ``wan0``
    serve a NAT that moves to another address."""

    lan_network: IPv4Network
    lan_address: IPv4Address
    lan_network6: IPv6Network | None
    lan_address6: IPv6Address | None
    lan_mac: str
    nat: Nat | None
    extra_addresses: tuple[IPv4Address, ...]


class SitePlan(Value):
    """One site's place in the lab. ``index`` counts from 0 in the topology's order.

    ``netns`` is where ``wan0`` is: the edge's if there is one, else the only node's. ``network`` holds all IPv4
    addresses of the site that others see, ``wan_network`` those on its line to the core.
    """

    site: str
    index: int
    netns: str
    network: IPv4Network
    wan_network: IPv4Network
    wan_address: IPv4Address
    wan_gateway: IPv4Address
    wan_network6: IPv6Network | None
    wan_address6: IPv6Address | None
    wan_gateway6: IPv6Address | None
    wan_mac: str
    gateway_mac: str
    edge: EdgePlan | None
    nodes: tuple[NodePlan, ...]


class LabPlan(Value):
    """Where everything in a lab goes. ``slot`` is unique among the labs that are up on this host."""

    lab_id: str = Field(pattern=LAB_ID_PATTERN)
    slot: int = Field(ge=0, lt=LAB_SLOTS)
    topology: Topology
    sites: tuple[SitePlan, ...]

    @property
    def nodes(self) -> tuple[NodePlan, ...]:
        """All nodes, site by site."""
        return tuple(node for site in self.sites for node in site.nodes)

    @property
    def ipv6(self) -> bool:
        """Whether the lab is dual-stack."""
        return any(site.wan_network6 is not None for site in self.sites)

    @cached_property
    def sites_by_name(self) -> Mapping[str, SitePlan]:
        """Index of the sites."""
        return {site.site: site for site in self.sites}

    def site(self, name: str) -> SitePlan:
        """The plan of one site; KeyError when there is none."""
        return self.sites_by_name[name]

    def node(self, name: str) -> NodePlan:
        """The plan of one node; KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)


def management_slot(address: IPv4Address) -> int:
    """The lab slot that a management address belongs to."""
    return (int(address) - int(MANAGEMENT_RANGE.network_address)) >> _SLOT_BITS


def plan_lab(topology: Topology, lab_id: str, slot: int, *, ipv6: bool = True) -> LabPlan:
    """Place every site and node of ``topology``; without IPv6 also where its MTU is too small for it.

    Raises ValueError for more than MAX_SITES sites, or a site with more than MAX_NODES_OF_A_SITE nodes.
    """
    if len(topology.sites) > MAX_SITES:
        raise ValueError(f"{len(topology.sites)} sites; a lab holds at most {MAX_SITES}")
    sites: list[SitePlan] = []
    placed = 0
    for index in range(len(topology.sites)):
        sites.append(_plan_site(topology, lab_id, slot, index, placed, ipv6 and topology.mtu >= SMALLEST_MTU6))
        placed += len(sites[-1].nodes)
    return LabPlan(lab_id=lab_id, slot=slot, topology=topology, sites=tuple(sites))


def _plan_site(topology: Topology, lab_id: str, slot: int, index: int, placed: int, ipv6: bool) -> SitePlan:
    """``placed`` nodes come before this site's."""
    site = topology.sites[index]
    if len(site.node_names) > MAX_NODES_OF_A_SITE:
        raise ValueError(f"{site.name} has {len(site.node_names)} nodes; a site holds at most {MAX_NODES_OF_A_SITE}")
    base = int(WAN_RANGE.network_address) + (slot << _SLOT_BITS) + (index << _SITE_BITS)
    base6 = int(WAN_RANGE6.network_address) + ((slot << 8 | index) << 64)
    mac = f"02:1a:{slot:02x}:{index:02x}"
    has_edge = bool(site.more_nodes) or site.nat is not None
    edge = _plan_edge(site.nat, base, base6, mac, ipv6) if has_edge else None
    wan_address, wan_address6 = IPv4Address(base + 2), IPv6Address(base6 + 2)
    management = int(MANAGEMENT_RANGE.network_address) + (slot << _SLOT_BITS)
    interface: Literal["wan0", "lan0"] = "wan0" if edge is None else "lan0"
    nodes = []
    for number, name in enumerate(site.node_names):
        address, address6 = wan_address, wan_address6
        if edge is not None:
            address = edge.lan_address + 1 + number
            address6 = IPv6Address(base6 + (_LAN_SUBNET6 << 64) + 2 + number)
        counted = placed + number
        nodes.append(
            NodePlan(
                name=name,
                site=site.name,
                index=counted,
                netns=f"lh-{lab_id}-{name}",
                interface=interface,
                address=address,
                address6=address6 if ipv6 else None,
                public_address=address if site.nat is None else wan_address,
                mac=f"{mac}:00:02" if edge is None else f"{mac}:01:{2 + number:02x}",
                management_host_interface=f"lh{lab_id}m{counted}",
                management_host_address=IPv4Address(management + 2 * counted),
                management_address=IPv4Address(management + 2 * counted + 1),
            )
        )
    return SitePlan(
        site=site.name,
        index=index,
        netns=nodes[0].netns if edge is None else f"lhedge-{lab_id}-{site.name}",
        network=IPv4Network((base, 27)),
        wan_network=IPv4Network((base, 29)),
        wan_gateway=IPv4Address(base + 1),
        wan_address=wan_address,
        wan_network6=IPv6Network((base6, 64)) if ipv6 else None,
        wan_gateway6=IPv6Address(base6 + 1) if ipv6 else None,
        wan_address6=wan_address6 if ipv6 else None,
        wan_mac=f"{mac}:00:02",
        gateway_mac=f"{mac}:00:01",
        edge=edge,
        nodes=tuple(nodes),
    )


def _plan_edge(nat: Nat | None, base: int, base6: int, mac: str, ipv6: bool) -> EdgePlan:
    lan = IPv4Network((base + _LAN_OFFSET, 28)) if nat is None else NAT_RANGE
    lan6 = IPv6Network((base6 + (_LAN_SUBNET6 << 64), 64))
    return EdgePlan(
        lan_network=lan,
        lan_address=lan.network_address + 1,
        lan_network6=lan6 if ipv6 else None,
        lan_address6=lan6.network_address + 1 if ipv6 else None,
        lan_mac=f"{mac}:01:01",
        nat=nat,
        extra_addresses=() if nat is None else tuple(IPv4Address(base + host) for host in range(3, 7)),
    )
