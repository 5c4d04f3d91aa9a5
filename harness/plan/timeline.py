"""A timeline as ordered steps: when each event begins, moves on, and is undone. Pure.

Times are in seconds from the timeline's start. At one instant undoing comes before beginning, so that an event that
repeats without a gap is undone and begun anew.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from harness.model.base import Value
from harness.model.impairment import Impairment, IndependentLoss
from harness.model.timeline import (
    INSTANTS,
    BlackHole,
    Change,
    ClockJump,
    ClockSkew,
    Flap,
    LinkChoice,
    NatRebind,
    Outage,
    Partition,
    Play,
    Ramp,
    Target,
    TimelineEvent,
)
from harness.model.topology import Topology

LinkEnds = tuple[str, str]

_ORDER = {"end": 0, "move": 1, "begin": 2}
_NUMBERS = ("delay_us", "jitter_us", "rate_bps", "buffer_bytes", "buffer_packets")


class Step(Value):
    """One thing to do: ``begin`` or ``end`` the occurrence ``repeat`` of the event with this index, or ``move`` it on,
    where ``turn`` counts its moves from 1."""

    at_s: float
    do: Literal["begin", "move", "end"]
    event: int
    repeat: int = 0
    turn: int = 0


def steps(timeline: Sequence[TimelineEvent]) -> Iterator[Step]:
    """Everything to do, in order; endless when an event repeats without a count."""
    streams = [_steps_of(event, index) for index, event in enumerate(timeline)]
    return heapq.merge(*streams, key=lambda step: (step.at_s, _ORDER[step.do], step.event, step.repeat))


def active(timeline: Sequence[TimelineEvent], at_s: float) -> frozenset[tuple[int, int]]:
    """(event, repeat) of every occurrence in force at a time, its end excluded."""
    return frozenset(
        (index, repeat)
        for index, event in enumerate(timeline)
        if event.do not in INSTANTS
        for repeat in _repeats_around(event, at_s)
        if _start(event, repeat) <= at_s < _finish(event, repeat)
    )


def length_of(event: TimelineEvent) -> float:
    """Seconds from an occurrence's begin to its undo: infinite when only the timeline's end undoes it, 0 for an
    instant."""
    if event.do in INSTANTS:
        return 0.0
    if isinstance(event, Flap) and event.flaps is not None:
        flapping_s = event.flaps * event.down_s + (event.flaps - 1) * event.up_s
        return flapping_s if event.duration_s is None else min(flapping_s, event.duration_s)
    return math.inf if event.duration_s is None else event.duration_s


def links_of(topology: Topology, site: str) -> tuple[LinkEnds, ...]:
    """Every directed link from or to a site."""
    return tuple((link.source, link.destination) for link in topology.links if site in (link.source, link.destination))


def chosen_links(topology: Topology, choice: LinkChoice) -> tuple[LinkEnds, ...]:
    """The links that a choice means."""
    if choice.all:
        return tuple((link.source, link.destination) for link in topology.links)
    if choice.site is not None:
        return links_of(topology, choice.site)
    return choice.pairs


def links_touched(topology: Topology, event: TimelineEvent) -> tuple[LinkEnds, ...]:
    """The links on which an event acts; none for a node's."""
    match event:
        case Outage():
            return links_of(topology, event.site)
        case Partition():
            group_of = {site: number for number, group in enumerate(event.groups) for site in group}
            return tuple(
                (link.source, link.destination)
                for link in topology.links
                if link.source in group_of
                and link.destination in group_of
                and _cut(group_of[link.source], group_of[link.destination], event.one_way)
            )
        case Change() | Ramp() | Flap() | BlackHole() | Play():
            return chosen_links(topology, event.links)
        case _:
            return ()


def sites_named(event: TimelineEvent) -> frozenset[str]:
    """The sites that an event names: it can happen only where there are all of them."""
    match event:
        case Outage() | NatRebind():
            return frozenset([event.site])
        case Partition():
            return frozenset(site for group in event.groups for site in group)
        case Change() | Ramp() | Flap() | BlackHole() | Play():
            ends = frozenset(site for pair in event.links.pairs for site in pair)
            return ends if event.links.site is None else ends | {event.links.site}
        case _:
            return frozenset([site_of(event.node)])


def role_of(event: TimelineEvent) -> str | None:
    """The role of the processes that an event hits, in the system under test; None when it goes by anything else."""
    target = getattr(event, "target", None)
    return target.role if isinstance(target, Target) else None


def site_of(node: str) -> str:
    """The site of a node, by its name: nodes after a site's first one are called ``SITE.NAME``."""
    return node.partition(".")[0]


