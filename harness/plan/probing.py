"""How links are probed: which streams of packets, when, within which budget. Pure.

Four kinds of stream, each for what it alone can tell:

| kind | packets | tells |
|---|---|---|
| light | small, far apart, echoed | delay, RTT, jitter, order, duplicates, loss of links that should lose none |
| dense | small, alone on the link | loss and its bursts: a burst model counts packets, so none may come between |
| idle, saturating | full, far apart, then faster than the rate | rate; the buffer's depth by how long packets wait |
| damage | long, without checksum | the share of damaged packets |

A quick measurement has the first two and takes about four seconds. Jitter keeps packets in order, so that the delays of
packets that follow closely are those of the latest of them: on a link with jitter, probes are far apart, and no echo of
another stream goes between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field

from harness.model.base import Value
from harness.model.impairment import Impairment
from harness.model.measurement import Depth
from harness.plan.delay_law import serialisation_us
from harness.plan.shaping import buffer_packets

LinkKey = tuple[str, str]
Wanted = Mapping[LinkKey, Impairment]
Kind = Literal["light", "dense", "idle", "saturating", "damage", "noise"]

LONGEST_ROUND = 3
"""From this round on they grow no longer."""
HEADERS_BYTES = 28
"""IPv4 and UDP."""
HEADERS6_BYTES = 48
PAYLOAD_BYTES = 36
DAMAGE_PAYLOAD_BYTES = 1000
MAX_LOAD = 0.2
"""Share of a link's rate that light probes and their echoes may take."""
DENSE_LOAD = 0.3
LIGHT_US: Mapping[Depth, int] = {"quick": 2_000_000, "full": 12_000_000}
DENSE_US: Mapping[Depth, int] = {"quick": 1_200_000, "full": 20_000_000}
LIGHT_INTERVAL_US = 20_000
FEWEST_PACKETS = 8
"""The fewest values whose least and greatest are a 99% interval of the median."""
MOST_DENSE_PACKETS: Mapping[Depth, int] = {"quick": 1_000, "full": 20_000}
WANTED_BURSTS = 60
LIGHT_BUDGET_PPS = 1_500
"""Of all links together, echoes not counted: what a small machine carries without noise of its own."""
DENSE_BUDGET_PPS = 5_000
JITTER_SPACING = 4
"""Jitters between two probes: twice the whole width of uniform jitter, and four standard deviations of any other."""
LONGEST_INTERVAL_US: Mapping[Depth, int] = {"quick": 200_000, "full": 1_000_000}
DRAIN_SLACK_US = 300_000
MOST_LINKS = 1_200
"""More links than this are sampled in a quick measurement, and measured in as many batches in a full one."""
STRIDES = (1, 2, 4, 8)
IDLE_PACKETS = 12
SATURATION = 1.6
"""How much faster than its rate a link is fed."""
FILLING_MARGIN = 1.15
ACTIVE_PACKETS = 100
SATURATED_US = 400_000
MOST_SATURATED_US = 8_000_000
FEWEST_SATURATING = 60
MOST_SATURATING = 40_000
FASTEST_FEED_BPS = 1_000_000_000
SATURATION_BUDGET_BPS = 120_000_000
"""Of links that are saturated at the same time."""
LONGEST_QUEUE_US = 10_000_000
"""A link that needs longer than this to empty its buffer is not waited for."""
SESSION_US = 12_000_000
NOISE_PACKETS = 60
DAMAGED_WANTED = 60


class Stream(Value):
    """Packets of ``payload_bytes`` (UDP) over one link, one in every ``interval_ns``, from ``first_us`` on."""

    kind: Kind
    source: str
    destination: str
    packets: int = Field(ge=1)
    interval_ns: int = Field(ge=1)
    first_us: int = Field(default=0, ge=0)
    payload_bytes: int = PAYLOAD_BYTES
    echoes: bool = False
    spread: bool = False

    @property
    def link(self) -> LinkKey:
        """Source and destination."""
        return self.source, self.destination

    @property
    def last_us(self) -> int:
        """When its last interval ends."""
        return self.first_us + math.ceil(self.packets * self.interval_ns / 1000)


