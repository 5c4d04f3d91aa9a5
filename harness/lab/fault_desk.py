"""Faults made and undone at a lab, of links and of nodes alike: by a timeline, a suite, or an engineer.

Every fault stands in the lab's journal before it is made, so that ``heal`` undoes it in whatever process, also after a
kill -9 of the one that made it. Each acts in its own name: faults that overlap come apart in any order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from harness.errors import InputError, LabError, LonghaulError
from harness.lab.fault_journal import FaultBegin, FaultEnd, FaultJournal, FaultSpan, FaultUpdate
from harness.lab.lab import Lab
from harness.lab.ledger import Ledger
from harness.lab.links import TRACE_HOLDER
from harness.model.base import Value
from harness.model.impairment import Impairment
from harness.model.resource import Resource
from harness.model.timeline import (
    INSTANTS,
    BlackHole,
    Change,
    Flap,
    NatRebind,
    NodeEvent,
    Outage,
    Partition,
    Play,
    Ramp,
    Reboot,
    TimelineEvent,
    subject_of,
)
from harness.nodes.node_faults import FaultyNode, fault_of
from harness.plan.playback import as_access, onto_links
from harness.plan.shaping import realised
from harness.plan.timeline import (
    LinkEnds,
    flap_is_down,
    links_of,
    links_touched,
    ramp_fields,
    ramp_turns,
    role_of,
)

if TYPE_CHECKING:
    from harness.lab.player import Playback, Player

JOURNAL = "faults.jsonl"
_LEDGER_PATIENCE_S, _LEDGER_RETRY_S = 5.0, 0.05
_FORESIGHT_S = 10.0
"""How old an answer about roles may be; a process that ended meanwhile is not found, and asked for anew."""


class Software(Protocol):
    """The system under test, as faults need it."""

    def roles(self, node: str) -> Mapping[int, str]:
        """The role of each of its processes at a node, by the node's own pids."""

    def start_again(self, node: str) -> None:
        """Start it where it does not run, as a service manager would after a boot."""


class Healed(Value):
    """What became of one fault, or of the links as a whole (``id`` is empty). ``problem`` None: verified."""

    id: str
    what: str
    subject: str
    problem: str | None = None


FaultListener = Callable[[str, FaultBegin, float | None, float], None]
"""Called with ``begin`` or ``end``, the fault, and when it was planned and made: seconds since the lab's epoch."""


