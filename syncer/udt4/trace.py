"""perfmon's numbers, from our statistics."""

from __future__ import annotations

from dataclasses import dataclass, fields

from syncer.udt.statistics import Statistics


@dataclass(frozen=True)
class TRACEINFO:
    """The fields of UDT4's. Those without ``Total`` count from the last perfmon that cleared."""

    msTimeStamp: int
    pktSentTotal: int
    pktRecvTotal: int
    pktSndLossTotal: int
    pktRcvLossTotal: int
    pktRetransTotal: int
    pktSentACKTotal: int
    pktRecvACKTotal: int
    pktSentNAKTotal: int
    pktRecvNAKTotal: int
    pktSent: int
    pktRecv: int
    pktSndLoss: int
    pktRcvLoss: int
    pktRetrans: int
    pktSentACK: int
    pktRecvACK: int
    pktSentNAK: int
    pktRecvNAK: int
    mbpsSendRate: float
    mbpsRecvRate: float
    usPktSndPeriod: float
    pktFlowWindow: int
    pktCongestionWindow: int
    pktFlightSize: int
    msRTT: float
    mbpsBandwidth: float
    byteAvailSndBuf: int
    byteAvailRcvBuf: int


def trace(now: Statistics, before: Statistics | None, send_buffer_bytes: int, receive_buffer_bytes: int) -> TRACEINFO:
    """``before``: at the last clearing."""
    totals, earlier = _totals(now), _totals(before) if before else dict.fromkeys(_NAMES, 0)
    seconds = max(now.age_s - (before.age_s if before else 0.0), 1e-6)
    packet_bits = (now.mss_bytes + 14) * 8
    payload = now.mss_bytes - 44
    since = {name: totals[name] - earlier[name] for name in _NAMES}
    return TRACEINFO(
        msTimeStamp=int(now.age_s * 1000),
        **{f"{name}Total": totals[name] for name in _NAMES},
        **since,
        mbpsSendRate=since["pktSent"] * packet_bits / seconds / 1e6,
        mbpsRecvRate=since["pktRecv"] * packet_bits / seconds / 1e6,
        usPktSndPeriod=packet_bits * 1e6 / now.target_bps,
        pktFlowWindow=now.peer_window_packets,
        pktCongestionWindow=int(now.window_packets),
        pktFlightSize=now.in_flight_packets,
        msRTT=now.rtt_s * 1000,
        mbpsBandwidth=now.delivered_bps / 1e6,
        byteAvailSndBuf=max(send_buffer_bytes - now.send_buffer_packets * payload, 0),
        byteAvailRcvBuf=max(receive_buffer_bytes - now.receive_buffer_packets * payload, 0),
    )


def dump_perfmon(perf: TRACEINFO) -> None:
    """Prints all of it."""
    for field in fields(perf):
        print(f"{field.name:20} {getattr(perf, field.name)}")


_NAMES = (
    "pktSent",
    "pktRecv",
    "pktSndLoss",
    "pktRcvLoss",
    "pktRetrans",
    "pktSentACK",
    "pktRecvACK",
    "pktSentNAK",
    "pktRecvNAK",
)


def _totals(of: Statistics) -> dict[str, int]:
    return {
        "pktSent": of.packets_sent,
        "pktRecv": of.packets_received,
        "pktSndLoss": of.packets_lost,
        "pktRcvLoss": of.packets_missing,
        "pktRetrans": of.packets_retransmitted,
        "pktSentACK": of.acknowledgements_sent,
        "pktRecvACK": of.acknowledgements_received,
        "pktSentNAK": of.loss_reports_sent,
        "pktRecvNAK": of.loss_reports_received,
    }
