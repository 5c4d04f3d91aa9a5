"""Runs the cross traffic that a topology declares: a small program at each end of each stream."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from harness.errors import InputError, LonghaulError, NodeError
from harness.lab.core_process import programs_running
from harness.lab.lab import Lab
from harness.lab.links import LinkKey
from harness.model.cross_traffic import FlowReport
from harness.model.topology import CrossTraffic as Stream
from harness.nodes import host_processes
from harness.nodes.namespace_node import NamespaceNode
from harness.nodes.network_settings import AVAILABLE_CONGESTION_CONTROLS, read_setting
from harness.nodes.port import RemoteProcess
from harness.wan.native_program import compiled

PROGRAM = "native/cross_traffic.c"
FIRST_PORT = 40420
"""Streams count up from here, so that a capture can tell them from the system under test."""

NAME = Path(PROGRAM).stem
"""What its processes have in their names, on every node."""

_NOT_THERE = (126, 127)
_MOST_AT_ONCE = 16
_READY_S = 10.0
_DRAIN_S = 4.0
_END_S = 5.0
_LOOK_S = 0.25

T = TypeVar("T")


class _Running(NamedTuple):
    """One stream: its declaration, and the processes at both ends."""

    stream: Stream
    port: int
    receiver: RemoteProcess
    sender: RemoteProcess


class CrossTraffic:
    """The streams of a lab's topology, from ``start`` until ``stop``. Once each."""

    def __init__(self, lab: Lab, streams: Sequence[Stream] | None = None, *, seed: int = 0) -> None:
        self._lab = lab
        self._streams = tuple(lab.topology.cross_traffic if streams is None else streams)
        self._seed = seed
        self._running: list[_Running] = []
        self._programs: dict[str, str] = {}
        self._heard: dict[tuple[str, str], dict[str, Any]] = {}

    def start(self) -> None:
        """Begin the timeline of the streams now. Nothing for a topology without any.

        Raises InputError for a congestion control that this kernel lacks, NodeError when a program does not start.
        """
        if not self._streams:
            return
        _check(self._lab, self._streams)
        # Of a run that was killed: they hold the ports, and load the links.
        self._end_all()
        begin_s = time.monotonic()
        ends = sorted({site for stream in self._streams for site in (stream.source, stream.destination)})
        self._programs = dict(zip(ends, _each(ends, self._placed), strict=True))
        numbered = list(enumerate(self._streams))
        try:
            receivers = _each(numbered, self._receive)
            _each(list(zip(numbered, receivers, strict=True)), self._await_ready)
            for (number, stream), receiver in zip(numbered, receivers, strict=True):
                sender = self._send(number, stream, max(0.0, stream.start_s - (time.monotonic() - begin_s)))
                self._running.append(_Running(stream, FIRST_PORT + number, receiver, sender))
        except BaseException:
            self._running = []
            with suppress(LonghaulError):
                self._end_all()
            raise

    def sent_packets(self) -> Mapping[LinkKey, int]:
        """Packets that the streams have sent over each link until now, acknowledgements included, to a fifth of a
        second: what a link's counters hold beside the system under test's own packets."""
        found: dict[LinkKey, int] = {}
        for running, (sent, received) in zip(self._running, self._said(), strict=True):
            link = running.stream.source, running.stream.destination
            found[link] = found.get(link, 0) + int(sent.get("packets_out", 0))
            back = link[1], link[0]
            found[back] = found.get(back, 0) + int(received.get("packets_out", 0))
        return found

    def stop(self) -> tuple[FlowReport, ...]:
        """End every stream, wait for what is on its way, and say what each came to, in the topology's order."""
        running, said = self._running, []
        if not running:
            return ()
        _each(running, lambda one: self._end(one.stream.source, one.sender))
        self._await(lambda: all(sent.get("end") or not sent for sent, _ in self._said()), _END_S)
        before: list[Any] = []

        def drained() -> bool:
            nonlocal before
            now = [received.get("bytes_in") for _, received in self._said()]
            same, before = now == before, now
            return same

        self._await(drained, _DRAIN_S)
        _each(running, lambda one: self._end(one.stream.destination, one.receiver))
        self._await(lambda: all(received.get("end") or not received for _, received in self._said()), _END_S)
        said = self._said()
        self._running = []
        return tuple(_report(one, sent, received) for one, (sent, received) in zip(running, said, strict=True))

    def _end_all(self) -> None:
        """End every stream's programs on this lab's nodes, whoever started them. Raises NodeError."""
        pids = programs_running(NAME, {name: node.state.pid for name, node in self._lab.nodes.items()})
        host_processes.kill_all([(pid, host_processes.start_ticks(pid)) for pid in pids])

    def _end(self, site: str, process: RemoteProcess) -> None:
        # A node that does not answer has taken its programs along.
        with suppress(LonghaulError):
            self._node(site).remote.signal(process.pid, "TERM")

    def _node(self, site: str) -> NamespaceNode:
        return self._lab.nodes[site]

    def _placed(self, site: str) -> str:
        """Where the program is on a node: a node that does not see the host's files gets a copy."""
        program, remote = compiled(PROGRAM), self._node(site).remote
        if remote.run([str(program)], check=False, timeout_s=_READY_S).exit_code not in _NOT_THERE:
            return str(program)
        copy = f"{self._node(site).data_dir}/.longhaul-{NAME}"
        remote.put(Path(program), copy)
        remote.run(["chmod", "755", copy])
        return copy

    def _receive(self, numbered: tuple[int, Stream]) -> RemoteProcess:
        number, stream = numbered
        node = self._node(stream.destination)
        kind = "tcp" if stream.pattern == "tcp" else "udp"
        arguments = [self._programs[stream.destination], "receive", kind, node.wan_address, str(FIRST_PORT + number)]
        return node.remote.start(f"cross-traffic-{number}-in", arguments)

    def _send(self, number: int, stream: Stream, wait_s: float) -> RemoteProcess:
        peer = self._node(stream.destination)
        if stream.pattern == "tcp":
            what = ["tcp", stream.congestion_control, str(stream.rate_bps or 0), str(stream.flows)]
        else:
            shape = [str(stream.packet_bytes), f"{stream.on_s:.6f}", f"{stream.off_s:.6f}", str(self._seed + number)]
            what = ["udp", stream.pattern, str(stream.rate_bps), *shape]
        ends = f"{stream.duration_s or 0:.6f}"
        arguments = [
            self._programs[stream.source],
            "send",
            f"{wait_s:.6f}",
            ends,
            peer.wan_address,
            str(FIRST_PORT + number),
            *what,
        ]
        return self._node(stream.source).remote.start(f"cross-traffic-{number}-out", arguments)

    def _await_ready(self, begun: tuple[tuple[int, Stream], RemoteProcess]) -> None:
        (_, stream), receiver = begun
        node = self._node(stream.destination)
        deadline_s = time.monotonic() + _READY_S
        while not _last(node, receiver.log):
            if time.monotonic() > deadline_s:
                raise NodeError(
                    f"the cross traffic from {stream.source} finds no receiver at {stream.destination}: "
                    + (_text(node, receiver.log) or "it says nothing")
                )
            time.sleep(_LOOK_S / 5)

    def _said(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return _each(
            self._running,
            lambda one: (
                self._last_of(one.stream.source, one.sender.log),
                self._last_of(one.stream.destination, one.receiver.log),
            ),
        )

    def _last_of(self, site: str, log: str) -> dict[str, Any]:
        """What a program last said; of a node that a fault keeps from answering, what it said before."""
        with suppress(LonghaulError):
            self._heard[log, site] = _last(self._node(site), log)
        return self._heard.get((log, site), {})

    def _await(self, reached: Callable[[], bool], patience_s: float) -> None:
        deadline_s = time.monotonic() + patience_s
        while not reached() and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)


