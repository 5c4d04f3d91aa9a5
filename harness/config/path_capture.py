"""Captures (pcap, pcapng) to a PathSample.

**Two captures** of one direction, before the path and behind it: each packet of the first is looked for in the second
by what does not change on its way (addresses, protocol, IP identification, payload). That gives delay, loss, order and
duplicates one way, as true as the two clocks agree; ``longhaul capture --where before`` and ``after`` make such a pair.

**One capture** has round trips: ICMP echoes and their answers, else TCP's segments and the acknowledgements that cover
them. What was sent again counts as lost and has no time (Karn and Partridge, SIGCOMM 1987). TCP's time includes the
receiver's delayed acknowledgements, so echoes are taken when there are any.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator
from typing import Any

from harness.model.path_sample import PathSample, PathStream

_MAGICS = {
    bytes.fromhex(magic)
    for magic in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "0a0d0d0a")  # pcap in us and ns, pcapng
}
_ECHO, _ANSWER, _ECHO6, _ANSWER6 = 8, 0, 128, 129
_FEWEST_ECHOES = 20
_SEQUENCE = 1 << 32


def is_capture(data: bytes) -> bool:
    """Whether a file begins as pcap or pcapng does."""
    return data[:4] in _MAGICS


def sample_of_two_captures(before: bytes, behind: bytes, source: str) -> PathSample:
    """One direction; what was sent before the second capture began, or too late for it, is left out.

    Raises ValueError when the two have no packet in common.
    """
    arrived: dict[Hashable, deque[tuple[float, int]]] = defaultdict(deque)
    times = []
    for place, (at_s, packet) in enumerate(_packets(behind)):
        arrived[_identity(packet)].append((at_s, place))
        times.append(at_s)
    sent = [(at_s, _identity(packet)) for at_s, packet in _packets(before)]
    delays: list[float | None] = []
    order: list[tuple[int, int]] = []
    for at_s, identity in sent:
        found = arrived.get(identity)
        if not found or found[0][0] < at_s:
            delays.append(None)
            continue
        then_s, place = found.popleft()
        delays.append((then_s - at_s) * 1e6)
        order.append((place, len(delays) - 1))
    for number, (_, identity) in enumerate(sent):
        if delays[number] is not None:
            order += [(place, number) for _, place in arrived.pop(identity, ())]
    known = [delay for delay in delays if delay is not None]
    if not known:
        raise ValueError("no packet of the first capture is in the second; give the one before the path first")
    first = next(index for index, delay in enumerate(delays) if delay is not None)
    until_s = max(times) - min(known) / 1e6
    last = max(index for index, (at_s, _) in enumerate(sent) if at_s <= until_s)
    copies = [(place, number) for place, number in order if first <= number <= last]
    stream = PathStream(
        delays_us=tuple(delays[first : last + 1]),
        arrivals=tuple(number - first for _, number in sorted(copies)),
        sent_us=tuple((at_s - sent[first][0]) * 1e6 for at_s, _ in sent[first : last + 1]),
    )
    return PathSample(source=f"{source}, {stream.sent} packets", uplink=stream, shared_clock=True)


def sample_of_capture(data: bytes, source: str) -> PathSample:
    """Round trips as one capture shows them. Raises ValueError when it shows none."""
    packets = list(_packets(data))
    stream, what = _echoes(packets), "echoes"
    if stream is None or stream.sent < _FEWEST_ECHOES:
        segments = _segments(packets)
        if segments is not None:
            stream, what = segments, "TCP segments"
    if stream is None:
        raise ValueError("the capture has neither ICMP echoes with answers nor TCP segments with acknowledgements")
    return PathSample(source=f"{source}, {stream.sent} {what}", round_trip=stream)


def _packets(data: bytes) -> Iterator[tuple[float, Any]]:
    """Time in seconds and IP packet, for each packet that is one. Raises ValueError for a damaged file."""
    import dpkt

    try:
        reader = dpkt.pcap.UniversalReader(io.BytesIO(data))
        link = reader.datalink()
        frames = iter(reader)
    except (ValueError, dpkt.Error) as error:
        raise ValueError(f"the capture is damaged: {error}") from None
    decoders = {dpkt.pcap.DLT_EN10MB: dpkt.ethernet.Ethernet, dpkt.pcap.DLT_LINUX_SLL: dpkt.sll.SLL}
    while True:
        try:
            at_s, frame = next(frames)
        except StopIteration:
            return
        except (ValueError, dpkt.Error):
            # Cut short in the middle of a packet, as a capture that was killed is.
            return
        try:
            packet = decoders[link](frame).data if link in decoders else _raw(frame)
        except (dpkt.Error, IndexError, KeyError):
            continue
        if isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6):
            yield float(at_s), packet


def _raw(frame: bytes) -> Any:
    import dpkt

    return dpkt.ip.IP(frame) if frame[0] >> 4 == 4 else dpkt.ip6.IP6(frame)


def _identity(packet: Any) -> Hashable:
    """What stays the same on the way: not the hop limit, not the checksum that covers it."""
    import dpkt

    number = packet.id if isinstance(packet, dpkt.ip.IP) else packet.flow
    protocol = packet.p if isinstance(packet, dpkt.ip.IP) else packet.nxt
    payload = hashlib.blake2b(bytes(packet.data), digest_size=12).digest()
    return packet.src, packet.dst, protocol, number, payload


def _echoes(packets: list[tuple[float, Any]]) -> PathStream | None:
    import dpkt

    sent: dict[tuple[bytes, bytes, int, int, int], int] = {}
    at: list[float] = []
    delays: list[float | None] = []
    arrivals: list[int] = []
    rounds: dict[tuple[bytes, bytes, int, int], int] = defaultdict(int)
    for at_s, packet in packets:
        message = packet.data
        if not isinstance(message, dpkt.icmp.ICMP | dpkt.icmp6.ICMP6) or not hasattr(message.data, "seq"):
            continue
        number = (message.data.id, message.data.seq)
        if message.type in (_ECHO, _ECHO6):
            ends = (packet.src, packet.dst, *number)
            rounds[ends] += 1
            sent[(*ends, rounds[ends])] = len(delays)
            at.append(at_s)
            delays.append(None)
        elif message.type in (_ANSWER, _ANSWER6):
            ends = (packet.dst, packet.src, *number)
            place = sent.get((*ends, rounds[ends]))
            if place is None:
                continue
            arrivals.append(place)
            if delays[place] is None:
                delays[place] = (at_s - at[place]) * 1e6
    if not arrivals:
        return None
    sent_us = tuple((at_s - at[0]) * 1e6 for at_s in at)
    return PathStream(delays_us=tuple(delays), arrivals=tuple(arrivals), sent_us=sent_us)


def _segments(packets: list[tuple[float, Any]]) -> PathStream | None:
    """Data of the flow direction with the most of it, each segment until the first acknowledgement that covers it."""
    import dpkt

    flows: dict[Hashable, list[tuple[float, int, int]]] = defaultdict(list)
    answers: dict[Hashable, list[tuple[float, int]]] = defaultdict(list)
    for at_s, packet in packets:
        segment = packet.data
        if not isinstance(segment, dpkt.tcp.TCP):
            continue
        ends = (packet.src, segment.sport, packet.dst, segment.dport)
        if segment.data:
            flows[ends].append((at_s, segment.seq, len(segment.data)))
        if segment.flags & dpkt.tcp.TH_ACK:
            answers[packet.dst, segment.dport, packet.src, segment.sport].append((at_s, segment.ack))
    flow = max(flows, key=lambda ends: len(flows[ends]), default=None)
    if flow is None or not answers[flow]:
        return None
    delays: list[float | None] = []
    waiting: dict[int, tuple[int, float, int]] = {}
    events: list[tuple[float, int, int, int]] = [(at_s, 0, seq, size) for at_s, seq, size in flows[flow]]
    events += [(at_s, 1, ack, 0) for at_s, ack in answers[flow]]
    highest: int | None = None
    for at_s, is_answer, number, size in sorted(events):
        if is_answer:
            covered = [seq for seq, (_, _, end) in waiting.items() if _not_after(end, number)]
            for seq in covered:
                place, sent_s, _ = waiting.pop(seq)
                if sent_s >= 0:
                    delays[place] = (at_s - sent_s) * 1e6
            continue
        end = (number + size) % _SEQUENCE
        if highest is not None and _not_after(end, highest):
            if number in waiting:
                # Sent again: it was lost, and whose acknowledgement comes now nobody knows.
                place, _, end = waiting[number]
                waiting[number] = (place, -1.0, end)
            continue
        highest = end
        waiting[number] = (len(delays), at_s, end)
        delays.append(None)
    for place, sent_s, _ in waiting.values():
        if sent_s >= 0 and place >= len(delays) - len(waiting):
            # In flight when the capture ended.
            delays[place] = float("nan")
    kept = tuple(delay for delay in delays if delay is None or delay == delay)
    return PathStream(delays_us=kept) if any(delay is not None for delay in kept) else None


def _not_after(number: int, other: int) -> bool:
    """Whether a TCP sequence number is not after another (RFC 9293, section 3.4)."""
    return (other - number) % _SEQUENCE < _SEQUENCE // 2
