"""Plain UDP at the link's rate, by iperf3: nothing slows it down and nothing is sent again.

What of it arrives is what the WAN core carries under a cell's conditions, the ceiling of everybody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.model.bench import Interval, Transport, WorkloadKind
from harness.suts.peers.iperf3 import Iperf3Stream, base_client_argv, intervals_of
from harness.suts.peers.port import Job, Received

PAYLOAD = 1472
"""Bytes of a datagram that fills an IP packet of 1,500."""


class PlainUdp(Iperf3Stream):
    """A Peer."""

    transport: Transport = "udp"
    workloads: frozenset[WorkloadKind] = frozenset({"stream"})
    programs: tuple[str, ...] = ("iperf3",)
    name = "udp"
    title = "plain UDP at the link's rate (iperf3)"

    def argv(self, address: str, job: Job) -> list[str]:
        """See Iperf3Stream."""
        rate_bps = round(job.rate_bps * PAYLOAD / (PAYLOAD + 28))
        return [
            *base_client_argv(address, job.port, job.seconds),
            *("--udp", "--bitrate", str(rate_bps), "--length", str(PAYLOAD)),
        ]

    def parsed(self, report: Mapping[str, Any]) -> Received:
        """See Iperf3Stream."""
        received = report["end"]["sum_received"]
        intervals: tuple[Interval, ...] = intervals_of(report)
        return Received(intervals=intervals, figures={"lost_packets": float(received["lost_packets"])})
