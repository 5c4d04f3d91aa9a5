"""Playing a trace onto links: which links, when each change is due, and what it sets. Pure.

Onto a link, a trace's values **replace** the link's own. As an access line of a site it stands **in series** with what
else the site's links pass through: delays and jitters add, losses combine as independent stages, the slower rate wins.
The bottleneck's buffer stays the link's own, in bytes, at every rate; a link that has none, since it has no rate, gets
the trace's, else one bandwidth-delay product of the mean rate and the link's round trip, 64 KiB at least.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

from harness.model.base import Value
from harness.model.impairment import ActiveQueue, GilbertElliottLoss, Impairment, IndependentLoss, Loss
from harness.model.topology import Topology
from harness.model.trace import Course, Direction, Point, Trace
from harness.model.trace_facts import facts

MOST_HZ = 100
"""Points that follow each other faster are merged: the last one of each stretch counts."""
PROMPT_QUEUE = ActiveQueue(discipline="codel", target_us=1_000_000_000, interval_us=1_000_000_000)
"""A CoDel that never acts, since nothing waits for 1,000 s: a plain drop-tail queue behind a limiter that heeds a new
rate at once. netem's own rate says of each packet when it will leave as it comes; what waits in its queue as the rate
rises still leaves at the old one, and a link at 20 Mbit/s that was at 1 Mbit/s for half a second stays slow for
seconds."""
_SMALLEST_BUFFER = 64 << 10

LinkEnds = tuple[str, str]


class Target(Value):
    """One directed link that follows one direction of a trace. ``within`` is what the link does without the line that
    the trace stands for; None: the trace is all of the link."""

    source: str
    destination: str
    direction: Direction
    within: Impairment | None = None

    @property
    def link(self) -> LinkEnds:
        """Source and destination."""
        return self.source, self.destination


class Tick(NamedTuple):
    """Something is due: ``at_us`` since the playing began, and where in the trace that is."""

    at_us: float
    trace_us: int
    round: int


def onto_links(pairs: Sequence[LinkEnds]) -> tuple[Target, ...]:
    """Targets for links that become the trace. Of two opposite links the first one listed goes ``up``, from the
    subscriber; so does a link without its opposite."""
    targets: list[Target] = []
    for source, destination in dict.fromkeys(pairs):
        back = any(other.link == (destination, source) for other in targets)
        targets.append(Target(source=source, destination=destination, direction="down" if back else "up"))
    return tuple(targets)


def as_access(topology: Topology, site: str) -> tuple[Target, ...]:
    """Targets for a trace that is the access line of ``site``, in the place of the one that it has. Raises KeyError."""
    if site not in topology.site_names:
        raise KeyError(site)
    targets = []
    for link in topology.links:
        if site not in (link.source, link.destination):
            continue
        direction: Direction = "up" if link.source == site else "down"
        within = link.beyond_source if direction == "up" else link.beyond_destination
        targets.append(
            Target(
                source=link.source, destination=link.destination, direction=direction, within=within or link.impairment
            )
        )
    return tuple(targets)


def ticks(trace: Trace, *, offset_us: int, speed: float, loop: bool, hz: float = MOST_HZ) -> Iterator[Tick]:
    """When the trace has something new, from ``offset_us`` of it on, which is at 0. Endless when it loops.

    The last tick of one that does not loop is its end, at ``trace_us`` = the duration.
    """
    return _merged(_raw_ticks(trace, offset_us, speed, loop=loop), 1e6 / hz)


def _raw_ticks(trace: Trace, offset_us: int, speed: float, *, loop: bool) -> Iterator[Tick]:
    edges = sorted({*trace.down.at_us, *trace.course("up").at_us})
    begin_us = offset_us % trace.duration_us if loop else min(offset_us, trace.duration_us)
    yield Tick(0.0, begin_us, 0)
    for turn in count():
        for edge in edges:
            at_us = turn * trace.duration_us + edge - begin_us
            if at_us > 0:
                yield Tick(at_us / speed, edge, turn)
        if not loop:
            yield Tick((trace.duration_us - begin_us) / speed, trace.duration_us, turn)
            return


def _merged(raw: Iterator[Tick], gap_us: float) -> Iterator[Tick]:
    """No two closer than ``gap_us``: a tick that comes too soon waits, and what comes meanwhile takes its place."""
    last_us = -gap_us
    waiting: Tick | None = None
    for tick in raw:
        if waiting is not None and tick.at_us > waiting.at_us:
            yield waiting
            last_us, waiting = waiting.at_us, None
        waiting = tick._replace(at_us=max(tick.at_us, last_us + gap_us))
    if waiting is not None:
        yield waiting


def fields(course: Course, point: Point, target: Target, below: Impairment, spare_buffer: int) -> dict[str, Any]:
    """The fields of Impairment that a point sets on a link, whose own values are ``below``.

    ``spare_buffer`` in bytes is for a link without one. Raises ValueError for losses that cannot be combined.
    """
    within = target.within
    found: dict[str, Any] = {}
    if course.blocked:
        found["blocked"] = point.blocked or (within or below).blocked
    if point.rate_bps is not None:
        limit = math.inf if within is None or within.rate_bps is None else within.rate_bps
        found["rate_bps"] = int(min(point.rate_bps, limit))
        if below.buffer_bytes is None and below.buffer_packets is None:
            found["buffer_bytes"] = spare_buffer
        if below.active_queue is None:
            found["active_queue"] = PROMPT_QUEUE
    delay_us = below.delay_us
    if point.delay_us is not None:
        delay_us = found["delay_us"] = point.delay_us + (0 if within is None else within.delay_us)
    if point.jitter_us is not None:
        found["jitter_us"] = min(delay_us, point.jitter_us + (0 if within is None else within.jitter_us))
    elif below.jitter_us > delay_us:
        found["jitter_us"] = delay_us
    if point.loss is not None:
        found["loss"] = _lost_too(None if within is None else within.loss, point.loss)
    return found


def spare_buffer(trace: Trace, target: Target, below: Impairment, back: Impairment) -> int:
    """Bytes for a link that has no buffer of its own; ``below`` and ``back`` are its own values and its opposite's."""
    course = trace.course(target.direction)
    if course.buffer_bytes is not None:
        return course.buffer_bytes
    mean = facts(course, trace.duration_us)
    delay_us = below.delay_us + back.delay_us + 2 * (mean.mean_delay_us or 0.0)
    return max(_SMALLEST_BUFFER, round((mean.mean_rate_bps or 0.0) * delay_us / 8e6))


def _lost_too(loss: Loss | None, share: float) -> Loss | None:
    """A loss with an independent one behind it."""
    match loss:
        case None:
            return IndependentLoss(probability=share) if share else None
        case _ if not share:
            return loss
        case IndependentLoss(probability=first, correlation=0.0):
            return IndependentLoss(probability=1 - (1 - first) * (1 - share))
        case GilbertElliottLoss():
            return loss.model_copy(
                update={
                    "loss_in_bad": 1 - (1 - loss.loss_in_bad) * (1 - share),
                    "loss_in_good": 1 - (1 - loss.loss_in_good) * (1 - share),
                }
            )
    raise ValueError(f"a {loss.kind} loss with memory of its own cannot be combined with the trace's loss")