class Session(Value):
    """Streams that run side by side; all sites begin together and end at ``end_us``."""

    title: str
    streams: tuple[Stream, ...]
    end_us: int


def plan_sessions(
    wanted: Wanted, links: Sequence[LinkKey], depth: Depth, mtu: Mapping[LinkKey, int], round_number: int = 1
) -> list[Session]:
    """How to probe these links, whose impairments and those of the links back are in ``wanted``. In order.

    The second round sends twice as long as the first, each further one four times as long. Raises ValueError for a
    round below 1.
    """
    if round_number < 1:
        raise ValueError("rounds count from 1")
    longer = 1 << (min(round_number, LONGEST_ROUND) - 1)
    sessions = [_light_session(wanted, batch, depth, longer) for batch in batches(links, MOST_LINKS)]
    if depth == "quick":
        return sessions
    counted = [link for link in links if _shares(wanted[link])]
    damaging = [link for link in links if _damages(wanted[link])]
    return [
        *sessions,
        *(
            _session("loss", [_dense(wanted, link, len(batch), depth, longer) for link in batch], wanted)
            for batch in batches(counted, MOST_LINKS)
        ),
        *_saturating_sessions(wanted, links, mtu),
        *(
            _session("damage", [_damage(wanted[link], link, longer) for link in batch], wanted)
            for batch in batches(damaging, MOST_LINKS)
        ),
    ]


def sampled_links(sites: Sequence[str], depth: Depth, links: Iterable[LinkKey]) -> tuple[list[LinkKey], str]:
    """Which links a measurement of this depth probes, and a note on the choice when it is not all of them.

    In a large lab a quick one takes, in the sites' order, each site with those at distances 1, 2, 4 and 8, both ways:
    every site's line is crossed in both directions, and every core port is.
    """
    everything = list(links)
    if depth == "full" or len(everything) <= MOST_LINKS:
        return everything, ""
    place = {site: index for index, site in enumerate(sites)}
    count = len(sites)
    chosen = [
        link
        for link in everything
        if min((place[link[1]] - place[link[0]]) % count, (place[link[0]] - place[link[1]]) % count) in STRIDES
    ]
    distances = ", ".join(map(str, STRIDES))
    note = (
        f"{len(chosen)} of {len(everything)} links: each site with those at distances {distances} in the topology's "
        "order, both ways; a full calibration probes all"
    )
    return chosen, note


