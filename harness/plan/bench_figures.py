"""From what a trial's receivers, counters and probes saw to the figures of a table. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from harness.model.base import Value
from harness.model.bench import FlowResult, Interval, Moved, Transport, TrialResult
from harness.model.trace import Course

WARM_UP_S = 3.0
"""How much of the beginning does not count."""

FULL_PAYLOAD = 1472
"""Of a packet of 1,500 bytes with IP and UDP headers; more a datagram of one packet cannot carry."""

LARGEST_DATAGRAM = 65_507
TCP_PAYLOAD = 1448
"""With the timestamps option, of the same packet."""

MANAGEMENT_SEGMENTS = 4_000
"""What the harness's own SSH may send over TCP on a node meanwhile."""


def goodput_bps(
    intervals: Sequence[Interval], *, after_s: float = WARM_UP_S, until_s: float | None = None
) -> float | None:
    """Payload per second from ``after_s`` on, until the last interval's end or ``until_s``. An interval across an edge
    counts in proportion. None when nothing of the kind was seen."""
    end = max((one.end_s for one in intervals), default=0.0)
    end = end if until_s is None else min(end, until_s)
    if end - after_s < 0.5:
        return None
    size = 0.0
    for one in intervals:
        inside = min(one.end_s, end) - max(one.begin_s, after_s)
        if inside > 0 and one.end_s > one.begin_s:
            size += one.bytes * inside / (one.end_s - one.begin_s)
    return size * 8 / (end - after_s)


def from_samples(samples: Sequence[tuple[float, int, int]]) -> tuple[Interval, ...]:
    """Intervals from totals (time, bytes, files) of an observer, counted from just before the first byte or file that
    it saw. Totals that shrink, as when a temporary file goes, make an interval of nothing."""
    if not samples:
        return ()
    _, least_bytes, least_files = samples[0]
    first = next(
        (place for place, (_, size, files) in enumerate(samples) if size > least_bytes or files > least_files), None
    )
    if first is None:
        return ()
    seen = samples[max(0, first - 1) :]
    begin = seen[0][0]
    found, high_bytes, high_files = [], seen[0][1], seen[0][2]
    for (at, _, _), (later, size, files) in pairwise(seen):
        found.append(
            Interval(
                begin_s=round(at - begin, 4),
                end_s=round(later - begin, 4),
                bytes=max(0, size - high_bytes),
                files=max(0, files - high_files),
            )
        )
        high_bytes, high_files = max(high_bytes, size), max(high_files, files)
    return tuple(found)


def as_claimed(
    transport: Transport, payload: int, moved: Moved, *, beside_tcp: bool = False
) -> tuple[bool | None, str]:
    """Whether counters agree that ``payload`` bytes went by the transport that is claimed, and why not.

    UDP: the link carried packets enough for it, the kernels counted datagrams enough (one may be as large as 64 KiB
    where the kernel splits it), and TCP sent too few segments to have carried it, which nobody can say ``beside_tcp``
    that flows meanwhile. TCP: segments enough.
    """
    if transport == "any" or not payload:
        return None, ""
    needed_packets = payload // FULL_PAYLOAD
    carried_by_tcp = max(0, moved.tcp_segments_sent - MANAGEMENT_SEGMENTS) * TCP_PAYLOAD
    if transport == "tcp":
        if moved.tcp_segments_sent >= payload // (TCP_PAYLOAD + 12):
            return True, ""
        return False, f"{payload:,} bytes arrived, but TCP sent only {moved.tcp_segments_sent:,} segments"
    if moved.link_packets < needed_packets:
        return False, f"{payload:,} bytes arrived, but the link carried only {moved.link_packets:,} packets"
    datagrams = min(moved.udp_sent, moved.udp_received)
    if datagrams < payload // LARGEST_DATAGRAM:
        return False, f"{payload:,} bytes arrived, but UDP moved only {datagrams:,} datagrams"
    if carried_by_tcp > payload * 0.05 and not beside_tcp:
        return False, f"TCP sent {moved.tcp_segments_sent:,} segments meanwhile"
    return True, ""


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all have the same, 1/n when one has all. Raises ValueError for no value."""
    if not values:
        raise ValueError("no shares to compare")
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def offered_bits(course: Course, duration_us: int, begin_s: float, end_s: float) -> float:
    """What a trace's direction lets through between two times of its playing, in bits; it begins again at its end."""
    edges = (*course.at_us, duration_us)
    total = 0.0
    turn_s = duration_us / 1e6
    turn = int(begin_s // turn_s)
    while turn * turn_s < end_s:
        for place, (edge, following) in enumerate(pairwise(edges)):
            begin, end = turn * turn_s + edge / 1e6, turn * turn_s + following / 1e6
            inside = min(end, end_s) - max(begin, begin_s)
            point = course.point(place)
            if inside > 0 and not point.blocked:
                total += (point.rate_bps or 0) * inside
        turn += 1
    return total


def quantiles(values: Sequence[float]) -> tuple[float, float] | None:
    """Median and 95th percentile; None for fewer than 5 values."""
    if len(values) < 5:
        return None
    ranked = sorted(values)
    return statistics.median(ranked), ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))]


