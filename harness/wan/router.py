"""The WAN core as a router: everything that both placements share, against a kernel and a way to cable the sites.

Refuses to know where that kernel runs: cabling (how a site's namespace gets its ``wan0`` and the core its port) and the
core's end of life belong to the placements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal, Protocol

from harness.errors import ShapingError
from harness.model.impairment import Impairment
from harness.model.measurement import LinkCounters
from harness.plan.addressing import WAN_INTERFACE, WAN_RANGE, LabPlan, SitePlan
from harness.plan.shaping import (
    BLOCKED,
    CLASS_RATE_BPS,
    DEFAULT_CLASS,
    MAX_CORE_DELAY_US,
    ROOT_HANDLE,
    ROUTER_CLASS,
    U32_MAX,
    LinkHandles,
    LinkShape,
    NetemSettings,
    read_link,
    router_match,
    shape_link,
    source_match,
)
from harness.wan import netem
from harness.wan.calibration import CALIBRATION, one_way_delay_us
from harness.wan.kernel import Kernel
from harness.wan.local_transport import LocalTransport
from harness.wan.offloads import switch_off

_ETH_P_IP = 0x0800
_TC_H_ROOT = 0xFFFFFFFF
_HTB_QUANTUM = 60_000
_HTB_BURST = 1 << 20
_IFF_UP = 1
_NUD_PERMANENT = 0x80
_DROP_ALL = NetemSettings(limit=1, loss=U32_MAX)
_DEFAULT_DROP_HANDLE = 0x0002_0000


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
        self._generation = 0
        self._plan: LabPlan | None = None
        self._netns: dict[int, str] = {}
        self._port: dict[int, int] = {}
        self._core_delay_us = 0
        if state is not None and state["plan"] is not None:
            self._take_off(state["core_delay_us"])
            self._plan = LabPlan.model_validate(state["plan"])
            self._netns = {int(index): name for index, name in state["netns"].items()}
            self._port = {int(index): number for index, number in state["ports"].items()}

    def attach(self, plan: LabPlan, netns_of_site: Mapping[str, str]) -> None:
        """See WanCore. Every link starts blocked until it is shaped."""
        self._plan = plan
        self._netns = {site.index: netns_of_site[site.site] for site in plan.sites}
        self._cabling.connect(self._netns)
        self._configure_core(plan)
        for site in plan.sites:
            _configure_site(site, self._netns[site.index], plan.topology.mtu)
        self._build_qdiscs(plan)
        if len(plan.sites) > 1:
            self._take_off(self._calibrate(plan))

    def shape(self, changes: Sequence[tuple[str, str, Impairment]]) -> None:
        """See WanCore."""
        plan = self._attached()
        self._generation += 1
        wanted: list[tuple[int, int, NetemSettings, int | None, str]] = []
        with self._kernel.batch() as batch:
            for source, destination, impairment in changes:
                port, handles = self._locate(plan, source, destination)
                name = f"{source}>{destination}"
                try:
                    shape = shape_link(impairment, plan.topology.mtu, self._core_delay_us)
                except ValueError as error:
                    raise ShapingError(f"{name}: {error}") from error
                for handle, parent, settings, stage in _stages(handles, shape):
                    seed = self._link_seed(name, stage)
                    batch.tc("change", "netem", port, handle=handle, parent=parent, settings=settings, seed=seed)
                    wanted.append((port, handle, settings, seed, f"{name}, {stage}"))
        self._verify(wanted)

    def read_back(self) -> Mapping[tuple[str, str], Impairment]:
        """See WanCore."""
        plan = self._attached()
        found = self._qdiscs()
        result = {}
        for link in plan.topology.links:
            port, handles = self._locate(plan, link.source, link.destination)
            shape = LinkShape(
                propagation=_settings(found, port, handles.propagation),
                bottleneck=_settings(found, port, handles.bottleneck),
            )
            result[link.source, link.destination] = read_link(shape, plan.topology.mtu, self._core_delay_us)
        return result

    def counters(self) -> tuple[LinkCounters, ...]:
        """See WanCore."""
        plan = self._attached()
        found = self._qdiscs()
        result = []
        for link in plan.topology.links:
            port, handles = self._locate(plan, link.source, link.destination)
            first = _statistics(found, port, handles.propagation)
            second = _statistics(found, port, handles.bottleneck)
            result.append(
                LinkCounters(
                    source=link.source,
                    destination=link.destination,
                    packets=second["packets"],
                    bytes=second["bytes"],
                    # A packet that the bottleneck drops is counted by its parent as well.
                    dropped_loss=max(0, first["drops"] - second["drops"]),
                    dropped_queue=second["drops"],
                    backlog_packets=first["qlen"],
                )
            )
        return tuple(result)

    def state(self) -> dict[str, Any]:
        """See WanCore."""
        return {
            **self._cabling.state(),
            "placement": self.placement,
            "seed": self._seed,
            "core_delay_us": self._core_delay_us,
            "plan": None if self._plan is None else self._plan.model_dump(mode="json"),
            "netns": {str(index): name for index, name in self._netns.items()},
            "ports": {str(index): number for index, number in self._port.items()},
        }

    def detach(self) -> None:
        """See WanCore."""
        try:
            self._cabling.release(self._netns, self._kernel, list(self._port.values()))
        finally:
            self._plan = None
            self._netns, self._port = {}, {}
            self.close()

    def close(self) -> None:
        """See WanCore."""
        self._kernel.close()

    def _calibrate(self, plan: LabPlan) -> int:
        """What this core adds to a known delay, in microseconds; the two links that it uses are blocked again."""
        one, other = plan.sites[:2]
        links = [(one.site, other.site), (other.site, one.site)]
        self._core_delay_us = 0
        self.shape([(source, destination, CALIBRATION) for source, destination in links])
        measured = one_way_delay_us(
            (self._netns[one.index], str(one.wan_address)), (self._netns[other.index], str(other.wan_address))
        )
        self.shape([(source, destination, BLOCKED) for source, destination in links])
        return max(0, min(MAX_CORE_DELAY_US, round(measured - CALIBRATION.delay_us)))

    def _take_off(self, core_delay_us: int) -> None:
        self._core_delay_us = core_delay_us
        self.detail = f"{self._cabling.detail}, own forwarding delay of {core_delay_us} µs taken off"

    def _attached(self) -> LabPlan:
        if self._plan is None:
            raise ShapingError("the WAN core has no lab attached")
        return self._plan

    def _locate(self, plan: LabPlan, source: str, destination: str) -> tuple[int, LinkHandles]:
        """The core's interface towards ``destination``, and where ``source`` is on it."""
        try:
            if source == destination:
                raise KeyError(destination)
            return self._port[plan.site(destination).index], LinkHandles(index=plan.site(source).index)
        except KeyError:
            known = ", ".join(plan.topology.site_names)
            raise ShapingError(f"there is no link {source}>{destination}", hint=f"the sites are {known}") from None

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

    def _build_qdiscs(self, plan: LabPlan) -> None:
        """HTB with one class for each source on every port; every link blocked."""
        closed = shape_link(BLOCKED, plan.topology.mtu)
        with self._kernel.batch() as batch:
            for destination in plan.sites:
                port = self._port[destination.index]
                batch.tc("add", "htb", port, handle=ROOT_HANDLE, parent=_TC_H_ROOT, default=DEFAULT_CLASS - ROOT_HANDLE)
                _add_class(batch, port, DEFAULT_CLASS)
                batch.tc("add", "netem", port, handle=_DEFAULT_DROP_HANDLE, parent=DEFAULT_CLASS, settings=_DROP_ALL)
                _add_class(batch, port, ROUTER_CLASS)
                _add_filter(batch, port, router_match(destination.wan_gateway), ROUTER_CLASS)
                for source in plan.sites:
                    if source is destination:
                        continue
                    handles = LinkHandles(index=source.index)
                    _add_class(batch, port, handles.class_id)
                    for handle, parent, settings, _ in _stages(handles, closed):
                        batch.tc("add", "netem", port, handle=handle, parent=parent, settings=settings)
                    _add_filter(batch, port, source_match(source.wan_network), handles.class_id)

    def _verify(self, wanted: Sequence[tuple[int, int, NetemSettings, int | None, str]]) -> None:
        found = self._kernel.qdiscs_by_handle([(port, handle) for port, handle, *_ in wanted])
        for (_, handle, settings, seed, name), qdisc in zip(wanted, found, strict=True):
            if qdisc["handle"] != handle:
                raise ShapingError(f"{name}: the kernel returned another qdisc")
            options = qdisc.get_attr("TCA_OPTIONS")
            got = _decoded(options, name)
            if got != settings:
                raise ShapingError(f"{name}: asked the kernel for {settings!r}, it has {got!r}")
            kept = netem.seed_of(options)
            if seed is not None and kept is not None and kept != seed:
                raise ShapingError(f"{name}: the kernel did not keep the seed")

    def _link_seed(self, link: str, stage: str) -> int | None:
        """A seed of its own for each stage of each link and each change, all from the run's."""
        if self._seed is None:
            return None
        text = f"{self._seed}/{link}/{stage}/{self._generation}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    def _qdiscs(self) -> dict[tuple[int, int], Any]:
        return {(qdisc["index"], qdisc["handle"]): qdisc for qdisc in self._kernel.qdiscs()}


