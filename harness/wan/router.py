"""The WAN core as a router: everything that both placements share, against a kernel and a way to cable the sites.

Refuses to know where that kernel runs: cabling (how a site's namespace gets its ``wan0`` and the core its port) and the
core's end of life belong to the placements. What happens to packets on its ports is the QdiscTree's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal, Protocol

from harness.errors import ShapingError
from harness.model.impairment import Impairment
from harness.model.measurement import LinkCounters
from harness.plan.addressing import WAN_INTERFACE, WAN_RANGE, LabPlan, SitePlan
from harness.plan.shaping import BLOCKED, MAX_CORE_DELAY_US
from harness.wan.calibration import CALIBRATION, one_way_delay_us
from harness.wan.kernel import Kernel
from harness.wan.local_transport import LocalTransport
from harness.wan.offloads import switch_off
from harness.wan.qdisc_tree import QdiscTree

_IFF_UP = 1
_NUD_PERMANENT = 0x80


class Cabling(Protocol):
    """How sites are wired to a core, and what becomes of the core afterwards."""

    placement: Literal["netns", "vm"]
    detail: str

    def connect(self, netns_of_index: Mapping[int, str]) -> None:
        """Afterwards each namespace has ``wan0`` and the core ``port<index>``, both down and without addresses."""

    def release(self, netns_of_index: Mapping[int, str], kernel: Kernel, ports: Sequence[int]) -> None:
        """Give the core back: take the cables away; ``ports`` are the core's interfaces. Closes nothing."""

    def state(self) -> dict[str, Any]:
        """JSON-able; what another process needs to find this core."""


def port_name(index: int) -> str:
    """The core's interface towards the site with this index."""
    return f"port{index}"


class RouterCore:
    """A WanCore (see harness.wan.port) on any kernel. ``state`` is None for a fresh core."""

    def __init__(self, kernel: Kernel, cabling: Cabling, seed: int | None, state: dict[str, Any] | None = None) -> None:
        self.placement = cabling.placement
        self.kernel_release = kernel.release
        self._kernel = kernel
        self.detail = cabling.detail
        self._cabling = cabling
        self._seed = seed
        self._plan: LabPlan | None = None
        self._netns: dict[int, str] = {}
        self._port: dict[int, int] = {}
        self._tree: QdiscTree | None = None
        if state is not None and state["plan"] is not None:
            self._plan = LabPlan.model_validate(state["plan"])
            self._netns = {int(index): name for index, name in state["netns"].items()}
            self._port = {int(index): number for index, number in state["ports"].items()}
            self._tree = QdiscTree(kernel, self._plan, self._port, seed)
            self._take_off(self._tree, state["core_delay_us"])

    def attach(self, plan: LabPlan, netns_of_site: Mapping[str, str]) -> None:
        """See WanCore. Every link starts blocked until it is shaped."""
        self._plan = plan
        self._netns = {site.index: netns_of_site[site.site] for site in plan.sites}
        self._cabling.connect(self._netns)
        self._configure_core(plan)
        for site in plan.sites:
            _configure_site(site, self._netns[site.index], plan.topology.mtu)
        self._tree = QdiscTree(self._kernel, plan, self._port, self._seed)
        self._tree.build()
        if len(plan.sites) > 1:
            self._take_off(self._tree, self._calibrate(plan, self._tree))

    def shape(self, changes: Sequence[tuple[str, str, Impairment]]) -> None:
        """See WanCore."""
        self._attached().change(changes)

    def read_back(self) -> Mapping[tuple[str, str], Impairment]:
        """See WanCore."""
        return self._attached().read_back()

    def counters(self) -> tuple[LinkCounters, ...]:
        """See WanCore."""
        return self._attached().counters()

    def state(self) -> dict[str, Any]:
        """See WanCore."""
        return {
            **self._cabling.state(),
            "placement": self.placement,
            "seed": self._seed,
            "core_delay_us": 0 if self._tree is None else self._tree.core_delay_us,
            "plan": None if self._plan is None else self._plan.model_dump(mode="json"),
            "netns": {str(index): name for index, name in self._netns.items()},
            "ports": {str(index): number for index, number in self._port.items()},
        }

    def detach(self) -> None:
        """See WanCore."""
        try:
            self._cabling.release(self._netns, self._kernel, list(self._port.values()))
        finally:
            self._plan = self._tree = None
            self._netns, self._port = {}, {}
            self.close()

    def close(self) -> None:
        """See WanCore."""
        self._kernel.close()

    def _calibrate(self, plan: LabPlan, tree: QdiscTree) -> int:
        """What this core adds to a known delay, in microseconds; the two links that it uses are blocked again."""
        one, other = plan.sites[:2]
        links = [(one.site, other.site), (other.site, one.site)]
        tree.change([(source, destination, CALIBRATION) for source, destination in links])
        measured = one_way_delay_us(
            (self._netns[one.index], str(one.wan_address)), (self._netns[other.index], str(other.wan_address))
        )
        tree.change([(source, destination, BLOCKED) for source, destination in links])
        return max(0, min(MAX_CORE_DELAY_US, round(measured - CALIBRATION.delay_us)))

    def _take_off(self, tree: QdiscTree, core_delay_us: int) -> None:
        tree.core_delay_us = core_delay_us
        self.detail = f"{self._cabling.detail}, own forwarding delay of {core_delay_us} µs taken off"

    def _attached(self) -> QdiscTree:
        if self._tree is None:
            raise ShapingError("the WAN core has no lab attached")
        return self._tree

    def _configure_core(self, plan: LabPlan) -> None:
        mtu = plan.topology.mtu
        links = self._kernel.links()
        self._port = {site.index: links[port_name(site.index)]["index"] for site in plan.sites}
        self._kernel.transport.write_sysctl("net/ipv4/ip_forward", "1")
        with self._kernel.batch() as batch:
            for site in plan.sites:
                port = self._port[site.index]
                batch.link("set", index=port, address=site.gateway_mac, mtu=mtu)
                batch.addr("add", index=port, address=str(site.wan_gateway), prefixlen=site.wan_network.prefixlen)
                batch.link("set", index=port, state="up")
                batch.neigh("replace", ifindex=port, dst=str(site.wan_address), lladdr=site.wan_mac, state="permanent")
        for site in plan.sites:
            name = port_name(site.index)
            for setting, value in (("rp_filter", "1"), ("send_redirects", "0")):
                self._kernel.transport.write_sysctl(f"net/ipv4/conf/{name}/{setting}", value)
            switch_off(self._kernel.transport, name)
        _verify_interfaces(
            self._kernel,
            [(port_name(s.index), s.gateway_mac, mtu, str(s.wan_address), s.wan_mac) for s in plan.sites],
        )