class FaultDesk:
    """Makes and undoes faults. ``origin`` names who does it in the journal. Safe for threads."""

    def __init__(
        self, lab: Lab, *, origin: str, software: Software | None = None, on_fault: FaultListener | None = None
    ) -> None:
        self._lab = lab
        self._origin = origin
        self._software = software
        self._on_fault = on_fault
        self._journal = FaultJournal(lab.state_dir / JOURNAL)
        self._starts: dict[str, dict[LinkEnds, Impairment]] = {}
        self._foreseen: dict[str, tuple[float, Mapping[int, str]]] = {}
        self._player: Player | None = None
        self._playbacks: dict[str, Playback] = {}

    def prepare(self, timeline: Sequence[TimelineEvent]) -> None:
        """Start what the events will need and what takes time to start. Raises LabError."""
        if any(isinstance(event, Play) for event in timeline):
            self._player_that_runs().start()

    def foresee(self, event: TimelineEvent) -> None:
        """Ask the system under test for what an event will need soon, since its answer takes time. Raises LabError."""
        if self._software is not None and role_of(event) is not None and isinstance(event, NodeEvent):
            self._foreseen[event.node] = time.monotonic(), self._software.roles(event.node)

    def close(self) -> None:
        """End this process's part of what plays; faults of other kinds stay in force. Idempotent. Raises LabError."""
        player, self._player = self._player, None
        self._playbacks.clear()
        if player is not None:
            player.close()

    def begin(self, event: TimelineEvent, planned_s: float | None = None) -> str:
        """Make a fault now; its id. ``planned_s`` counts from the lab's epoch.

        Raises InputError when it cannot be made there, LabError and its kind when it could not; it is undone then.
        """
        with self._journal.exclusive():
            self._check(event)
            planned_at_s = None if planned_s is None else self._lab.epoch_s + planned_s
            fault = FaultBegin(
                id=self._journal.next_id(),
                event=event,
                at_s=time.monotonic(),
                planned_s=planned_at_s,
                origin=self._origin,
                undo=self._prepare(event),
            )
            self._announce(fault)
            self._journal.append(fault)
            try:
                more = self._make(fault, planned_s)
            except BaseException:
                self._undo(fault, None)
                self._journal.append(FaultEnd(id=fault.id, at_s=time.monotonic(), made=False))
                raise
            if more:
                self._journal.append(FaultUpdate(id=fault.id, undo=more))
            if event.do in INSTANTS:
                self._journal.append(FaultEnd(id=fault.id, at_s=time.monotonic()))
        self._tell("begin", fault, planned_s)
        return fault.id

    def move(self, fault_id: str, turn: int, planned_s: float | None = None) -> None:
        """Take a ramp or a flap to its move number ``turn``; nothing when it has ended meanwhile."""
        with self._journal.exclusive():
            fault = self._find(fault_id)
            if fault is None:
                return
            links, holder = links_touched(self._lab.topology, fault.event), holder_of(fault)
            match fault.event:
                case Flap():
                    if flap_is_down(turn):
                        self._lab.hold(links, holder, _reason(fault), planned_s)
                    else:
                        self._lab.let_go(links, holder, f"{_reason(fault)}: up", planned_s)
                case Ramp() as ramp:
                    starts = self._starts[fault.id]
                    fields = {link: ramp_fields(ramp, starts[link], turn) for link in links}
                    last = turn >= ramp_turns(ramp)
                    self._lab.overlay(fields, holder, _reason(fault), planned_s, durable=last)
                case _:
                    raise ValueError(f"{fault.event.do} does not move")

    def end(self, fault_id: str, planned_s: float | None = None) -> None:
        """Undo a fault; nothing when it has ended meanwhile. Raises LabError when it cannot be undone."""
        with self._journal.exclusive():
            fault = self._find(fault_id)
            if fault is None:
                return
            self._undo(fault, planned_s)
            at_s = time.monotonic()
            planned_at_s = None if planned_s is None else self._lab.epoch_s + planned_s
            self._journal.append(FaultEnd(id=fault.id, at_s=at_s, planned_s=planned_at_s))
        self._starts.pop(fault.id, None)
        self._tell("end", fault, planned_s)

    def in_force(self) -> tuple[FaultBegin, ...]:
        """The lab's faults now, whoever made them, in the order of their begins."""
        return self._journal.in_force()

    def spans(self) -> tuple[FaultSpan, ...]:
        """Every fault since the lab came up."""
        return self._journal.spans()

    def problem(self, fault: FaultBegin) -> str | None:
        """What of an ended fault is not undone; None when all is."""
        event = fault.event
        if isinstance(event, NodeEvent):
            return fault_of(event).problem(self._node(event.node), event, fault.undo, self._others(fault))
        holder, states = holder_of(fault), self._lab.link_states()
        for link in links_touched(self._lab.topology, event):
            state = states[link]
            if holder in state.holders or any(overlay.holder.startswith(holder) for overlay in state.overlays):
                return f"{link[0]}>{link[1]} is still held"
        return None

    def heal(self, faults: Sequence[FaultBegin] | None = None) -> tuple[Healed, ...]:
        """Undo these faults, else all, the latest first, and verify each. Never raises for what cannot be undone: that
        stands in the result."""
        told = []
        for fault in reversed(self.in_force() if faults is None else faults):
            try:
                self.end(fault.id)
                problem = self.problem(fault)
            except (LonghaulError, OSError) as error:
                problem = error.message if isinstance(error, LonghaulError) else str(error)
            told.append(Healed(id=fault.id, what=fault.event.do, subject=subject_of(fault.event), problem=problem))
        return tuple(told)

    def heal_everything(self) -> tuple[Healed, ...]:
        """Undo every fault, put every link back to the topology, and verify both."""
        told = self.heal()
        changed = [link for link, state in self._lab.link_states().items() if state != self._lab.initial_state(link)]
        self._lab.restore("longhaul heal")
        wrong = self.wrong_links()
        problem = f"the kernel has other settings for {', '.join(wrong)}" if wrong else None
        links = Healed(id="", what="links", subject=f"{len(changed)} put back to the topology", problem=problem)
        return (*told, links)

    def wrong_links(self) -> tuple[str, ...]:
        """Links of which the core's kernel says something else than what must be in force."""
        found, topology = self._lab.read_back(), self._lab.topology
        wrong = []
        for link, state in self._lab.link_states().items():
            mtu = topology.link(*link).mtu or topology.mtu
            if found[link] != realised(state.in_force, mtu):
                wrong.append(f"{link[0]}>{link[1]}")
        return tuple(wrong)

    def _check(self, event: TimelineEvent) -> None:
        topology = self._lab.topology
        match event:
            case NodeEvent():
                self._node(event.node)
            case NatRebind() | Outage() if event.site not in topology.site_names:
                raise InputError(f"there is no site {event.site!r}", hint=f"Sites: {', '.join(topology.site_names)}.")
            case Flap() if event.flaps is None and event.duration_s is None:
                raise InputError("a flap needs an end", hint="Say how often, or for how long.")
            case _:
                return

    def _prepare(self, event: TimelineEvent) -> dict[str, Any]:
        if isinstance(event, NodeEvent):
            others = [fault.undo for fault in self._same(event)]
            return fault_of(event).prepare(self._node(event.node), event, others)
        return {}

    def _announce(self, fault: FaultBegin) -> None:
        """What a fault makes on the host stands in the ledger first."""
        group = fault.undo.get("group")
        if group is not None:
            ledger = self._ledger()
            try:
                ledger.record(Resource(kind="cgroup", name=group, note=_reason(fault)))
            finally:
                ledger.close()

    def _ledger(self) -> Ledger:
        """Others hold it for moments. Raises LabError when one holds it for longer."""
        deadline_s = time.monotonic() + _LEDGER_PATIENCE_S
        while True:
            try:
                return Ledger.open(self._lab.paths.ledger)
            except LabError:
                if time.monotonic() >= deadline_s:
                    raise
                time.sleep(_LEDGER_RETRY_S)

    def _make(self, fault: FaultBegin, planned_s: float | None) -> dict[str, Any]:
        event, holder, reason = fault.event, holder_of(fault), _reason(fault)
        links = links_touched(self._lab.topology, event)
        match event:
            case Outage() | BlackHole() | Partition() | Flap():
                self._lab.hold(links, holder, reason, planned_s)
            case Change():
                self._lab.overlay(dict.fromkeys(links, event.fields), holder, reason, planned_s)
            case Ramp():
                self._starts[fault.id] = {link: self._lab.in_force(*link) for link in links}
            case Play():
                self._play(fault, event, links)
            case NatRebind():
                from harness.nodes.nat import rebind

                rebind(self._lab.plan.site(event.site))
            case NodeEvent():
                self._lab.hold(self._cables(event), holder, reason, planned_s)
                return fault_of(event).make(self._node(event.node), event, fault.undo, self._others(fault))
        return {}

    def _play(self, fault: FaultBegin, event: Play, links: tuple[LinkEnds, ...]) -> None:
        # All links of a site have one thing in common, its access line.
        site = event.links.site
        targets = onto_links(links) if site is None else as_access(self._lab.topology, site)
        self._playbacks[fault.id] = self._player_that_runs().play(
            event.trace,
            targets,
            offset_s=event.offset_s,
            speed=event.speed,
            loop=event.loop,
            begin_s=fault.at_s if fault.planned_s is None else fault.planned_s,
            holder=holder_of(fault),
        )

    def _player_that_runs(self) -> Player:
        if self._player is None:
            from harness.lab.player import Player

            self._player = Player(self._lab)
        return self._player

    def _undo(self, fault: FaultBegin, planned_s: float | None) -> None:
        event, holder = fault.event, holder_of(fault)
        reason = f"end of {_reason(fault)}"
        if isinstance(event, NodeEvent):
            fault_of(event).undo(self._node(event.node), event, fault.undo, self._others(fault))
            self._lab.let_go(self._cables(event), holder, reason, planned_s)
            return
        links = links_touched(self._lab.topology, event)
        playback = self._playbacks.pop(fault.id, None)
        try:
            if playback is not None and self._player is not None:
                self._player.stop(playback)
        finally:
            # Whatever became of who plays, or of the process that began the fault.
            self._lab.let_go(links, holder, reason, planned_s)
            self._lab.lift(links, holder, reason, planned_s)

    def _cables(self, event: NodeEvent) -> tuple[LinkEnds, ...]:
        """The links that a node's fault takes with it: a machine that boots answers nobody."""
        site = self._lab.nodes[event.node].site
        alone = sum(node.site == site for node in self._lab.nodes.values()) == 1
        return links_of(self._lab.topology, site) if isinstance(event, Reboot) and alone else ()

    def _node(self, name: str) -> FaultyNode:
        node = self._lab.nodes.get(name)
        if node is None:
            raise InputError(f"there is no node {name!r}", hint=f"Nodes: {', '.join(self._lab.nodes)}.")
        software = self._software
        return FaultyNode(
            node,
            name,
            self._lab.lab_id,
            roles=None if software is None else lambda: self._roles(software, name),
            start_again=None if software is None else lambda: software.start_again(name),
        )

    def _roles(self, software: Software, node: str) -> Mapping[int, str]:
        """What was foreseen counts once: who does not find their process in it asks again."""
        seen_s, roles = self._foreseen.pop(node, (0.0, {}))
        return roles if time.monotonic() - seen_s < _FORESIGHT_S else software.roles(node)

    def _find(self, fault_id: str) -> FaultBegin | None:
        return next((fault for fault in self._journal.in_force() if fault.id == fault_id), None)

    def _same(self, event: NodeEvent) -> list[FaultBegin]:
        """Faults in force that act on the same thing of the same node."""
        return [
            fault
            for fault in self._journal.in_force()
            if isinstance(fault.event, NodeEvent)
            and fault.event.node == event.node
            and _thing(fault.event) == _thing(event)
        ]

    def _others(self, fault: FaultBegin) -> list[dict[str, Any]]:
        assert isinstance(fault.event, NodeEvent)
        return [other.undo for other in self._same(fault.event) if other.id != fault.id]

    def _tell(self, action: str, fault: FaultBegin, planned_s: float | None) -> None:
        if self._on_fault is not None:
            self._on_fault(action, fault, planned_s, time.monotonic() - self._lab.epoch_s)