def _stages(handles: LinkHandles, shape: LinkShape) -> Iterable[tuple[int, int, NetemSettings, str]]:
    """Handle, parent, settings and name of both stages, the parent first."""
    return (
        (handles.propagation, handles.class_id, shape.propagation, "propagation"),
        (handles.bottleneck, handles.bottleneck_parent, shape.bottleneck, "bottleneck"),
    )


def _add_class(batch: Any, port: int, class_id: int) -> None:
    batch.tc(
        "add-class",
        "htb",
        port,
        class_id,
        parent=ROOT_HANDLE,
        rate=f"{CLASS_RATE_BPS}bit",
        ceil=f"{CLASS_RATE_BPS}bit",
        burst=_HTB_BURST,
        cburst=_HTB_BURST,
        quantum=_HTB_QUANTUM,
    )


def _add_filter(batch: Any, port: int, key: str, class_id: int) -> None:
    batch.tc("add-filter", "u32", port, parent=ROOT_HANDLE, prio=1, protocol=_ETH_P_IP, target=class_id, keys=[key])


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


def _settings(found: Mapping[tuple[int, int], Any], port: int, handle: int) -> NetemSettings:
    return _decoded(_qdisc(found, port, handle).get_attr("TCA_OPTIONS"), f"qdisc {handle >> 16:x}:")


def _decoded(options: Any, name: str) -> NetemSettings:
    try:
        return netem.decode(options)
    except ValueError as error:
        raise ShapingError(f"{name}: {error}") from error


def _statistics(found: Mapping[tuple[int, int], Any], port: int, handle: int) -> dict[str, int]:
    statistics = _qdisc(found, port, handle).get_attr("TCA_STATS2")
    return {**statistics.get_attr("TCA_STATS_BASIC"), **statistics.get_attr("TCA_STATS_QUEUE")}


def _qdisc(found: Mapping[tuple[int, int], Any], port: int, handle: int) -> Any:
    try:
        return found[port, handle]
    except KeyError:
        raise ShapingError(f"the core has lost qdisc {handle >> 16:x}: of interface {port}") from None