def _check(lab: Lab, streams: Sequence[Stream]) -> None:
    available = read_setting(AVAILABLE_CONGESTION_CONTROLS).split()
    for stream in streams:
        for site in (stream.source, stream.destination):
            if site not in lab.nodes:
                raise InputError(f"there is no site {site!r} for cross traffic")
        if stream.pattern == "tcp" and stream.congestion_control not in available:
            raise InputError(
                f"cross traffic from {stream.source} to {stream.destination}: this kernel has no TCP congestion control"
                f" {stream.congestion_control!r}",
                hint=f"It has: {', '.join(available)}. Others may need `modprobe tcp_{stream.congestion_control}`.",
            )


def _each(things: Sequence[Any], action: Callable[[Any], T]) -> list[T]:
    if not things:
        return []
    with ThreadPoolExecutor(max_workers=min(_MOST_AT_ONCE, len(things))) as pool:
        return list(pool.map(action, things))


def _text(node: NamespaceNode, log: str) -> str:
    return node.remote.run(["tail", "-n", "1", log], check=False).stdout.strip()


def _last(node: NamespaceNode, log: str) -> dict[str, Any]:
    """What a program last said; empty when that is no report. A line that is still being written is passed over."""
    lines = node.remote.run(["tail", "-n", "2", log], check=False).stdout.splitlines()
    for line in reversed(lines):
        with suppress(json.JSONDecodeError):
            said = json.loads(line)
            if isinstance(said, dict):
                return said
    return {}


def _report(one: _Running, sent: Mapping[str, Any], received: Mapping[str, Any]) -> FlowReport:
    stream = one.stream
    problem = ""
    if not sent or not received:
        problem = "a program at one of its ends says nothing"
    elif not sent["packets_out"] and stream.pattern != "tcp":
        problem = "it never began"
    elif not received["bytes_in"]:
        problem = "nothing of it arrived"
    seconds = float(sent.get("seconds", 0.0))
    return FlowReport(
        source=stream.source,
        destination=stream.destination,
        pattern=stream.pattern,
        port=one.port,
        seconds=seconds,
        offered_bps=_rate(sent.get("offered_bytes") or sent.get("bytes_out", 0), seconds),
        sent_bps=_rate(sent.get("bytes_out", 0), seconds),
        received_bps=_rate(received.get("bytes_in", 0), float(received.get("seconds", 0.0))),
        packets_out=int(sent.get("packets_out", 0)),
        packets_back=int(received.get("packets_out", 0)),
        flows=int(sent.get("flows", 0)),
        problem=problem,
    )


def _rate(size: float, seconds: float) -> float:
    return round(size * 8 / seconds, 1) if seconds > 0 else 0.0
