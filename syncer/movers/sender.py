"""The sending half of a session: jobs in, sealed records out.

Small jobs share records and never wait behind a large file: a record of small files and a record of a large one take
turns, and a few large files take turns among themselves.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from syncer.errors import SourceChanged, TransportError
from syncer.movers.transport import Connection
from syncer.wire import mover_protocol as protocol
from syncer.wire.record import (
    FRAME_HEADER_SIZE,
    MAX_CONTENT,
    MAX_RECORD,
    FrameType,
    Kind,
    Sealer,
    pack_failure,
    pack_frame_header,
)

HEARTBEAT_S = 1.0
TAIL_S = 0.05
"""How soon an empty record follows when all is sent but not acknowledged: only what comes after shows a lost tail."""

LARGE_AT_ONCE = 4
ROOM_WAIT_S = 0.25

RECORD_S = 0.02
"""How long a record may occupy the link: a small file that comes meanwhile waits for its end."""

SMALLEST_RECORD = 32 * 1024
RATE_REVIEW_S = 0.25

Report = Callable[[protocol.FromMover], None]


class Probe(Protocol):
    """What a speed test wants to have sent."""

    @property
    def waits(self) -> bool:
        """Whether there is something to send; may be asked at any time."""
        ...

    def next_record(self, content: memoryview, *, is_idle: bool) -> int:
        """Write the next PROBE record's content and return its size; 0: none now. Bulk only when ``is_idle``."""
        ...


class _NoProbe:
    waits = False

    def next_record(self, content: memoryview, *, is_idle: bool) -> int:
        return 0


@dataclass
class _Reading:
    """A file that is being sent."""

    request: protocol.SendFile
    fd: int
    ranges: deque[tuple[int, int]] = field(default_factory=deque)


