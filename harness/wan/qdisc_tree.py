"""Shaping on the core's ports: the qdiscs of every directed link, built, changed, read back and counted.

Refuses to know about addresses, routes and cables, which are the router's, and to decide anything about an impairment,
which is harness.plan.shaping's work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.errors import ShapingError
from harness.model.impairment import DelayDistribution, Impairment
from harness.model.measurement import LinkCounters
from harness.plan.addressing import LabPlan
from harness.plan.delay_distribution import fingerprint, table_of
from harness.plan.netem_models import distribution_of
from harness.plan.qdisc_settings import U32_MAX, ActiveBottleneck, NetemSettings
from harness.plan.shaping import (
    BLOCKED,
    CLASS_RATE_BYTES,
    DEFAULT_CLASS,
    LARGEST_INTERFACE,
    ROOT_HANDLE,
    ROUTER_CLASS,
    SIZE_CORRECTION,
    Bottleneck,
    LinkHandles,
    LinkShape,
    read_link,
    shape_link,
)
from harness.wan.doubling import Doubling, doubled_link
from harness.wan.kernel import Kernel
from harness.wan.netem import Tables, decode, encode
from harness.wan.tc_messages import (
    Qdisc,
    add_class,
    add_sorter,
    codel_options,
    delete_filter,
    get_qdisc,
    read_codel,
    read_qdisc,
    read_statistics,
    read_tbf,
    set_qdisc,
    sort_by_interface,
    tbf_options,
)

LinkKey = tuple[str, str]
"""Source and destination."""

_DROP_ALL = NetemSettings(limit=1, loss=U32_MAX)
_DEFAULT_DROP_HANDLE = 0x0002_0000
_SORTING_PRIORITY, _SORTING_FILTER = 2, 1
_WORTH_A_DUMP = 256
"""From so many links on, one dump of everything is cheaper than a question for each qdisc."""


class _Wanted(NamedTuple):
    """A link as it must be in the kernel from now on. ``noted``: its table is sent, and with it the kernel's notes.
    ``kept``: its propagation stage is as this process left it, and is not sent: netem starts its loss model, its
    reordering and its lottery anew with every change."""

    key: LinkKey
    port: int
    handles: LinkHandles
    shape: LinkShape
    seed: int | None
    noted: bool
    kept: bool

    @property
    def name(self) -> str:
        return f"{self.key[0]}>{self.key[1]}"


class QdiscTree:
    """Every directed link of one plan, on ``ports``: the core's interface index by site index.

    ``core_delay_us`` is the core's own forwarding delay, which is taken off every delay that is set. ``keeps_seeds``:
    whether this kernel keeps the seed of netem's packet lottery (linux 6.6 and later); None before anything was set.
    """

    def __init__(
        self, kernel: Kernel, plan: LabPlan, ports: Mapping[int, int], seed: int | None, core_delay_us: int = 0
    ) -> None:
        self.core_delay_us = core_delay_us
        self.keeps_seeds: bool | None = None
        self._kernel = kernel
        self._plan = plan
        self._port = dict(ports)
        self._seed = seed
        self._generation = 0
        self._sites = {site.site: site.index for site in plan.sites}
        self._doubling = Doubling(kernel, self._port)
        self._distributions: dict[int, DelayDistribution] = {}
        self._noted: dict[LinkKey, int] = {}
        self._last: dict[LinkKey, LinkShape] = {}
        self._sorting: set[int] = set()
        for link in plan.topology.links:
            self._learn(link.impairment)

    def build(self, initial: Mapping[LinkKey, Impairment] | None = None) -> None:
        """Everything at once: each link as ``initial`` says, blocked where that says nothing. Raises ShapingError."""
        self.prepare()
        wanted = initial or {}
        links = [(link.source, link.destination) for link in self._plan.topology.links]
        self.open([(*key, wanted.get(key, BLOCKED)) for key in links])

    def prepare(self) -> None:
        """Drop everything on every port. Raises ShapingError."""
        largest = max(self._port.values(), default=0)
        if largest > LARGEST_INTERFACE:
            raise ShapingError(f"the core's interfaces have numbers up to {largest}; a class has room for less")
        messages = []
        drop = encode(_DROP_ALL)
        for port in self._port.values():
            messages += [
                add_sorter(port, ROOT_HANDLE, DEFAULT_CLASS, SIZE_CORRECTION),
                add_class(port, DEFAULT_CLASS, ROOT_HANDLE, CLASS_RATE_BYTES),
                set_qdisc(port, _DEFAULT_DROP_HANDLE, DEFAULT_CLASS, "netem", drop),
                add_class(port, ROUTER_CLASS, ROOT_HANDLE, CLASS_RATE_BYTES),
            ]
        self._kernel.transact(messages, lambda _: "the root of a port")

    def open(self, links: Sequence[tuple[str, str, Impairment]]) -> None:
        """Make the stages of links that have none yet, each in its final shape. Raises ShapingError.

        A new class lets everything through until it has its stages: so packets are not sorted meanwhile, and what no
        filter knows is dropped.
        """
        ports = sorted({self._locate(source, destination)[0] for source, destination, _ in links})
        sorting = [port for port in ports if port in self._sorting]
        self._kernel.transact(
            [delete_filter(port, ROOT_HANDLE, _SORTING_PRIORITY, _SORTING_FILTER, "flow") for port in sorting],
            lambda _: "to hold a port",
        )
        self._apply(links, fresh=True)
        self._kernel.transact(
            [sort_by_interface(port, ROOT_HANDLE, _SORTING_PRIORITY, _SORTING_FILTER, ROUTER_CLASS) for port in ports],
            lambda _: "to sort the packets of a port",
        )
        self._sorting.update(ports)

    def change(self, changes: Sequence[tuple[str, str, Impairment]]) -> None:
        """Set each link (source, destination) to exactly this, in one batch, and verify. Raises ShapingError."""
        self._apply(changes, fresh=False)

    def read_back(self, known: Iterable[Impairment] = ()) -> dict[LinkKey, Impairment]:
        """What the kernel says each directed link does now; ``known`` as in WanCore. Raises ShapingError."""
        for impairment in known:
            self._learn(impairment)
        found = self._found()
        return {
            (link.source, link.destination): self._read(found, link.source, link.destination)
            for link in self._plan.topology.links
        }

    def counters(self) -> tuple[LinkCounters, ...]:
        """Packets, bytes and drops for each directed link. Raises ShapingError."""
        found = self._found()
        return tuple(self._count(found, link.source, link.destination) for link in self._plan.topology.links)

    def clear(self) -> None:
        """Take away what would outlive the ports: the devices that double packets. Raises ShapingError."""
        self._doubling.clear()

    def _apply(self, links: Sequence[tuple[str, str, Impairment]], *, fresh: bool) -> None:
        self._generation += 1
        wanted = [self._wanted(source, destination, impairment) for source, destination, impairment in links]
        again = self._set(wanted, fresh=fresh)
        if again:
            # The kernel still has a table, or a device, of before, or what another process set: say everything.
            left = self._set([one._replace(noted=True, kept=False) for one in again], fresh=False)
            if left:
                raise ShapingError(f"{left[0].name}: the kernel did not take the distribution of the delay")

    def _wanted(self, source: str, destination: str, impairment: Impairment) -> _Wanted:
        key = (source, destination)
        port, handles = self._locate(source, destination)
        try:
            shape = shape_link(impairment, self._plan.topology.mtu, self.core_delay_us)
        except ValueError as error:
            raise ShapingError(f"{source}>{destination}: {error}") from error
        self._learn(impairment)
        stage = shape.propagation
        unusual = stage.distribution != 0 and self._noted.get(key) != stage.distribution
        noted = unusual or stage.doubled or stage.gap > 0
        last = self._last.get(key)
        kept = not noted and last is not None and (last.propagation, last.slot_table) == (stage, shape.slot_table)
        return _Wanted(key, port, handles, shape, self._link_seed(f"{source}>{destination}"), noted, kept)

    def _set(self, wanted: Sequence[_Wanted], *, fresh: bool) -> list[_Wanted]:
        """Set and verify; returns those of which something is not as it must be, since it was not sent."""
        for one in wanted:
            self._last.pop(one.key, None)
            if one.noted and not one.shape.propagation.doubled:
                self._doubling.stop(*self._ends(one.key))
        subjects: list[str] = []
        many = len(wanted) >= _WORTH_A_DUMP
        messages = self._messages(wanted, subjects, fresh=fresh, ask=not many)
        answers = self._kernel.transact(messages, subjects.__getitem__, changes_alone=many)
        found = {(qdisc.interface, qdisc.handle): qdisc for qdisc in map(read_qdisc, answers)}
        if many:
            found = self._found()
        again = [one for one in wanted if not self._verify(one, found)]
        for one in wanted:
            if one.noted and one.shape.duplication is not None:
                self._doubling.start(*self._ends(one.key), one.handles.class_id, one.shape.duplication, one.seed)
        return again

    def _messages(self, wanted: Sequence[_Wanted], subjects: list[str], *, fresh: bool, ask: bool) -> Iterator[bytes]:
        """Made as they are sent; ``subjects`` gets the link's name for each. ``ask``: for the stages, in the end."""
        for one in wanted:
            for message in _stage_messages(one, self._tables(one), fresh=fresh):
                subjects.append(one.name)
                yield message
        for one in wanted if ask else ():
            for question in _questions(one):
                subjects.append(one.name)
                yield question

    def _verify(self, one: _Wanted, found: Mapping[tuple[int, int], Qdisc]) -> bool:
        """Whether all is as wanted; False when only what was not sent is of before. Raises ShapingError."""
        stage = one.shape.propagation
        got, kept = decode(_qdisc(found, one.port, one.handles.propagation).options)
        if one.kept and got._replace(distribution=stage.distribution) != stage:
            return False
        if got._replace(distribution=stage.distribution, doubled=stage.doubled) != stage:
            raise ShapingError(f"{one.name}, propagation: asked the kernel for {stage!r}, it has {got!r}")
        bottleneck = _bottleneck(found, one.port, one.handles, one.name)
        if bottleneck != _as_read(one.shape.bottleneck):
            raise ShapingError(
                f"{one.name}, bottleneck: asked the kernel for {one.shape.bottleneck!r}, it has {bottleneck!r}"
            )
        if one.seed is not None and not one.kept:
            self.keeps_seeds = kept is not None
            if kept is not None and kept != one.seed:
                raise ShapingError(f"{one.name}: the kernel did not keep the seed")
        if not stage.gap and got.doubled != stage.doubled:
            return False
        if stage.jitter_ns and got.distribution != stage.distribution:
            return False
        self._noted[one.key] = got.distribution
        self._last[one.key] = one.shape
        return True

    def _tables(self, one: _Wanted) -> Tables:
        stage, slot = one.shape.propagation, one.shape.slot_table
        return Tables(
            delay=table_of(distribution_of(stage.distribution, self._distributions)) if one.noted else None,
            slot=table_of(distribution_of(slot, self._distributions)) if slot else None,
        )

    def _learn(self, impairment: Impairment) -> None:
        """The kernel names tables by their fingerprints only."""
        slots = impairment.slots
        for distribution in (impairment.distribution, None if slots is None else slots.distribution):
            if distribution is not None and distribution.kind == "custom":
                self._distributions[fingerprint(distribution)] = distribution

    def _read(self, found: Mapping[tuple[int, int], Qdisc], source: str, destination: str) -> Impairment:
        port, handles = self._locate(source, destination)
        name = f"{source}>{destination}"
        propagation, _ = decode(_qdisc(found, port, handles.propagation).options)
        double = found.get((0, doubled_link(self._sites[source], self._sites[destination])))
        shape = LinkShape(
            propagation=propagation,
            bottleneck=_bottleneck(found, port, handles, name),
            duplication=None if double is None else decode(double.options)[0],
        )
        return read_link(shape, self._plan.topology.mtu, self.core_delay_us, self._distributions)

    def _count(self, found: Mapping[tuple[int, int], Qdisc], source: str, destination: str) -> LinkCounters:
        port, handles = self._locate(source, destination)
        whole = read_statistics(_qdisc(found, port, handles.propagation))
        limiter = found.get((port, handles.limiter))
        queue = read_statistics(limiter or _qdisc(found, port, handles.bottleneck))
        dropped_active = marked = 0
        if limiter is not None:
            active = read_statistics(_active_queue(found, port, handles, f"{source}>{destination}"))
            dropped_active, marked = max(0, active.drops - active.tail_drops), active.marks
        return LinkCounters(
            source=source,
            destination=destination,
            packets=whole.packets,
            bytes=whole.bytes,
            # A packet that the bottleneck drops is counted by its parent as well.
            dropped_loss=max(0, whole.drops - queue.drops),
            dropped_queue=queue.drops,
            dropped_active=dropped_active,
            marked=marked,
            overlimits=queue.overlimits,
            backlog_packets=whole.queue_packets,
            backlog_bytes=queue.queue_bytes,
        )

    def _locate(self, source: str, destination: str) -> tuple[int, LinkHandles]:
        """The core's interface towards ``destination``, and where ``source`` is on it."""
        try:
            if source == destination:
                raise KeyError(destination)
            site = self._sites[source]
            return self._port[self._sites[destination]], LinkHandles(site, self._port[site])
        except KeyError:
            known = ", ".join(self._plan.topology.site_names)
            raise ShapingError(f"there is no link {source}>{destination}", hint=f"the sites are {known}") from None

    def _ends(self, key: LinkKey) -> tuple[int, int]:
        return self._sites[key[0]], self._sites[key[1]]

    def _link_seed(self, link: str) -> int | None:
        """A seed of its own for each link and each change, all from the run's."""
        if self._seed is None:
            return None
        text = f"{self._seed}/{link}/propagation/{self._generation}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    def _found(self) -> dict[tuple[int, int], Qdisc]:
        """Every qdisc by interface and handle; those that double packets by handle alone, which says whose they are."""
        found = {}
        ports = set(self._port.values())
        for qdisc in map(read_qdisc, self._kernel.dump_qdiscs()):
            found[qdisc.interface if qdisc.interface in ports else 0, qdisc.handle] = qdisc
        return found