def batches(links: Sequence[LinkKey], size: int) -> list[Sequence[LinkKey]]:
    """In order, in as few and as equal parts as may be."""
    count = math.ceil(len(links) / size)
    return [links[len(links) * part // count : len(links) * (part + 1) // count] for part in range(count)]


def _light_session(wanted: Wanted, links: Sequence[LinkKey], depth: Depth, longer: int) -> Session:
    streams = [_light(wanted, link, len(links), depth, longer) for link in links]
    if depth == "quick":
        dense = [link for link in links if _shares(wanted[link])]
        after = {stream.link: stream.last_us for stream in streams}
        for link in dense:
            echoes_end = max(after.get(link, 0), after.get(_reverse(link), 0)) + _round_trip_us(wanted, link)
            stream = _dense(wanted, link, len(dense), depth, longer)
            streams.append(stream.model_copy(update={"first_us": echoes_end}))
    noise = Stream(
        kind="noise",
        source=links[0][0],
        destination=links[0][0],
        packets=NOISE_PACKETS * longer,
        interval_ns=LIGHT_US["quick"] * 1000 // NOISE_PACKETS,
    )
    return _session("delay and loss", [noise, *streams], wanted)


def _light(wanted: Wanted, link: LinkKey, side_by_side: int, depth: Depth, longer: int) -> Stream:
    forward, backward = wanted[link], wanted[_reverse(link)]
    jitter_us = max(forward.jitter_us, backward.jitter_us)
    interval_us = max(
        LIGHT_INTERVAL_US,
        math.ceil(side_by_side * 1e6 / LIGHT_BUDGET_PPS),
        *(_slowest_interval_us(impairment) for impairment in (forward, backward)),
        min(JITTER_SPACING * jitter_us, LONGEST_INTERVAL_US[depth]),
    )
    return Stream(
        kind="light",
        source=link[0],
        destination=link[1],
        packets=max(FEWEST_PACKETS, LIGHT_US[depth] * longer // interval_us),
        interval_ns=interval_us * 1000,
        echoes=not jitter_us,
        spread=not jitter_us,
    )


def _dense(wanted: Wanted, link: LinkKey, side_by_side: int, depth: Depth, longer: int) -> Stream:
    impairment = wanted[link]
    duration_us = DENSE_US[depth] * longer
    bits = (PAYLOAD_BYTES + HEADERS_BYTES) * 8
    pace = min(DENSE_BUDGET_PPS / side_by_side, 1000.0)
    if impairment.rate_bps is not None:
        pace = min(pace, impairment.rate_bps * DENSE_LOAD / bits)
    rarest = min(_shares(impairment))
    packets = min(MOST_DENSE_PACKETS[depth] * longer, WANTED_BURSTS * longer / rarest, pace * duration_us / 1e6)
    return Stream(
        kind="dense",
        source=link[0],
        destination=link[1],
        packets=max(FEWEST_PACKETS, math.ceil(packets)),
        interval_ns=math.ceil(1e9 / pace),
    )


def _saturating_sessions(wanted: Wanted, links: Sequence[LinkKey], mtu: Mapping[LinkKey, int]) -> list[Session]:
    """Links with a rate, several at a time when they share no site and the core carries it."""
    waiting = [link for link in links if _can_saturate(wanted[link])]
    sessions: list[Session] = []
    while waiting:
        streams: list[Stream] = []
        start_us = 0
        while waiting and start_us < SESSION_US:
            slot = _slot(wanted, waiting, mtu)
            ends = [start_us]
            for link in slot:
                pair = saturation(wanted[link], link, mtu[link], start_us)
                streams += pair
                ends.append(pair[-1].last_us + _one_way_us(wanted[link], queue=True))
            waiting = [link for link in waiting if link not in slot]
            start_us = max(ends) + DRAIN_SLACK_US // 3
        sessions.append(_session("rate and buffer", streams, wanted))
    return sessions


def _slot(wanted: Wanted, waiting: Sequence[LinkKey], mtu: Mapping[LinkKey, int]) -> list[LinkKey]:
    """The first link, and those behind it that may run beside it."""
    slot: list[LinkKey] = []
    busy: set[str] = set()
    load = 0.0
    for link in waiting:
        feed = SATURATION * (wanted[link].rate_bps or 0)
        if slot and (set(link) & busy or load + feed > SATURATION_BUDGET_BPS):
            continue
        slot.append(link)
        busy |= set(link)
        load += feed
    return slot


def saturation(impairment: Impairment, link: LinkKey, mtu: int, start_us: int = 0) -> list[Stream]:
    """Full packets: a few on the idle link, then faster than its rate until the buffer is full, and for a while on."""
    payload = mtu - HEADERS_BYTES
    each_us = serialisation_us(impairment, mtu)
    idle_us = math.ceil(max(LIGHT_INTERVAL_US, 3 * each_us))
    factor = SATURATION / max(0.05, 1 - impairment.mean_loss)
    filling_us = FILLING_MARGIN * _depth_packets(impairment, mtu) * each_us / (SATURATION - 1)
    packets = math.ceil((filling_us + saturated_us(impairment, mtu)) * factor / each_us)
    idle = Stream(
        kind="idle",
        source=link[0],
        destination=link[1],
        packets=IDLE_PACKETS,
        interval_ns=idle_us * 1000,
        first_us=start_us,
        payload_bytes=payload,
    )
    fill = Stream(
        kind="saturating",
        source=link[0],
        destination=link[1],
        packets=min(MOST_SATURATING, max(FEWEST_SATURATING, packets)),
        interval_ns=max(1, round(each_us * 1000 / factor)),
        first_us=idle.last_us + _one_way_us(impairment),
        payload_bytes=payload,
    )
    return [idle, fill]


def _depth_packets(impairment: Impairment, mtu: int) -> int:
    """How many packets a queue is to be filled with: an active queue is not to be filled to its end."""
    depth = buffer_packets(impairment, mtu)
    return depth if impairment.active_queue is None else min(depth, ACTIVE_PACKETS)


def saturated_us(impairment: Impairment, mtu: int) -> float:
    """How long a saturating stream goes on when the buffer is full."""
    return min(MOST_SATURATED_US, max(SATURATED_US, FEWEST_SATURATING * serialisation_us(impairment, mtu)))


def _damage(impairment: Impairment, link: LinkKey, longer: int) -> Stream:
    assert impairment.corrupt is not None
    bits = (DAMAGE_PAYLOAD_BYTES + HEADERS_BYTES) * 8
    pace = 500.0 if impairment.rate_bps is None else min(500.0, impairment.rate_bps * DENSE_LOAD / bits)
    packets = longer * min(3_000, math.ceil(DAMAGED_WANTED / impairment.corrupt.share))
    return Stream(
        kind="damage",
        source=link[0],
        destination=link[1],
        packets=max(FEWEST_PACKETS, packets),
        interval_ns=math.ceil(1e9 / pace),
        payload_bytes=DAMAGE_PAYLOAD_BYTES,
    )


def _session(title: str, streams: Sequence[Stream], wanted: Wanted) -> Session:
    ends = [
        stream.last_us
        + (
            _one_way_us(wanted[stream.link], queue=True)
            if stream.kind == "saturating"
            else _round_trip_us(wanted, stream.link)
        )
        for stream in streams
        if stream.source != stream.destination
    ]
    return Session(title=title, streams=tuple(streams), end_us=max(ends, default=0) + DRAIN_SLACK_US)


def _round_trip_us(wanted: Wanted, link: LinkKey) -> int:
    return _one_way_us(wanted[link]) + _one_way_us(wanted[_reverse(link)])


def _one_way_us(impairment: Impairment, *, queue: bool = False) -> int:
    """As long as a packet may take; with ``queue`` behind a full one."""
    total = impairment.delay_us + 4 * impairment.jitter_us + serialisation_us(impairment, 1500)
    if queue and impairment.rate_bps is not None:
        total += min(LONGEST_QUEUE_US, _depth_packets(impairment, 1500) * serialisation_us(impairment, 1500))
    if impairment.slots is not None:
        total += max(impairment.slots.max_delay_us, impairment.slots.delay_us + 4 * impairment.slots.jitter_us)
    return math.ceil(total)


def _slowest_interval_us(impairment: Impairment) -> int:
    """The pace at which probes one way and echoes of the other way together stay below the allowed load."""
    if impairment.rate_bps is None:
        return 0
    return math.ceil(2 * serialisation_us(impairment, PAYLOAD_BYTES + HEADERS_BYTES) / MAX_LOAD)


def _shares(impairment: Impairment) -> list[float]:
    """How often what is to happen to a share of all packets happens, for each packet; bursts count once."""
    if impairment.blocked or impairment.mean_loss >= 1:
        return []
    loss, reorder = impairment.loss, impairment.reorder
    found = [] if loss is None else [loss.mean / max(1.0, loss.mean_burst)]
    found += [chance.share for chance in (impairment.duplicate, impairment.corrupt) if chance is not None]
    if reorder is not None and reorder.share:
        found.append(1 / (reorder.gap - 1 + 1 / reorder.share))
    return [share for share in found if share > 0]


def _damages(impairment: Impairment) -> bool:
    return not impairment.blocked and impairment.corrupt is not None and impairment.corrupt.share > 0


def _can_saturate(impairment: Impairment) -> bool:
    return (
        not impairment.blocked
        and impairment.mean_loss < 1
        and impairment.slots is None
        and impairment.rate_bps is not None
        and impairment.rate_bps * SATURATION <= FASTEST_FEED_BPS
    )


def _reverse(link: LinkKey) -> LinkKey:
    return link[1], link[0]
