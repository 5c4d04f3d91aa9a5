"""What a measurement comes to. Pure."""

from __future__ import annotations

import msgspec

from syncer.udt.perf.flows import INTERVAL_S
from syncer.udt.perf.messages import Arrival, Departure, Request
from syncer.udt.perf.quantities import shown_rate, shown_size

RAMP_S = 3.0
"""What a sender may take to find its rate."""


class Sender(msgspec.Struct, frozen=True):
    """``rtt_s``: the mean over the connections, as the sender's UDT smoothed it; the counts are sums."""

    rtt_s: float
    packets_sent: int
    retransmissions: int
    losses: int
    cpu_s: float
    details: list[dict[str, object]]
    """Of each connection, under its implementation's own names."""


class Receiver(msgspec.Struct, frozen=True):
    cpu_s: float


class Result(msgspec.Struct, frozen=True):
    """``goodput`` is payload, in bit/s by the receiver's clock; after the ramp it is None for what is over too soon."""

    implementation: str
    peer_implementation: str
    control: str
    reverse: bool
    connections: int
    bytes: int
    seconds: float
    goodput_bps: float
    goodput_after_3s_bps: float | None
    interval_s: float
    intervals_bytes: list[int]
    sender: Sender
    receiver: Receiver
    verified: bool | None
    digests: list[str]
    failure: str | None


def concluded(
    request: Request, peer_implementation: str, control: str, arrival: Arrival, departure: Departure
) -> Result:
    ramp = round(RAMP_S / INTERVAL_S)
    settled_s = arrival.seconds - RAMP_S
    settled = sum(arrival.intervals[ramp:])
    connections = departure.connections
    return Result(
        implementation=request.implementation,
        peer_implementation=peer_implementation,
        control=control,
        reverse=request.reverse,
        connections=request.connections,
        bytes=arrival.bytes,
        seconds=arrival.seconds,
        goodput_bps=arrival.bytes * 8 / arrival.seconds if arrival.seconds > 0 else 0.0,
        goodput_after_3s_bps=settled * 8 / settled_s if settled_s >= 1 else None,
        interval_s=INTERVAL_S,
        intervals_bytes=arrival.intervals,
        sender=Sender(
            rtt_s=sum(each.rtt_s for each in connections) / len(connections) if connections else 0.0,
            packets_sent=sum(each.packets_sent for each in connections),
            retransmissions=sum(each.retransmissions for each in connections),
            losses=sum(each.losses for each in connections),
            cpu_s=departure.cpu_s,
            details=[each.details for each in connections],
        ),
        receiver=Receiver(cpu_s=arrival.cpu_s),
        verified=arrival.verified,
        digests=arrival.digests,
        failure=arrival.failure,
    )


def told(result: Result) -> str:
    """For a terminal."""
    sender, receiver = result.sender, result.receiver
    per_gb = 1e9 / result.bytes if result.bytes else 0.0
    total = f"{shown_size(result.bytes)} in {result.seconds:.2f} s: {shown_rate(result.goodput_bps)} of payload"
    if result.goodput_after_3s_bps is not None:
        total += f", {shown_rate(result.goodput_after_3s_bps)} after the first {RAMP_S:.0f} s"
    cost = (
        f"CPU       sender {sender.cpu_s:.2f} s ({sender.cpu_s * per_gb:.2f} a GB), "
        f"receiver {receiver.cpu_s:.2f} s ({receiver.cpu_s * per_gb:.2f} a GB)"
    )
    lines = [
        total,
        f"packets   {sender.packets_sent} sent, {sender.retransmissions} of them again, {sender.losses} reported lost",
        f"RTT       {sender.rtt_s * 1e3:.1f} ms",
        cost,
    ]
    if result.verified is not None:
        lines.append("content   " + ("arrived unchanged" if result.verified else "ARRIVED CHANGED"))
    if result.failure is not None:
        lines.append(f"failure   {result.failure}")
    return "\n".join(lines)


def told_by_second(result: Result) -> str:
    """One line a second, as iperf3 prints them."""
    step = round(1 / INTERVAL_S)
    seconds = [sum(result.intervals_bytes[at : at + step]) for at in range(0, len(result.intervals_bytes), step)]
    return "\n".join(
        f"{at:4d}-{at + 1:<4d} s  {shown_rate(size * 8 / min(1.0, max(result.seconds - at, INTERVAL_S))):>15}"
        for at, size in enumerate(seconds)
    )