def _stage_messages(one: _Wanted, tables: Tables, *, fresh: bool) -> list[bytes]:
    port, handles, shape = one.port, one.handles, one.shape
    messages = []
    if fresh:
        messages.append(add_class(port, handles.class_id, ROOT_HANDLE, CLASS_RATE_BYTES))
    if fresh or not one.kept:
        propagation = encode(shape.propagation, one.seed, tables)
        messages.append(set_qdisc(port, handles.propagation, handles.class_id, "netem", propagation))
    bottleneck = shape.bottleneck
    if isinstance(bottleneck, NetemSettings):
        options = encode(bottleneck)
        messages.append(set_qdisc(port, handles.bottleneck, handles.bottleneck_parent, "netem", options))
        return messages
    limiter, queue = bottleneck
    messages += [
        set_qdisc(port, handles.limiter, handles.bottleneck_parent, "tbf", tbf_options(limiter)),
        set_qdisc(port, handles.active_queue(queue.kind), handles.limiter + 1, queue.kind, codel_options(queue)),
    ]
    return messages


def _questions(one: _Wanted) -> list[bytes]:
    handles, bottleneck = one.handles, one.shape.bottleneck
    if isinstance(bottleneck, NetemSettings):
        asked = [handles.bottleneck]
    else:
        asked = [handles.limiter, handles.active_queue(bottleneck.queue.kind)]
    return [get_qdisc(one.port, handle) for handle in (handles.propagation, *asked)]


