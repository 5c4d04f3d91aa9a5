"""Which outages of a timeline are in force at a time, and when that changes next. Pure.

Times are in seconds from the timeline's start. An outage is in force from ``at_s`` until ``at_s + duration_s``, its end
excluded, and again every ``every_s``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from harness.model.base import Value
from harness.model.topology import Outage, Topology


class Transition(Value):
    """From ``at_s`` on, exactly these sites are cut off."""

    at_s: float
    sites: frozenset[str]


def in_force(outages: Sequence[Outage], at_s: float) -> frozenset[str]:
    """The sites that are cut off at a time."""
    return frozenset(outage.site for outage in outages if _active(outage, at_s))


def transitions(outages: Sequence[Outage]) -> Iterator[Transition]:
    """What is in force from each begin or end of an outage on, in order; endless when an outage repeats.

    Two in a row may be equal: outages of one site that follow one another without a gap.
    """
    at_s = _next_edge(outages, -1.0)
    while at_s is not None:
        yield Transition(at_s=at_s, sites=in_force(outages, at_s))
        at_s = _next_edge(outages, at_s)


def links_of(topology: Topology, site: str) -> tuple[tuple[str, str], ...]:
    """Every directed link from or to a site."""
    return tuple((link.source, link.destination) for link in topology.links if site in (link.source, link.destination))


def _start(outage: Outage, repeat: int) -> float:
    return outage.at_s + (repeat * outage.every_s if outage.every_s is not None else 0.0)


def _repeats(outage: Outage, at_s: float) -> list[int]:
    """The repeats whose edges may lie around a time: the one under way or last, its neighbours, and earlier ones that
    are long enough to reach it."""
    if outage.every_s is None:
        return [0]
    latest = math.floor((at_s - outage.at_s) / outage.every_s)
    reach = math.ceil(outage.duration_s / outage.every_s) + 1
    return [repeat for repeat in range(latest - reach, latest + 2) if repeat >= 0] or [0]


def _active(outage: Outage, at_s: float) -> bool:
    starts = (_start(outage, repeat) for repeat in _repeats(outage, at_s))
    return any(start <= at_s < start + outage.duration_s for start in starts)


def _next_edge(outages: Sequence[Outage], after_s: float) -> float | None:
    edges = [
        edge
        for outage in outages
        for repeat in _repeats(outage, after_s)
        for edge in (_start(outage, repeat), _start(outage, repeat) + outage.duration_s)
        if edge > after_s
    ]
    return min(edges, default=None)
