"""The data connections of one measurement, at the end that receives and at the end that sends."""

from __future__ import annotations

import contextlib
import resource
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from blake3 import blake3

from syncer.errors import TransportError
from syncer.udt.perf.content import Content
from syncer.udt.perf.messages import Arrival, Departure, Request
from syncer.udt.perf.port import Stream

INTERVAL_S = 0.1
STALLED_S = 30.0
"""Nothing for so long on a connection means that it is dead, whatever the implementation thinks."""

_BUFFER_BYTES = 256 * 1024


def cpu_s() -> float:
    """Of this process with all its threads, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def shares(request: Request) -> list[int | None]:
    """Bytes of each connection, None: as many as the time allows."""
    if request.bytes is None:
        return [None] * request.connections
    each, more = divmod(request.bytes, request.connections)
    return [each + (flow < more) for flow in range(request.connections)]


class Beginning:
    """When the first byte of all connections came."""

    def __init__(self) -> None:
        self.at: float | None = None
        self._lock = threading.Lock()

    def mark(self, now: float) -> float:
        with self._lock:
            self.at = now if self.at is None else self.at
            return self.at


@dataclass
class Received:
    """One connection's arrivals."""

    total: int = 0
    last_s: float = 0.0
    intervals: list[int] = field(default_factory=list)
    failure: str | None = None
    verified: bool | None = None
    digest: str | None = None

    def count(self, since_s: float, size: int) -> None:
        index = int(since_s / INTERVAL_S)
        self.intervals.extend([0] * (index + 1 - len(self.intervals)))
        self.intervals[index] += size
        self.total += size
        self.last_s = since_s


def receive_all(streams: Sequence[Stream], request: Request) -> Arrival:
    """Until the bytes are there or the time is over. A failure is in the account, beside what came before it."""
    beginning = Beginning()
    cpu = cpu_s()
    with ThreadPoolExecutor(len(streams)) as pool:
        receiving = [
            pool.submit(_receive, stream, request, flow, size, beginning)
            for flow, (stream, size) in enumerate(zip(streams, shares(request), strict=True))
        ]
        try:
            flows = [each.result() for each in receiving]
        except BaseException:
            for stream in streams:
                stream.abort()
            raise
    cpu = cpu_s() - cpu
    whole = request.seconds if request.seconds is not None else max(flow.last_s for flow in flows)
    longest = max(len(flow.intervals) for flow in flows)
    if request.seconds is not None:
        longest = max(longest, round(request.seconds / INTERVAL_S))
    return Arrival(
        bytes=sum(flow.total for flow in flows),
        seconds=whole,
        intervals=[sum(flow.intervals[at] for flow in flows if at < len(flow.intervals)) for at in range(longest)],
        cpu_s=cpu,
        verified=all(flow.verified for flow in flows) if request.verify else None,
        digests=[flow.digest for flow in flows if flow.digest is not None],
        failure=next((flow.failure for flow in flows if flow.failure is not None), None),
    )


def _receive(stream: Stream, request: Request, flow: int, size: int | None, beginning: Beginning) -> Received:
    received = Received()
    hasher = blake3() if request.verify else None
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    heard = time.monotonic()
    try:
        while size is None or received.total < size:
            room = buffer if size is None else buffer[: size - received.total]
            got = stream.receive_into(room)
            now = time.monotonic()
            if got:
                heard = now
                begin = beginning.mark(now)
            elif now - heard > STALLED_S:
                raise TransportError(f"nothing has come for {STALLED_S:.0f} s")
            elif beginning.at is None:
                continue
            else:
                begin = beginning.at
            if request.seconds is not None and now - begin >= request.seconds:
                break
            if got:
                received.count(now - begin, got)
                if hasher is not None:
                    hasher.update(room[:got])
    except TransportError as error:
        received.failure = error.message
    if hasher is not None:
        received.digest = hasher.hexdigest()
        received.verified = received.digest == Content(request.seed, flow).digest(received.total)
    return received


class Sending:
    """Sends on all connections until stopped; what broke before that is in ``failure``."""

    def __init__(self, streams: Sequence[Stream], request: Request) -> None:
        self._streams = streams
        self._stopped = threading.Event()
        self.failure: str | None = None
        self._cpu = cpu_s()
        self._threads = [
            threading.Thread(target=self._send, args=(stream, Content(request.seed, flow), size), name=f"sender {flow}")
            for flow, (stream, size) in enumerate(zip(streams, shares(request), strict=True))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> Departure:
        """Drops what is under way."""
        self._stopped.set()
        statistics = []
        for stream in self._streams:
            with contextlib.suppress(TransportError):
                statistics.append(stream.statistics())
            stream.abort()
        for thread in self._threads:
            thread.join()
        return Departure(connections=statistics, cpu_s=cpu_s() - self._cpu)

    def _send(self, stream: Stream, content: Content, size: int | None) -> None:
        try:
            for piece in content.pieces(size):
                if self._stopped.is_set():
                    return
                stream.send_all(piece)
        except TransportError as error:
            if not self._stopped.is_set():
                self.failure = error.message
