"""UDT over UDP by ``python -m syncer.udt.perf``, a program like iperf3: our own implementation, or libudt."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from harness.errors import NodeError
from harness.model.bench import Interval, Transport, WorkloadKind
from harness.nodes.port import Node
from harness.suts.peers.port import PATIENCE_S, Ends, Job, Received

FIXED_SHARE = 0.97
"""Of the link's rate, for congestion controls that have to be told one: rates on the wire, headers included."""

PROGRAM = ("python", "-m", "syncer.udt.perf")
_LISTEN_S = 15.0
_LEAST_BUFFER = 1_000_000
_LOOK_S = 0.05


class UdtPerf:
    """A Peer. The receiver reports the payload that came in each tenth of a second since its first byte."""

    transport: Transport = "udp"
    workloads: frozenset[WorkloadKind] = frozenset({"stream"})
    programs: tuple[str, ...] = ("python",)

    def __init__(self, name: str, implementation: str, control: str) -> None:
        self.name = name
        self.title = f"UDT, ours ({control})" if implementation == "longhaul" else f"libudt 4.11 ({control})"
        self._implementation = implementation
        self._control = control

    def prepare(self, ends: Ends, job: Job) -> None:
        """See Peer: nothing."""

    def transfer(self, ends: Ends, job: Job) -> Received:
        """See Peer."""
        there = ends.destination
        server = there.remote.start(
            f"udt-perf-{job.name}",
            serve_argv(
                there.wan_address,
                job.port,
                self._implementation,
                _buffer_bytes(self._implementation, job.window_bytes),
            ),
        )
        try:
            _await_listening(there, server.log, f"udt-perf at {there.name}")
            argv = send_argv(
                there.wan_address,
                job.port,
                self._implementation,
                self._control,
                job.seconds,
                job.rate_bps * FIXED_SHARE if self._control == "fixed" else None,
                _buffer_bytes(self._implementation, job.window_bytes),
            )
            began_s = time.monotonic()
            done = ends.source.remote.run(argv, check=False, timeout_s=job.seconds + 2 * PATIENCE_S)
        finally:
            there.remote.signal(server.pid, "KILL")
        report = _last_object(done.stdout)
        if report is None:
            said = " ".join((done.stderr or done.stdout).split())[-300:]
            return Received(intervals=(), problem=f"{self.name}: {said or f'ended with {done.exit_code}'}")
        received = parsed(report)
        lasted_s = max((one.end_s for one in received.intervals), default=0.0)
        overhead_s = max(0.0, done.seconds - lasted_s)
        return received.model_copy(
            update={"first_at_s": began_s + overhead_s / 2, "set_up_s": round(overhead_s / 2, 3)}
        )

    def version(self, node: Node) -> str:
        """See Peer."""
        return f"{self._implementation}, {self._control}"


def serve_argv(address: str, port: int, implementation: str, buffer_bytes: int | None) -> list[str]:
    """One measurement, then it ends. ``buffer_bytes`` None: the program's own choice."""
    return [
        *(*PROGRAM, "serve", "--bind", address, "--port", str(port), "--once"),
        *("--implementation", implementation, *_buffer(buffer_bytes), "--json"),
    ]


def send_argv(
    address: str,
    port: int,
    implementation: str,
    control: str,
    seconds: float,
    rate_bps: float | None,
    buffer_bytes: int | None,
) -> list[str]:
    """``rate_bps`` for a fixed rate."""
    rate = [] if rate_bps is None else ["--rate", f"{rate_bps / 1e6:.3f}Mbit/s"]
    return [
        *(*PROGRAM, "send", address, "--port", str(port), "--seconds", f"{seconds:g}"),
        *("--implementation", implementation, "--control", control, *rate),
        *(*_buffer(buffer_bytes), "--json"),
    ]


def _buffer(size: int | None) -> list[str]:
    return [] if size is None else ["--buffer", str(size)]


def _buffer_bytes(implementation: str, window_bytes: int) -> int | None:
    """libudt sends as much as its buffers let it, and is at its best when that is what link and bottleneck hold; ours
    finds that out."""
    return max(_LEAST_BUFFER, window_bytes) if implementation == "libudt" else None


def parsed(report: Mapping[str, Any]) -> Received:
    """From the sender's report, which holds the receiver's account."""
    step, total_s = float(report["interval_s"]), float(report["seconds"])
    sizes = report["intervals_bytes"]
    # The receiver's last interval is as long as the transfer lasted.
    intervals = tuple(
        Interval(
            begin_s=round(place * step, 4),
            end_s=round(total_s if place == len(sizes) - 1 and total_s > place * step else (place + 1) * step, 4),
            bytes=size,
        )
        for place, size in enumerate(sizes)
    )
    sender, receiver = report["sender"], report["receiver"]
    figures = {
        "sent_packets": float(sender["packets_sent"]),
        "retransmitted_packets": float(sender["retransmissions"]),
        "reported_lost_packets": float(sender["losses"]),
        "mean_rtt_ms": round(sender["rtt_s"] * 1000, 3),
        "sender_cpu_s": round(sender["cpu_s"], 3),
        "receiver_cpu_s": round(receiver["cpu_s"], 3),
    }
    return Received(intervals=intervals, figures=figures, problem=str(report["failure"] or ""))


def _await_listening(node: Node, log: str, who: str) -> None:
    deadline = time.monotonic() + _LISTEN_S
    while (report := _last_object(text := node.remote.run(["cat", log], check=False).stdout)) is None or (
        "listening" not in report
    ):
        if time.monotonic() > deadline:
            raise NodeError(f"{who} does not listen within {_LISTEN_S:.0f} s: {' '.join(text.split())[-300:]}")
        time.sleep(_LOOK_S)


def _last_object(text: str) -> dict[str, Any] | None:
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                found: dict[str, Any] = json.loads(line)
            except json.JSONDecodeError:
                continue
            return found
    return None
