"""The WAN core as a router: everything that both placements share, against a kernel and a way to cable the sites.

Refuses to know where that kernel runs: cabling (how a site's namespace gets its ``wan0`` and the core its port) and the
core's end of life belong to the placements. What happens to packets on its ports is the QdiscTree's.

A quiet link stays quiet: its ends have no link-local address, do not resolve neighbours (all are static), and take part
in no multicast, so there is no DAD, MLD, router solicitation or ARP.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal, Protocol

from harness.errors import ShapingError
from harness.model.impairment import Impairment
from harness.model.measurement import LinkCounters
from harness.plan.addressing import SMALLEST_MTU6, WAN_INTERFACE, WAN_RANGE, WAN_RANGE6, LabPlan, SitePlan
from harness.plan.shaping import BLOCKED, MAX_CORE_DELAY_US
from harness.wan.calibration import CALIBRATION, one_way_delay_us
from harness.wan.kernel import Kernel
from harness.wan.local_transport import LocalTransport, in_netns
from harness.wan.offloads import switch_off
from harness.wan.qdisc_tree import QdiscTree

_IFF_UP, _IFF_NOARP, _IFF_MULTICAST = 0x1, 0x80, 0x1000
_IFA_F_NODAD = 0x02
_NO_LINK_LOCAL = 1
_NUD_PERMANENT = 0x80
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_LOCK_MTU = 1 << 2
"""RTAX_LOCK is a set of bits, RTAX_MTU is number 2."""

_SMALL_LINKS_TABLE = 10_000
_SMALL_LINKS_PRIORITY = 1_000


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
        self._ipv6 = False
        if state is not None and state["plan"] is not None:
            self._plan = LabPlan.model_validate(state["plan"])
            self._ipv6 = state["ipv6"]
            self._netns = {int(index): name for index, name in state["netns"].items()}
            self._port = {int(index): number for index, number in state["ports"].items()}
            self._tree = QdiscTree(kernel, self._plan, self._port, seed)
            self._take_off(self._tree, state["core_delay_us"])

    def attach(
        self,
        plan: LabPlan,
        netns_of_site: Mapping[str, str],
        initial: Mapping[tuple[str, str], Impairment] | None = None,
    ) -> None:
        """See WanCore. A link that ``initial`` does not name starts blocked until it is shaped."""
        self._plan = plan
        self._ipv6 = self._prepare_kernel(plan)
        self._netns = {site.index: netns_of_site[site.site] for site in plan.sites}
        self._cabling.connect(self._netns)
        names = self._kernel.links()
        self._port = {site.index: names[port_name(site.index)]["index"] for site in plan.sites}
        tree = self._tree = QdiscTree(self._kernel, plan, self._port, self._seed)
        # Before the first packet can come in.
        tree.prepare()
        self._configure_core(plan)
        for site in plan.sites:
            _configure_site(site, self._netns[site.index], plan.topology.mtu, self._ipv6)
        shapes = {(link.source, link.destination): BLOCKED for link in plan.topology.links} | dict(initial or {})
        if len(plan.sites) > 1:
            one, other = plan.sites[:2]
            first = [(one.site, other.site), (other.site, one.site)]
            self._take_off(tree, self._calibrate(first, tree))
            tree.change([(*key, shapes.pop(key)) for key in first])
        tree.open([(*key, impairment) for key, impairment in shapes.items()])

    def shape(self, changes: Sequence[tuple[str, str, Impairment]]) -> None:
        """See WanCore."""
        self._attached().change(changes)

    def read_back(self, known: Iterable[Impairment] = ()) -> Mapping[tuple[str, str], Impairment]:
        """See WanCore."""
        return self._attached().read_back(known)

    @property
    def keeps_seeds(self) -> bool | None:
        """Whether this kernel keeps the seed of netem's lottery (linux 6.6 and later); None before any was set."""
        return None if self._tree is None else self._tree.keeps_seeds

    def counters(self) -> tuple[LinkCounters, ...]:
        """See WanCore."""
        return self._attached().counters()

    def state(self) -> dict[str, Any]:
        """See WanCore."""
        return {
            **self._cabling.state(),
            "placement": self.placement,
            "seed": self._seed,
            "ipv6": self._ipv6,
            "core_delay_us": 0 if self._tree is None else self._tree.core_delay_us,
            "plan": None if self._plan is None else self._plan.model_dump(mode="json"),
            "netns": {str(index): name for index, name in self._netns.items()},
            "ports": {str(index): number for index, number in self._port.items()},
        }

    def detach(self) -> None:
        """See WanCore."""
        try:
            try:
                if self._plan is not None:
                    self._forget_small_links(self._plan)
                if self._tree is not None:
                    self._tree.clear()
            except ShapingError:
                # A core that cannot be cleaned must not serve another lab: out of reach, it is ended and not kept warm.
                self._kernel.close()
            self._cabling.release(self._netns, self._kernel, list(self._port.values()))
        finally:
            self._plan = self._tree = None
            self._netns, self._port = {}, {}
            self.close()

    def close(self) -> None:
        """See WanCore."""
        self._kernel.close()

    def _calibrate(self, links: Sequence[tuple[str, str]], tree: QdiscTree) -> int:
        """What this core adds to a known delay, in microseconds; ``links`` are both ways between two sites."""
        tree.open([(source, destination, CALIBRATION) for source, destination in links])
        one, other = (self._attached_plan().site(site) for site in links[0])
        measured = one_way_delay_us(
            (self._netns[one.index], str(one.wan_address)), (self._netns[other.index], str(other.wan_address))
        )
        return max(0, min(MAX_CORE_DELAY_US, round(measured - CALIBRATION.delay_us)))

    def _take_off(self, tree: QdiscTree, core_delay_us: int) -> None:
        tree.core_delay_us = core_delay_us
        self.detail = f"{self._cabling.detail}, own forwarding delay of {core_delay_us} µs taken off"
        if not self._ipv6:
            self.detail += ", IPv4 alone"

    def _attached(self) -> QdiscTree:
        if self._tree is None:
            raise ShapingError("the WAN core has no lab attached")
        return self._tree

    def _attached_plan(self) -> LabPlan:
        if self._plan is None:
            raise ShapingError("the WAN core has no lab attached")
        return self._plan

    def _prepare_kernel(self, plan: LabPlan) -> bool:
        """Let the core forward, and no site speak for another; whether it does IPv6 too."""
        transport = self._kernel.transport
        for setting, value in (("ip_forward", "1"), ("conf/all/rp_filter", "1"), ("conf/all/send_redirects", "0")):
            transport.write_sysctl(f"net/ipv4/{setting}", value)
        transport.write_sysctl("net/ipv4/conf/default/send_redirects", "0")
        if not plan.ipv6:
            return False
        try:
            # Forwarding waits until the ports are quiet: a router joins a group on every port, and says so.
            for setting in ("all/forwarding", "all/disable_ipv6", "default/disable_ipv6"):
                transport.write_sysctl(f"net/ipv6/conf/{setting}", "0")
        except OSError:
            return False
        return True

    def _configure_core(self, plan: LabPlan) -> None:
        mtu = plan.topology.mtu
        with self._kernel.batch() as batch:
            for site in plan.sites:
                _quiet_link(batch, self._port[site.index], site.gateway_mac, mtu, self._ipv6)
        if self._ipv6:
            self._kernel.transport.write_sysctl("net/ipv6/conf/all/forwarding", "1")
        with self._kernel.batch() as batch:
            for site in plan.sites:
                port = self._port[site.index]
                batch.addr("add", index=port, address=str(site.wan_gateway), prefixlen=site.wan_network.prefixlen)
                if self._ipv6:
                    _add_address6(batch, port, str(site.wan_gateway6))
                batch.link("set", index=port, state="up")
                for neighbour in _neighbours_of_core(site, self._ipv6):
                    _add_neighbour(batch, port, neighbour, site.wan_mac)
                for prefix, gateway in _prefixes(site, self._ipv6):
                    if gateway is not None:
                        batch.route("replace", dst=str(prefix), gateway=gateway, oif=port)
            for route in _small_routes(plan, self._ipv6):
                self._add_small_route(batch, route)
            for source in _sources_of_small_links(plan):
                self._small_links_rule(batch, "add", source)
        for site in plan.sites:
            switch_off(self._kernel.transport, port_name(site.index))
        _verify_interfaces(
            self._kernel,
            {
                port_name(site.index): (site.gateway_mac, mtu, _neighbours_of_core(site, self._ipv6), site.wan_mac)
                for site in plan.sites
            },
        )
        self._verify_small_routes(plan)

    def _add_small_route(self, batch: Any, route: _SmallRoute) -> None:
        port = self._port[route.destination.index]
        where = {} if route.gateway is None else {"gateway": route.gateway}
        # IPv6 forwards by a route's MTU only where it is locked.
        metrics = {"lock": _LOCK_MTU, "mtu": route.mtu}
        batch.route("replace", dst=str(route.prefix), oif=port, table=route.table, metrics=metrics, **where)

    def _verify_small_routes(self, plan: LabPlan) -> None:
        wanted = {(route.table, str(route.prefix)): route.mtu for route in _small_routes(plan, self._ipv6)}
        if not wanted:
            return
        found = {}
        for route in self._kernel.routes():
            metrics = route.get_attr("RTA_METRICS")
            if metrics is not None and metrics.get_attr("RTAX_LOCK") == _LOCK_MTU:
                prefix = f"{route.get_attr('RTA_DST')}/{route['dst_len']}"
                found[route.get_attr("RTA_TABLE"), prefix] = metrics.get_attr("RTAX_MTU")
        missing = [
            f"{prefix} with MTU {mtu}" for (table, prefix), mtu in wanted.items() if found.get((table, prefix)) != mtu
        ]
        if missing:
            raise ShapingError(f"the core lacks the routes to {', '.join(missing)}")

    def _forget_small_links(self, plan: LabPlan) -> None:
        with self._kernel.batch() as batch:
            for source in _sources_of_small_links(plan):
                self._small_links_rule(batch, "del", source)

    def _small_links_rule(self, batch: Any, what: str, source: SitePlan) -> None:
        for family in _FAMILIES if self._ipv6 else _FAMILIES[:1]:
            batch.rule(
                what,
                family=family,
                priority=_SMALL_LINKS_PRIORITY,
                iifname=port_name(source.index),
                table=_small_table(source),
            )


