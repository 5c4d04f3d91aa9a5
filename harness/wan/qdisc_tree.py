"""Shaping on the core's ports: the qdiscs of every directed link, built, changed, read back and counted.

Refuses to know about addresses, routes and cables, which are the router's, and to decide anything about an impairment,
which is harness.plan.shaping's work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.errors import ShapingError
from harness.model.impairment import Impairment
from harness.model.measurement import LinkCounters
from harness.plan.addressing import LabPlan
from harness.plan.shaping import (
    BLOCKED,
    CLASS_RATE_BPS,
    DEFAULT_CLASS,
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
from harness.wan.kernel import Kernel

_ETH_P_IP = 0x0800
_TC_H_ROOT = 0xFFFFFFFF
_HTB_QUANTUM = 60_000
_HTB_BURST = 1 << 20
_DROP_ALL = NetemSettings(limit=1, loss=U32_MAX)
_DEFAULT_DROP_HANDLE = 0x0002_0000


class QdiscTree:
    """Every directed link of one plan, on ``ports``: the core's interface index by site index.

    ``core_delay_us`` is the core's own forwarding delay, which is taken off every delay that is set.
    """

    def __init__(
        self, kernel: Kernel, plan: LabPlan, ports: Mapping[int, int], seed: int | None, core_delay_us: int = 0
    ) -> None:
        self.core_delay_us = core_delay_us
        self._kernel = kernel
        self._plan = plan
        self._port = dict(ports)
        self._seed = seed
        self._generation = 0

    def build(self) -> None:
        """HTB with one class for each source on every port; every link blocked. Raises ShapingError."""
        closed = shape_link(BLOCKED, self._plan.topology.mtu)
        with self._kernel.batch() as batch:
            for destination in self._plan.sites:
                port = self._port[destination.index]
                batch.tc("add", "htb", port, handle=ROOT_HANDLE, parent=_TC_H_ROOT, default=DEFAULT_CLASS - ROOT_HANDLE)
                _add_class(batch, port, DEFAULT_CLASS)
                batch.tc("add", "netem", port, handle=_DEFAULT_DROP_HANDLE, parent=DEFAULT_CLASS, settings=_DROP_ALL)
                _add_class(batch, port, ROUTER_CLASS)
                _add_filter(batch, port, router_match(destination.wan_gateway), ROUTER_CLASS)
                for source in self._plan.sites:
                    if source is destination:
                        continue
                    handles = LinkHandles(index=source.index)
                    _add_class(batch, port, handles.class_id)
                    for handle, parent, settings, _ in _stages(handles, closed):
                        batch.tc("add", "netem", port, handle=handle, parent=parent, settings=settings)
                    _add_filter(batch, port, source_match(source.wan_network), handles.class_id)

    def change(self, changes: Sequence[tuple[str, str, Impairment]]) -> None:
        """Set each link (source, destination) to exactly this, in one batch, and verify. Raises ShapingError."""
        self._generation += 1
        wanted: list[tuple[int, int, NetemSettings, int | None, str]] = []
        with self._kernel.batch() as batch:
            for source, destination, impairment in changes:
                port, handles = self._locate(source, destination)
                name = f"{source}>{destination}"
                try:
                    shape = shape_link(impairment, self._plan.topology.mtu, self.core_delay_us)
                except ValueError as error:
                    raise ShapingError(f"{name}: {error}") from error
                for handle, parent, settings, stage in _stages(handles, shape):
                    seed = self._link_seed(name, stage)
                    batch.tc("change", "netem", port, handle=handle, parent=parent, settings=settings, seed=seed)
                    wanted.append((port, handle, settings, seed, f"{name}, {stage}"))
        self._verify(wanted)

    def read_back(self) -> dict[tuple[str, str], Impairment]:
        """What the kernel says each directed link does now. Raises ShapingError."""
        found = self._qdiscs()
        result = {}
        for link in self._plan.topology.links:
            port, handles = self._locate(link.source, link.destination)
            shape = LinkShape(
                propagation=_settings(found, port, handles.propagation),
                bottleneck=_settings(found, port, handles.bottleneck),
            )
            result[link.source, link.destination] = read_link(shape, self._plan.topology.mtu, self.core_delay_us)
        return result

    def counters(self) -> tuple[LinkCounters, ...]:
        """Packets, bytes and drops for each directed link. Raises ShapingError."""
        found = self._qdiscs()
        result = []
        for link in self._plan.topology.links:
            port, handles = self._locate(link.source, link.destination)
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

    def _locate(self, source: str, destination: str) -> tuple[int, LinkHandles]:
        """The core's interface towards ``destination``, and where ``source`` is on it."""
        try:
            if source == destination:
                raise KeyError(destination)
            return self._port[self._plan.site(destination).index], LinkHandles(index=self._plan.site(source).index)
        except KeyError:
            known = ", ".join(self._plan.topology.site_names)
            raise ShapingError(f"there is no link {source}>{destination}", hint=f"the sites are {known}") from None

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