def _thing(event: NodeEvent) -> str:
    kind: str = getattr(event, "do", "")
    return "clock" if kind.startswith("clock-") else kind


def _reason(fault: FaultBegin) -> str:
    return f"{fault.event.do} of {subject_of(fault.event)}"


def holder_of(fault: FaultBegin) -> str:
    """In whose name a fault acts on links: unlike any other fault's, and not a beginning of another's."""
    kind = TRACE_HOLDER if isinstance(fault.event, Play) else ""
    return f"{kind}{fault.id}: {fault.event.do}"


@contextmanager
def noted(lab: Lab, event: TimelineEvent, origin: str) -> Iterator[FaultBegin]:
    """Let the journal know of something that is done by other means in the name of ``holder_of`` it, so that it is
    listed, recorded and healed. An InputError within says that it did not begin."""
    journal = FaultJournal(lab.state_dir / JOURNAL)
    with journal.exclusive():
        fault = FaultBegin(id=journal.next_id(), event=event, at_s=time.monotonic(), origin=origin)
        journal.append(fault)
    made = True
    try:
        yield fault
    except InputError:
        made = False
        raise
    finally:
        # The lab, and the journal with it, may be gone by now; or another process has ended it.
        if lab.state_dir.is_dir() and any(other.id == fault.id for other in journal.in_force()):
            journal.append(FaultEnd(id=fault.id, at_s=time.monotonic(), made=made))