def _configure_site(site: SitePlan, netns: str, mtu: int) -> None:
    with closing(Kernel(LocalTransport(netns))) as kernel:
        # Nothing but the lab's own packets shall cross the WAN: no router solicitations, no duplicate-address probes.
        kernel.transport.write_sysctl(f"net/ipv6/conf/{WAN_INTERFACE}/disable_ipv6", "1")
        index = kernel.links()[WAN_INTERFACE]["index"]
        with kernel.batch() as batch:
            batch.link("set", index=index, address=site.wan_mac, mtu=mtu)
            batch.addr("add", index=index, address=str(site.wan_address), prefixlen=site.wan_network.prefixlen)
            batch.link("set", index=index, state="up")
            batch.neigh("replace", ifindex=index, dst=str(site.wan_gateway), lladdr=site.gateway_mac, state="permanent")
            batch.route("replace", dst=str(WAN_RANGE), gateway=str(site.wan_gateway), oif=index)
        switch_off(kernel.transport, WAN_INTERFACE)
        _verify_interfaces(kernel, [(WAN_INTERFACE, site.wan_mac, mtu, str(site.wan_gateway), site.gateway_mac)])


def _verify_interfaces(kernel: Kernel, wanted: Iterable[tuple[str, str, int, str, str]]) -> None:
    """Name, MAC, MTU, and the permanent neighbour's address and MAC of each interface are as asked, and it is up."""
    links = kernel.links()
    for name, mac, mtu, neighbour, neighbour_mac in wanted:
        link = links[name]
        got = (link.get_attr("IFLA_ADDRESS"), link.get_attr("IFLA_MTU"), bool(link["flags"] & _IFF_UP))
        if got != (mac, mtu, True):
            raise ShapingError(f"{name}: asked for MAC {mac}, MTU {mtu}, up; the kernel has {got}")
        if not any(
            entry.get_attr("NDA_DST") == neighbour
            and entry.get_attr("NDA_LLADDR") == neighbour_mac
            and entry["state"] & _NUD_PERMANENT
            for entry in kernel.neighbours(link["index"])
        ):
            raise ShapingError(f"{name}: the permanent neighbour {neighbour} is missing")