def nodes_with_clock(topology: Topology) -> frozenset[str]:
    """Nodes whose processes need a clock that can be moved: declared so, or because the timeline moves it."""
    declared = {node for site in topology.sites if site.adjustable_clock for node in site.node_names}
    planned = {event.node for event in topology.timeline if isinstance(event, ClockSkew | ClockJump)}
    return frozenset(declared | planned)


def flap_is_down(turn: int) -> bool:
    """Whether a flap's links are black holes after its move number ``turn`` (0: its begin)."""
    return turn % 2 == 0


def ramp_turns(event: Ramp) -> int:
    """How many moves it takes to reach the targets."""
    return max(1, math.ceil(event.over_s / event.step_s - 1e-9))


def ramp_fields(event: Ramp, start: Impairment, turn: int) -> dict[str, Any]:
    """The fields after move number ``turn``, from what was in force below when the ramp began."""
    share = min(1.0, turn / ramp_turns(event))
    target = Impairment.model_validate(event.fields)
    return {name: _between(name, getattr(start, name), getattr(target, name), share) for name in event.fields}


def _between(name: str, start: Any, target: Any, share: float) -> Any:
    if share >= 1:
        return target
    if name in _NUMBERS and start is not None and target is not None:
        return max(0 if name.endswith("_us") else 1, round(start + (target - start) * share))
    if name == "loss" and _plain(start) and _plain(target):
        first = 0.0 if start is None else start.probability
        last = 0.0 if target is None else target.probability
        return IndependentLoss(probability=first + (last - first) * share)
    return target


def _plain(loss: Any) -> bool:
    return loss is None or (isinstance(loss, IndependentLoss) and not loss.correlation)


def _cut(source: int, destination: int, one_way: bool) -> bool:
    return source < destination if one_way else source != destination


def _steps_of(event: TimelineEvent, index: int) -> Iterator[Step]:
    """In order. Occurrences of one event may overlap when it repeats faster than it ends."""
    waiting: list[tuple[float, int, int, int, Step]] = []
    for repeat in _repeats(event):
        begin = _start(event, repeat)
        while waiting and waiting[0][:2] < (begin, _ORDER["begin"]):
            yield heapq.heappop(waiting)[-1]
        yield Step(at_s=begin, do="begin", event=index, repeat=repeat)
        for step in _after_begin(event, index, repeat):
            heapq.heappush(waiting, (step.at_s, _ORDER[step.do], step.turn, repeat, step))
    while waiting:
        yield heapq.heappop(waiting)[-1]


def _after_begin(event: TimelineEvent, index: int, repeat: int) -> Iterator[Step]:
    finish = _finish(event, repeat)
    for turn, at_s in enumerate(_moves(event, _start(event, repeat), finish), start=1):
        yield Step(at_s=at_s, do="move", event=index, repeat=repeat, turn=turn)
    if event.do not in INSTANTS and math.isfinite(finish):
        yield Step(at_s=finish, do="end", event=index, repeat=repeat)


def _moves(event: TimelineEvent, begin: float, finish: float) -> Iterator[float]:
    match event:
        case Ramp():
            turns = ramp_turns(event)
            times = (begin + min(turn * event.step_s, event.over_s) for turn in range(1, turns + 1))
            yield from (at_s for at_s in times if at_s < finish)
        case Flap() if math.isfinite(finish):
            at_s = begin
            for turn in range(1, 2 * _flaps(event, finish - begin)):
                at_s += event.down_s if turn % 2 else event.up_s
                if at_s >= finish:
                    return
                yield at_s
        case _:
            return


def _flaps(event: Flap, length_s: float) -> int:
    return event.flaps or math.ceil(length_s / (event.down_s + event.up_s)) + 1


def _repeats(event: TimelineEvent) -> Iterator[int]:
    if event.every_s is None:
        yield 0
        return
    repeat = 0
    while event.count is None or repeat < event.count:
        yield repeat
        repeat += 1


def _repeats_around(event: TimelineEvent, at_s: float) -> range:
    """The repeats that may be in force at a time."""
    if event.every_s is None:
        return range(1)
    latest = math.floor((at_s - event.at_s) / event.every_s) + 1
    length = length_of(event)
    first = 0 if math.isinf(length) else max(0, latest - math.ceil(length / event.every_s) - 2)
    last = latest + 1 if event.count is None else min(latest + 1, event.count)
    return range(first, max(first, last))


def _start(event: TimelineEvent, repeat: int) -> float:
    return event.at_s + (repeat * event.every_s if event.every_s is not None else 0.0)


def _finish(event: TimelineEvent, repeat: int) -> float:
    return _start(event, repeat) + length_of(event)
