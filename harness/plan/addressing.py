"""Addresses, interface names and MACs of a lab, from its slot number alone. Pure.

WAN: 198.18.0.0/16, a /22 for each lab slot, a /29 for each site. Management: 198.19.0.0/16, a /24 for each lab slot,
a /31 for each node. Both are from RFC 2544's benchmarking range 198.18.0.0/15, which is never routed publicly.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from pydantic import Field

from harness.model.base import Value
from harness.model.topology import Topology

LAB_ID_PATTERN = r"^[a-z0-9]{1,6}$"
LAB_SLOTS = 64
MAX_SITES = 127
WAN_RANGE = IPv4Network("198.18.0.0/16")
MANAGEMENT_RANGE = IPv4Network("198.19.0.0/16")
WAN_INTERFACE = "wan0"
MANAGEMENT_INTERFACE = "mgmt0"


class SitePlan(Value):
    """One site's place in the lab. ``index`` counts from 0 in the topology's order."""

    site: str
    index: int
    netns: str
    wan_network: IPv4Network
    wan_address: IPv4Address
    wan_gateway: IPv4Address
    wan_mac: str
    gateway_mac: str
    management_host_interface: str
    management_host_address: IPv4Address
    management_address: IPv4Address


class LabPlan(Value):
    """Where everything in a lab goes. ``slot`` is unique among the labs that are up on this host."""

    lab_id: str = Field(pattern=LAB_ID_PATTERN)
    slot: int = Field(ge=0, lt=LAB_SLOTS)
    topology: Topology
    sites: tuple[SitePlan, ...]

    def site(self, name: str) -> SitePlan:
        """The plan of one site; KeyError when there is none."""
        for site in self.sites:
            if site.site == name:
                return site
        raise KeyError(name)


def management_slot(address: IPv4Address) -> int:
    """The lab slot that a management address belongs to."""
    return (int(address) - int(MANAGEMENT_RANGE.network_address)) >> 8


def plan_lab(topology: Topology, lab_id: str, slot: int) -> LabPlan:
    """Place every site of ``topology``. Raises ValueError for more than MAX_SITES sites."""
    if len(topology.sites) > MAX_SITES:
        raise ValueError(f"{len(topology.sites)} sites; a lab holds at most {MAX_SITES}")
    wan_base = int(WAN_RANGE.network_address) + (slot << 10)
    management_base = int(MANAGEMENT_RANGE.network_address) + (slot << 8)
    sites = []
    for index, site in enumerate(topology.sites):
        subnet = wan_base + (index << 3)
        sites.append(
            SitePlan(
                site=site.name,
                index=index,
                netns=f"lh-{lab_id}-{site.name}",
                wan_network=IPv4Network((subnet, 29)),
                wan_gateway=IPv4Address(subnet + 1),
                wan_address=IPv4Address(subnet + 2),
                wan_mac=f"02:1a:{slot:02x}:{index:02x}:00:02",
                gateway_mac=f"02:1a:{slot:02x}:{index:02x}:00:01",
                management_host_interface=f"lh{lab_id}m{index}",
                management_host_address=IPv4Address(management_base + 2 * index),
                management_address=IPv4Address(management_base + 2 * index + 1),
            )
        )
    return LabPlan(lab_id=lab_id, slot=slot, topology=topology, sites=tuple(sites))
