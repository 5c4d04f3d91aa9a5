"""What iperf3 sends, counted in the receiver's own intervals; TCP as the kernel does it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from harness.errors import NodeError
from harness.model.bench import Interval, Transport, WorkloadKind
from harness.nodes.port import Completed, Node
from harness.suts.peers.port import PATIENCE_S, Ends, Job, Received

INTERVAL_S = 0.25
_CONNECT_S = 10.0


class Iperf3Stream:
    """What the peers of iperf3 have in common: how it runs. They say how the client is called and what was meant."""

    name: str

    def argv(self, address: str, job: Job) -> list[str]:
        """The client's command line."""
        raise NotImplementedError

    def parsed(self, report: Mapping[str, Any]) -> Received:
        """From the client's report, which holds the server's."""
        raise NotImplementedError

    def prepare(self, ends: Ends, job: Job) -> None:
        """See Peer: nothing."""

    def transfer(self, ends: Ends, job: Job) -> Received:
        """See Peer."""
        there = ends.destination
        server = there.remote.start(f"iperf3-{job.name}", server_argv(there.wan_address, job.port))
        began_s = time.monotonic()
        try:
            done = self._send(ends, job)
        finally:
            there.remote.signal(server.pid, "KILL")
        report = json.loads(done.stdout or "{}")
        if done.exit_code or "server_output_json" not in report:
            return Received(intervals=(), problem=f"iperf3: {report.get('error', done.stderr.strip() or 'no report')}")
        overhead_s = max(0.0, done.seconds - job.seconds)
        # Its set-up and its goodbye take about as many round trips.
        return self.parsed(report).model_copy(
            update={"first_at_s": began_s + overhead_s / 2, "set_up_s": round(overhead_s / 2, 3)}
        )

    def version(self, node: Node) -> str:
        """See Peer."""
        return node.remote.run(["iperf3", "--version"], check=False).stdout.split("\n")[0].strip()

    def _send(self, ends: Ends, job: Job) -> Completed:
        """Again until the server listens."""
        argv = self.argv(ends.destination.wan_address, job)
        deadline = time.monotonic() + _CONNECT_S
        while True:
            done = ends.source.remote.run(argv, check=False, timeout_s=job.seconds + PATIENCE_S)
            if done.exit_code == 0 or time.monotonic() > deadline or "refused" not in done.stdout:
                return done


class Iperf3(Iperf3Stream):
    """A Peer. Socket buffers are left to the kernel, which lets them grow to the node's ``tcp_rmem`` and ``tcp_wmem``:
    asking for a size would stop that, and get no more than the host's ``rmem_max``."""

    transport: Transport = "tcp"
    workloads: frozenset[WorkloadKind] = frozenset({"stream"})
    programs: tuple[str, ...] = ("iperf3",)

    def __init__(self, congestion_control: str) -> None:
        self.name = congestion_control
        self.title = f"TCP {congestion_control} (iperf3)"
        self._congestion_control = congestion_control

    def argv(self, address: str, job: Job) -> list[str]:
        """See Iperf3Stream."""
        return client_argv(address, job.port, self._congestion_control, job.seconds)

    def parsed(self, report: Mapping[str, Any]) -> Received:
        """See Iperf3Stream."""
        return parsed(report, self._congestion_control)


def server_argv(address: str, port: int) -> list[str]:
    """One test, then it ends."""
    interval = ["--interval", f"{INTERVAL_S:g}"]
    return ["iperf3", "--server", "--one-off", "--json", *interval, "--bind", address, "--port", str(port)]


def base_client_argv(address: str, port: int, seconds: float) -> list[str]:
    """``--time`` takes whole seconds."""
    return [
        *("iperf3", "--client", address, "--port", str(port), "--time", str(round(seconds))),
        *("--json", "--get-server-output", "--connect-timeout", "8000"),
    ]


def client_argv(address: str, port: int, congestion_control: str, seconds: float) -> list[str]:
    """Of TCP."""
    if not congestion_control.isidentifier():
        raise NodeError(f"{congestion_control!r} is no congestion control")
    return [*base_client_argv(address, port, seconds), "--congestion", congestion_control]


def intervals_of(report: Mapping[str, Any]) -> tuple[Interval, ...]:
    """What the server counted."""
    sums = [one["sum"] for one in report["server_output_json"]["intervals"]]
    return tuple(
        Interval(begin_s=round(one["start"], 4), end_s=round(one["end"], 4), bytes=one["bytes"])
        for one in sums
        if one["end"] - one["start"] > 0.01
    )


def parsed(report: Mapping[str, Any], congestion_control: str) -> Received:
    """From the client's report, which holds the server's. That another congestion control was used is a problem."""
    end = report["end"]
    figures = {
        "retransmitted_packets": float(end["sum_sent"].get("retransmits", 0)),
        "sent_bytes": float(end["sum_sent"]["bytes"]),
        "mean_rtt_ms": end["streams"][0]["sender"].get("mean_rtt", 0) / 1000,
        "max_cwnd_bytes": float(end["streams"][0]["sender"].get("max_snd_cwnd", 0)),
    }
    used = end.get("sender_tcp_congestion", "")
    wrong = "" if used == congestion_control else f"iperf3 used {used or 'nobody knows what'}, not {congestion_control}"
    return Received(intervals=intervals_of(report), figures=figures, problem=wrong)