def _bottleneck(found: Mapping[tuple[int, int], Qdisc], port: int, handles: LinkHandles, name: str) -> Bottleneck:
    limiter = found.get((port, handles.limiter))
    if limiter is None:
        return decode(_qdisc(found, port, handles.bottleneck).options)[0]
    return ActiveBottleneck(read_tbf(limiter), read_codel(_active_queue(found, port, handles, name)))


def _as_read(bottleneck: Bottleneck) -> Bottleneck:
    """As the kernel gives it back: the bucket's size is not told exactly."""
    if isinstance(bottleneck, NetemSettings):
        return bottleneck
    return bottleneck._replace(limiter=bottleneck.limiter._replace(burst=0))


def _active_queue(found: Mapping[tuple[int, int], Qdisc], port: int, handles: LinkHandles, name: str) -> Qdisc:
    for kind in ("codel", "fq_codel"):
        qdisc = found.get((port, handles.active_queue(kind)))
        if qdisc is not None:
            return qdisc
    raise ShapingError(f"{name}: the core has lost the active queue")


def _qdisc(found: Mapping[tuple[int, int], Qdisc], port: int, handle: int) -> Qdisc:
    try:
        return found[port, handle]
    except KeyError:
        raise ShapingError(f"the core has lost qdisc {handle >> 16:x}: of interface {port}") from None