@dataclass(frozen=True)
class _SmallRoute:
    """Packets from one site to a prefix of another take it where their link is smaller than the others: the core then
    says how large a packet may be."""

    table: int
    destination: SitePlan
    prefix: IPv4Network | IPv6Network
    gateway: str | None
    mtu: int


def _small_routes(plan: LabPlan, ipv6: bool) -> Iterator[_SmallRoute]:
    for link in plan.topology.links:
        if link.mtu is not None and link.mtu < plan.topology.mtu:
            destination = plan.site(link.destination)
            for prefix, gateway in _prefixes(destination, ipv6):
                mtu = link.mtu if prefix.version == 4 else max(link.mtu, SMALLEST_MTU6)
                yield _SmallRoute(_small_table(plan.site(link.source)), destination, prefix, gateway, mtu)


def _sources_of_small_links(plan: LabPlan) -> list[SitePlan]:
    tables = {route.table for route in _small_routes(plan, False)}
    return [site for site in plan.sites if _small_table(site) in tables]


def _small_table(source: SitePlan) -> int:
    return _SMALL_LINKS_TABLE + source.index


def _prefixes(site: SitePlan, ipv6: bool) -> Iterator[tuple[IPv4Network | IPv6Network, str | None]]:
    """What the core reaches at a site, and the gateway to it (None: it is on the line itself)."""
    yield site.wan_network, None
    if site.edge is not None and site.edge.nat is None:
        yield site.edge.lan_network, str(site.wan_address)
    if ipv6 and site.wan_network6 is not None:
        yield site.wan_network6, None
        if site.edge is not None and site.edge.lan_network6 is not None:
            yield site.edge.lan_network6, str(site.wan_address6)


