"""What a lab does now, from two looks at its counters a little time apart. Pure.

RTT is not measured here: it is the delays in force both ways and the time that what waits in the bottlenecks takes to
leave. A counter tells how many packets are inside a link, in flight and waiting; those in flight are the rate of
packets times the delay (Little's law), so that the rest waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.model.base import Value
from harness.model.impairment import Impairment
from harness.model.measurement import LinkCounters

LinkKey = tuple[str, str]
FULL_PACKET_BYTES = 1500


class LabLook(Value):
    """One look at a lab. CPU times in seconds; ``core_cpu_s`` is None where the core has no process."""

    at_s: float
    counters: tuple[LinkCounters, ...]
    node_cpu_s: dict[str, float]
    core_cpu_s: float | None = None


class LinkNow(Value):
    """One directed link. Rates are of what left it.

    ``lost_per_s``: by the loss asked for or a cut; ``overflow_per_s``: by a full buffer. ``inside`` counts packets in
    flight and waiting, ``queue_us`` is how long the waiting ones take. ``rtt_us`` is computed, None for a cut.
    """

    source: str
    destination: str
    bits_per_s: float
    packets_per_s: float
    lost_per_s: float
    overflow_per_s: float
    inside: int
    queue_us: float
    rtt_us: float | None
    load: float | None
    blocked: bool

    @property
    def busy(self) -> tuple[float, float, float]:
        """What makes a link worth a look: drops, then bits."""
        return self.overflow_per_s, self.bits_per_s, self.lost_per_s


class LabNow(Value):
    """All links in the topology's order; CPUs that each node and the core use."""

    seconds: float
    links: tuple[LinkNow, ...]
    node_cpu: dict[str, float]
    core_cpu: float | None = None

    @property
    def bits_per_s(self) -> float:
        """Through the whole core."""
        return sum(link.bits_per_s for link in self.links)

    @property
    def packets_per_s(self) -> float:
        """Through the whole core."""
        return sum(link.packets_per_s for link in self.links)


def compare(before: LabLook, after: LabLook, in_force: Mapping[LinkKey, Impairment]) -> LabNow:
    """What happened between two looks. Raises ValueError unless the second is later."""
    seconds = after.at_s - before.at_s
    if seconds <= 0:
        raise ValueError("the second look must be later")
    first = {(link.source, link.destination): link for link in before.counters}
    bare = [
        _link(first[ends], now, seconds, in_force[ends])
        for now in after.counters
        if (ends := (now.source, now.destination)) in first and ends in in_force
    ]
    queues = {(link.source, link.destination): link.queue_us for link in bare}
    links = tuple(link.model_copy(update={"rtt_us": _rtt(link, queues, in_force)}) for link in bare)
    core = None
    if before.core_cpu_s is not None and after.core_cpu_s is not None:
        core = max(0.0, after.core_cpu_s - before.core_cpu_s) / seconds
    return LabNow(
        seconds=seconds,
        links=links,
        node_cpu={
            # Of processes that ended in between nobody knows: never below none.
            node: max(0.0, used - before.node_cpu_s.get(node, used)) / seconds
            for node, used in after.node_cpu_s.items()
        },
        core_cpu=core,
    )


def busiest(links: Sequence[LinkNow], count: int) -> tuple[LinkNow, ...]:
    """So many links, those first on which most happens."""
    return tuple(sorted(links, key=lambda link: link.busy, reverse=True)[:count])


def _link(before: LinkCounters, now: LinkCounters, seconds: float, impairment: Impairment) -> LinkNow:
    packets = max(0, now.packets - before.packets)
    size = max(0, now.bytes - before.bytes)
    bits_per_s, packets_per_s = size * 8 / seconds, packets / seconds
    rate = impairment.rate_bps
    waiting = max(0.0, now.backlog_packets - packets_per_s * impairment.delay_us / 1e6)
    mean_size = size / packets if packets else FULL_PACKET_BYTES
    return LinkNow(
        source=now.source,
        destination=now.destination,
        bits_per_s=bits_per_s,
        packets_per_s=packets_per_s,
        lost_per_s=max(0, now.dropped_loss - before.dropped_loss) / seconds,
        overflow_per_s=max(0, now.dropped_queue - before.dropped_queue) / seconds,
        inside=now.backlog_packets,
        queue_us=0.0 if rate is None else waiting * mean_size * 8e6 / rate,
        rtt_us=None,
        load=None if rate is None else bits_per_s / rate,
        blocked=impairment.blocked,
    )


def _rtt(link: LinkNow, queues: Mapping[LinkKey, float], in_force: Mapping[LinkKey, Impairment]) -> float | None:
    there, back = (link.source, link.destination), (link.destination, link.source)
    if back not in in_force or in_force[there].blocked or in_force[back].blocked:
        return None
    return in_force[there].delay_us + in_force[back].delay_us + queues.get(there, 0.0) + queues.get(back, 0.0)
