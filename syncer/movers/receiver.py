"""The receiving half of a session: sealed records in, verified files out."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from functools import partial

from syncer.errors import TransportError, WireError
from syncer.movers.disk import DiskPool, ExpectedFile, VerifyFailed
from syncer.movers.transport import Connection
from syncer.movers.whole_files import WholeFile
from syncer.wire import mover_protocol as protocol
from syncer.wire.record import (
    MAX_CONTENT,
    RECORD_HEADER_SIZE,
    TAG_SIZE,
    Frame,
    FrameType,
    Kind,
    Opener,
    frames,
    unpack_failure,
)

DEAD_PEER_S = 5.0
EXPECT_GRACE_S = 2.0
"""How long data may be ahead of the ExpectFile that announces it."""

JOBS_REMEMBERED = 10_000
SPARE_BUFFERS = 16

Report = Callable[[protocol.FromMover], None]


class Receiver:
    """Runs in one thread (``run``); the other methods may be called from any."""

    def __init__(self, session: int, connection: Connection, opener: Opener, disk: DiskPool, report: Report) -> None:
        self._session = session
        self._connection = connection
        self._opener = opener
        self._disk = disk
        self._report = report
        self._lock = threading.Condition()
        self._expected: dict[int, ExpectedFile] = {}
        self._over: dict[int, None] = {}  # ended early, oldest first: their data may still be under way
        self._missed: set[int] = set()  # of those, the ones whose data came and went before their ExpectFile
        self._pending = 0
        self._stopped = False
        self._header = memoryview(bytearray(RECORD_HEADER_SIZE))
        self._body = memoryview(bytearray(MAX_CONTENT + TAG_SIZE))
        self._content = memoryview(bytearray(MAX_CONTENT))
        self._spare: list[memoryview] = []
        self._whole: list[tuple[ExpectedFile, memoryview]] = []
        self.on_probe: Callable[[memoryview], None] = lambda content: None
        self.bytes_received = 0
        self.content_received = 0

    def expect(self, message: protocol.ExpectFile) -> None:
        """Announce a job. Raises WireError for one that makes no sense, or whose data came and was dropped."""
        expected = ExpectedFile(
            message.job, message.temp_path, message.size, message.block_size, message.blocks, message.have
        )
        with self._lock:
            if expected.job in self._missed:
                raise WireError("the data came too long before it was expected")
            self._over.pop(expected.job, None)
            if expected.complete:
                self._pending += 1
            else:
                self._expected[expected.job] = expected
            self._lock.notify_all()
        if expected.complete:
            self._disk.submit(0, partial(self._make_durable, expected))

    def cancel(self, job: int) -> None:
        with self._lock:
            self._remember_over(job)
            expected = self._expected.pop(job, None)
        if expected is not None:
            expected.close()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._lock.notify_all()

    def finish(self) -> dict[int, list[int]]:
        """After ``run`` returned: wait for the disk, close the partial files; the blocks verified, by job."""
        with self._lock:
            while self._pending:
                self._lock.wait()
            unfinished = list(self._expected.values())
            self._expected.clear()
        for expected in unfinished:
            expected.close()
        return {expected.job: sorted(expected.verified) for expected in unfinished if expected.verified}

    def run(self) -> None:
        """Until stopped or the other end is gone. Raises TransportError and WireError."""
        while True:
            kind, size = self.receive_record()
            if kind is Kind.DATA:
                self._take(self._content[:size])
            elif kind is Kind.PROBE:
                self.on_probe(self._content[:size])
            elif kind is Kind.HELLO:
                raise WireError("a second hello")

    def receive_record(self) -> tuple[Kind, int]:
        """The next record's kind, and the size of its content in ``content``."""
        self._fill(self._header)
        header = self._opener.check_header(self._header)
        body = self._body[: header.body_size]
        self._fill(body)
        self.bytes_received += RECORD_HEADER_SIZE + header.body_size
        return header.kind, self._opener.open_into(self._header, body, self._content)

    @property
    def content(self) -> memoryview:
        return self._content

    def _fill(self, buffer: memoryview) -> None:
        heard, since = -1, time.monotonic()
        while True:
            got = self._connection.receive_into(buffer)
            buffer = buffer[got:]
            if not len(buffer):
                return
            if self._stopped:
                raise TransportError("the session was closed")
            now = time.monotonic()
            if got or self._connection.heard() != heard:
                heard, since = self._connection.heard(), now
            elif now - since > DEAD_PEER_S:
                raise TransportError(f"nothing was heard from the other end for {DEAD_PEER_S:.0f} s")

    def _take(self, content: memoryview) -> None:
        for frame in frames(content):
            self.content_received += len(frame.data)
            self._on_frame(frame)
        if self._whole:
            whole, self._whole = self._whole, []
            self._write_whole(whole)

    def _on_frame(self, frame: Frame) -> None:
        expected = self._expected.get(frame.job) or self._find(frame.job)
        if expected is None:
            return
        if frame.type is FrameType.SOURCE_FAILED:
            code, detail = unpack_failure(frame.data)
            self._fail(expected, code, detail)
            return
        try:
            if expected.whole_in_one and frame.offset == 0 and len(frame.data) == expected.size:
                if expected.check_whole(frame.offset, frame.data):
                    self._whole.append((expected, frame.data))
                else:
                    self._fail(expected, "verify", "block 0 is not what was agreed")
                return
            expected.write(frame.offset, frame.data)
        except OSError as error:
            self._fail_disk(expected, error)
            return
        except VerifyFailed as error:
            self._fail(expected, "verify", str(error))
            return
        if expected.complete and self._hand_over(expected):
            self._disk.submit(0, partial(self._make_durable, expected))

    def _find(self, job: int) -> ExpectedFile | None:
        with self._lock:
            deadline = time.monotonic() + EXPECT_GRACE_S
            while job not in self._expected and job not in self._over and not self._stopped:
                left = deadline - time.monotonic()
                if left <= 0:
                    self._missed.add(job)
                    self._remember_over(job)
                    break
                self._lock.wait(left)
            return self._expected.get(job)

    def _remember_over(self, job: int) -> None:
        self._over[job] = None
        while len(self._over) > JOBS_REMEMBERED:
            oldest = next(iter(self._over))
            del self._over[oldest]
            self._missed.discard(oldest)

    def _write_whole(self, whole: list[tuple[ExpectedFile, memoryview]]) -> None:
        """Write the files of one record. The buffer that they lie in is theirs until they are durable."""
        with self._lock:
            kept = [(expected, data) for expected, data in whole if self._expected.pop(expected.job, None) is not None]
            self._pending += len(kept)
        if not kept:
            return
        buffer = self._content
        self._content = self._spare.pop() if self._spare else memoryview(bytearray(MAX_CONTENT))
        files = [WholeFile(expected.temp_path, data) for expected, data in kept]
        self._disk.write_whole(
            len(buffer), files, partial(self._whole_written, [expected for expected, _ in kept], buffer)
        )

    def _whole_written(self, written: list[ExpectedFile], buffer: memoryview, errors: list[int]) -> None:
        durable = [expected.job for expected, error in zip(written, errors, strict=True) if not error]
        if durable:
            self._report(protocol.Received(session=self._session, jobs=durable))
        for expected, error in zip(written, errors, strict=True):
            if error:
                self._fail_disk(expected, OSError(error, os.strerror(error)))
        with self._lock:
            if len(self._spare) < SPARE_BUFFERS:
                self._spare.append(buffer)
            self._pending -= len(written)
            self._lock.notify_all()

    def _hand_over(self, expected: ExpectedFile) -> bool:
        """From here on the disk pool alone has the job; False if it was cancelled."""
        with self._lock:
            if self._expected.pop(expected.job, None) is None:
                return False
            self._pending += 1
            return True

    def _make_durable(self, expected: ExpectedFile) -> None:
        self._conclude(expected, expected.make_durable)

    def _conclude(self, expected: ExpectedFile, last_step: Callable[[], None]) -> None:
        try:
            last_step()
            self._report(protocol.Received(session=self._session, jobs=[expected.job]))
        except OSError as error:
            self._fail_disk(expected, error)
        finally:
            with self._lock:
                self._pending -= 1
                self._lock.notify_all()

    def _fail_disk(self, expected: ExpectedFile, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, "?")
        self._fail(expected, "disk", f"{name}: {os.strerror(error.errno or 0)}")

    def _fail(self, expected: ExpectedFile, code: str, detail: str) -> None:
        with self._lock:
            self._expected.pop(expected.job, None)
            self._remember_over(expected.job)
        expected.close()
        self._report(
            protocol.ReceiveFailed(
                session=self._session, job=expected.job, code=code, detail=detail, verified=sorted(expected.verified)
            )
        )