class Sender:
    """Runs in one thread (``run``); the other methods may be called from any."""

    def __init__(self, session: int, connection: Connection, sealer: Sealer, report: Report) -> None:
        self._session = session
        self._connection = connection
        self._sealer = sealer
        self._report = report
        self._wake = threading.Condition()
        self._small: deque[protocol.SendFile] = deque()
        self._large: deque[protocol.SendFile] = deque()
        self._reading: deque[_Reading] = deque()
        self._cancelled: set[int] = set()
        self._stopped = False
        self._record = memoryview(bytearray(MAX_RECORD))
        self._content = memoryview(bytearray(MAX_CONTENT))
        self._last_sent = time.monotonic()
        self._limit, self._review_at = MAX_CONTENT, 0.0
        self.probe: Probe = _NoProbe()
        self.bytes_sent = 0

    def submit(self, request: protocol.SendFile) -> None:
        small = sum(length for _, length in request.ranges) <= MAX_CONTENT - FRAME_HEADER_SIZE
        with self._wake:
            (self._small if small else self._large).append(request)
            self._wake.notify()

    def cancel(self, job: int) -> None:
        with self._wake:
            for queue in (self._small, self._large):
                for request in queue:
                    if request.job == job:
                        queue.remove(request)
                        return
            if any(reading.request.job == job for reading in self._reading):
                self._cancelled.add(job)

    def stop(self) -> None:
        with self._wake:
            self._stopped = True
            self._wake.notify()

    def wake(self) -> None:
        """``probe`` has something to send."""
        with self._wake:
            self._wake.notify()

    def run(self) -> None:
        """Until stopped. Raises TransportError when the connection breaks."""
        try:
            while self._wait_for_work():
                sent_small = self._send_small()
                self._send_large(yields=not sent_small)
                self._send_probe()
        finally:
            for reading in self._reading:
                os.close(reading.fd)
            self._reading.clear()

    def _wait_for_work(self) -> bool:
        """True with work at hand, False when stopped; heartbeats meanwhile."""
        while True:
            patience = TAIL_S if self._connection.unacknowledged() else HEARTBEAT_S
            with self._wake:
                if self._stopped:
                    return False
                if self._small or self._large or self._reading or self.probe.waits:
                    return True
                self._wake.wait(max(0.0, self._last_sent + patience - time.monotonic()))
                if self._stopped:
                    return False
                if self._small or self._large or self.probe.waits:
                    return True
            if time.monotonic() >= self._last_sent + patience:
                self._send_record(Kind.HEARTBEAT, 0)

    def _wait_for_room(self) -> None:
        while not self._connection.wait_room(ROOM_WAIT_S):
            with self._wake:
                if self._stopped:
                    raise TransportError("the session was closed")

    def _record_limit(self) -> int:
        """Bytes of content in a record: full ones on a fast link, less on a slow one."""
        now = time.monotonic()
        if now >= self._review_at:
            self._review_at = now + RATE_REVIEW_S
            rate = self._connection.status().target_rate_bps
            fitting = int(rate / 8 * RECORD_S) if rate else MAX_CONTENT
            self._limit = max(SMALLEST_RECORD, min(fitting, MAX_CONTENT))
        return self._limit

    def _send_record(self, kind: Kind, size: int) -> None:
        record_size = self._sealer.seal_into(kind, self._content[:size], self._record)
        self._connection.send(self._record[:record_size])
        self._last_sent = time.monotonic()
        self.bytes_sent += record_size

    def _send_probe(self) -> None:
        """Bulk of a speed test only while no file waits: the test measures what is left of the link, files go on."""
        if not self.probe.waits:
            return
        with self._wake:
            is_idle = not (self._small or self._large or self._reading)
        if is_idle:
            self._wait_for_room()
        size = self.probe.next_record(self._content, is_idle=is_idle)
        if size:
            self._send_record(Kind.PROBE, size)

    # small files

    def _send_small(self) -> bool:
        """One record of them. False if there were none."""
        sent: list[int] = []
        used, limit = 0, 0
        while True:
            with self._wake:
                if not self._small:
                    break
                need = self._frames_size(self._small[0])
                if used and used + need > limit:
                    break
                request = self._small.popleft()
            if not used:
                limit = self._record_limit()
                self._wait_for_room()
            try:
                used = self._pack_whole(request, used)
                sent.append(request.job)
            except (OSError, SourceChanged) as error:
                used = self._pack_failed(request, error, used)
        if used:
            self._send_record(Kind.DATA, used)
        if sent:
            self._report(protocol.Sent(session=self._session, jobs=sent))
        return used > 0 or bool(sent)

    @staticmethod
    def _frames_size(request: protocol.SendFile) -> int:
        # A failure's frame may stand in for the data's.
        return max(FRAME_HEADER_SIZE + 1100, sum(FRAME_HEADER_SIZE + length for _, length in request.ranges))

    def _pack_whole(self, request: protocol.SendFile, used: int) -> int:
        fd = _open_source(request)
        try:
            for offset, length in request.ranges:
                used = pack_frame_header(self._content, used, FrameType.BLOCK_DATA, request.job, offset, length)
                _read_exactly(fd, self._content[used : used + length], offset)
                used += length
            _check_source(fd, request)
        finally:
            os.close(fd)
        return used

    def _pack_failed(self, request: protocol.SendFile, error: OSError | SourceChanged, used: int) -> int:
        detail = error.message if isinstance(error, SourceChanged) else os.strerror(error.errno or 0)
        data = pack_failure("source", detail)
        used = pack_frame_header(self._content, used, FrameType.SOURCE_FAILED, request.job, 0, len(data))
        self._content[used : used + len(data)] = data
        self._report(protocol.SendFailed(session=self._session, job=request.job, code="source", detail=detail))
        return used + len(data)

    # large files

    def _send_large(self, *, yields: bool) -> None:
        """One record of one of them. ``yields``: unless a small file has come meanwhile."""
        self._begin_large()
        if not self._reading:
            return
        reading = self._reading[0]
        with self._wake:
            cancelled = reading.request.job in self._cancelled
            self._cancelled.discard(reading.request.job)
        if cancelled:
            self._end_reading(reading)
            return
        self._wait_for_room()
        if yields and self._small:
            return
        request = reading.request
        offset, length = reading.ranges[0]
        chunk = min(length, self._record_limit() - FRAME_HEADER_SIZE)
        at = pack_frame_header(self._content, 0, FrameType.BLOCK_DATA, request.job, offset, chunk)
        try:
            _read_exactly(reading.fd, self._content[at : at + chunk], offset)
            if chunk < length:
                reading.ranges[0] = (offset + chunk, length - chunk)
            else:
                reading.ranges.popleft()
            if not reading.ranges:
                _check_source(reading.fd, request)
        except (OSError, SourceChanged) as error:
            self._end_reading(reading)
            self._send_record(Kind.DATA, self._pack_failed(request, error, 0))
            return
        self._send_record(Kind.DATA, at + chunk)
        if reading.ranges:
            self._reading.rotate(-1)
        else:
            self._end_reading(reading)
            self._report(protocol.Sent(session=self._session, jobs=[request.job]))

    def _begin_large(self) -> None:
        while len(self._reading) < LARGE_AT_ONCE:
            with self._wake:
                if not self._large:
                    return
                request = self._large.popleft()
            try:
                self._reading.append(_Reading(request, _open_source(request), deque(request.ranges)))
            except (OSError, SourceChanged) as error:
                self._wait_for_room()
                self._send_record(Kind.DATA, self._pack_failed(request, error, 0))

    def _end_reading(self, reading: _Reading) -> None:
        os.close(reading.fd)
        with self._wake:
            self._reading.remove(reading)


def _open_source(request: protocol.SendFile) -> int:
    fd = os.open(request.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _check_source(fd, request)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_source(fd: int, request: protocol.SendFile) -> None:
    found = os.fstat(fd)
    if (found.st_size, found.st_mtime_ns) != (request.size, request.mtime_ns):
        raise SourceChanged("the file changed since it was scanned")


def _read_exactly(fd: int, buffer: memoryview, offset: int) -> None:
    while len(buffer):
        got = os.preadv(fd, [buffer], offset)
        if got == 0:
            raise SourceChanged("the file became shorter")
        buffer = buffer[got:]
        offset += got