def _neighbours_of_core(site: SitePlan, ipv6: bool) -> list[str]:
    """Whom the core finds at the other end of a site's line, all behind one MAC."""
    extra = [] if site.edge is None else [str(address) for address in site.edge.extra_addresses]
    return [str(site.wan_address), *extra, *([str(site.wan_address6)] if ipv6 else [])]


def _quiet_link(batch: Any, index: int, mac: str, mtu: int, ipv6: bool) -> None:
    mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _NO_LINK_LOCAL)]}
    families = {"IFLA_AF_SPEC": {"attrs": [("AF_INET6", mode)]}} if ipv6 else {}
    changed = _IFF_UP | _IFF_NOARP | _IFF_MULTICAST
    batch.link("set", index=index, address=mac, mtu=mtu, flags=_IFF_NOARP, change=changed, **families)


def _add_address6(batch: Any, index: int, address: str) -> None:
    batch.addr("add", family=socket.AF_INET6, index=index, address=address, prefixlen=64, flags=_IFA_F_NODAD)


def _add_neighbour(batch: Any, index: int, address: str, mac: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    batch.neigh("replace", family=family, ifindex=index, dst=address, lladdr=mac, state="permanent")


def _configure_site(site: SitePlan, netns: str, mtu: int, ipv6: bool) -> None:
    gateways = [str(site.wan_gateway), *([str(site.wan_gateway6)] if ipv6 else [])]
    with in_netns(netns):
        index = socket.if_nametoindex(WAN_INTERFACE)
    with closing(Kernel(LocalTransport(netns))) as kernel:
        with kernel.batch() as batch:
            _quiet_link(batch, index, site.wan_mac, mtu, ipv6)
            batch.addr("add", index=index, address=str(site.wan_address), prefixlen=site.wan_network.prefixlen)
            if ipv6:
                _add_address6(batch, index, str(site.wan_address6))
            batch.link("set", index=index, state="up")
            for gateway, destination in zip(gateways, (WAN_RANGE, WAN_RANGE6), strict=False):
                _add_neighbour(batch, index, gateway, site.gateway_mac)
                batch.route("replace", dst=str(destination), gateway=gateway, oif=index)
        switch_off(kernel.transport, WAN_INTERFACE)
        _verify_interfaces(kernel, {WAN_INTERFACE: (site.wan_mac, mtu, gateways, site.gateway_mac)})


def _verify_interfaces(kernel: Kernel, wanted: Mapping[str, tuple[str, int, Iterable[str], str]]) -> None:
    """MAC, MTU, and the permanent neighbours' addresses and MAC of each interface are as asked, and it is up."""
    links = kernel.links()
    permanent = {
        (entry["ifindex"], entry.get_attr("NDA_DST"), entry.get_attr("NDA_LLADDR"))
        for entry in kernel.all_neighbours()
        if entry["state"] & _NUD_PERMANENT
    }
    for name, (mac, mtu, neighbours, neighbour_mac) in wanted.items():
        link = links[name]
        got = (link.get_attr("IFLA_ADDRESS"), link.get_attr("IFLA_MTU"), bool(link["flags"] & _IFF_UP))
        if got != (mac, mtu, True):
            raise ShapingError(f"{name}: asked for MAC {mac}, MTU {mtu}, up; the kernel has {got}")
        for neighbour in neighbours:
            if (link["index"], neighbour, neighbour_mac) not in permanent:
                raise ShapingError(f"{name}: the permanent neighbour {neighbour} is missing")