class Spread(Value):
    """The median of repeats, their least and greatest, and how many there are."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of the values that there are; None when there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(median=statistics.median(known), low=min(known), high=max(known), count=len(known))


class Line(Value):
    """One line of the table: one peer of a line-up in a cell, over all repeats. ``place`` is its place in the line-up.
    ``note``: what is wrong, of the first repeat in which something is."""

    cell: str
    workload: str
    peers: tuple[str, ...]
    place: int
    repeats: int
    rate_bps: float
    goodput_bps: Spread | None
    share: Spread | None
    files_per_s: Spread | None
    set_up_s: Spread | None
    all_after_s: Spread | None
    jain: Spread | None
    added_p50_ms: Spread | None
    added_p95_ms: Spread | None
    source_cpu_s_per_gbit: Spread | None
    destination_cpu_s_per_gbit: Spread | None
    loss: Spread | None
    traffic_bps: Spread | None = None
    busy_share: Spread | None = None
    note: str = ""

    @property
    def peer(self) -> str:
        """Whose figures these are."""
        return self.peers[self.place]


def lines(results: Sequence[TrialResult]) -> tuple[Line, ...]:
    """The table, in the order in which line-ups were first measured."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[TrialResult]] = {}
    for result in results:
        trial = result.trial
        groups.setdefault((trial.cell.key, trial.workload.kind, trial.peers), []).append(result)
    return tuple(
        _line(cell, workload, peers, place, group)
        for (cell, workload, peers), group in groups.items()
        for place in range(len(peers))
    )


def _line(cell: str, workload: str, peers: tuple[str, ...], place: int, group: Sequence[TrialResult]) -> Line:
    flows = [one.flows[place] for one in group if len(one.flows) > place]
    whole = [one for one in group if len(one.flows) == len(peers)]
    alone = whole if len(peers) == 1 else []
    notes = [one.problem for one in group if one.problem] + [flow.problem for flow in flows if flow.problem]
    return Line(
        cell=cell,
        workload=workload,
        peers=peers,
        place=place,
        repeats=len(group),
        rate_bps=statistics.median(one.rate_bps for one in group),
        goodput_bps=_of(flows, "goodput_bps"),
        share=_of(flows, "share"),
        files_per_s=_of(flows, "files_per_s"),
        set_up_s=spread(flow.set_up_s for flow in flows),
        all_after_s=spread(
            flow.set_up_s + flow.finished_s
            for flow in flows
            if flow.set_up_s is not None and flow.finished_s is not None
        ),
        jain=spread(fairness(one) for one in whole) if len(peers) > 1 else None,
        added_p50_ms=spread(one.delay.added_p50_ms for one in whole if one.delay is not None),
        added_p95_ms=spread(one.delay.added_p95_ms for one in whole if one.delay is not None),
        source_cpu_s_per_gbit=spread(one.source_cpu_s_per_gbit for one in alone),
        destination_cpu_s_per_gbit=spread(one.destination_cpu_s_per_gbit for one in alone),
        loss=spread(one.moved.loss for one in whole if one.moved is not None),
        traffic_bps=spread(one.traffic_bps for one in whole),
        busy_share=spread(one.busy_share for one in whole),
        note=notes[0] if notes else "",
    )


def fairness(result: TrialResult) -> float | None:
    """Jain's index of a trial's flows; None for one flow, or when one of them has no figure."""
    rates = [flow.goodput_bps for flow in result.flows if flow.goodput_bps is not None]
    return jain(rates) if len(rates) == len(result.flows) > 1 else None


def _of(flows: Sequence[FlowResult], field: str) -> Spread | None:
    return spread(getattr(flow, field) for flow in flows if flow.as_claimed is not False)


def counters_of(snmp: str) -> Mapping[str, int]:
    """``/proc/net/snmp`` as ``Udp.OutDatagrams`` and so on. Raises ValueError for anything else."""
    found: dict[str, int] = {}
    rows = [line.split() for line in snmp.splitlines() if line.strip()]
    for names, values in zip(rows[::2], rows[1::2], strict=True):
        if names[0] != values[0]:
            raise ValueError(f"{names[0]} is followed by {values[0]}")
        found |= {
            f"{names[0]}".rstrip(":") + f".{name}": int(value)
            for name, value in zip(names[1:], values[1:], strict=True)
        }
    return found
