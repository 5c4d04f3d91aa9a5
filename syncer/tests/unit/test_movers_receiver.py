"""What a receiver does with what arrives: whole small files in groups, large ones block by block, and when to stop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from syncer.errors import TransportError
from syncer.movers.disk import MAX_QUEUED_BYTES, DiskPool
from syncer.movers.receiver import Receiver
from syncer.movers.transport import TransportStatus
from syncer.wire import mover_protocol as protocol
from syncer.wire.record import (
    KEY_SIZE,
    MAX_CONTENT,
    MAX_RECORD,
    FrameType,
    Kind,
    Opener,
    Sealer,
    pack_frame_header,
)

DEADLINE_S = 20.0
KEY = bytes(KEY_SIZE)
BLOCK = 1 << 17


class Arriving:
    """A connection in memory: gives the bytes of records as they are asked for, then breaks."""

    def __init__(self) -> None:
        self._sealer = Sealer(KEY, 1)
        self._bytes = bytearray()
        self.taken = 0
        self.total = 0

    def add(self, *contents: tuple[int, int, bytes]) -> None:
        """One record with these (job, offset, data)."""
        content = memoryview(bytearray(MAX_CONTENT))
        used = 0
        for job, offset, data in contents:
            used = pack_frame_header(content, used, FrameType.BLOCK_DATA, job, offset, len(data))
            content[used : used + len(data)] = data
            used += len(data)
        record = memoryview(bytearray(MAX_RECORD))
        size = self._sealer.seal_into(Kind.DATA, content[:used], record)
        self._bytes += record[:size]
        self.total += size

    def receive_into(self, buffer: memoryview) -> int:
        if self.taken == self.total:
            raise TransportError("the end")
        size = min(len(buffer), self.total - self.taken)
        buffer[:size] = self._bytes[self.taken : self.taken + size]
        self.taken += size
        return size

    def wait_room(self, timeout_s: float) -> bool:
        raise AssertionError("a receiver does not send")

    def send(self, data: memoryview) -> None:
        raise AssertionError("a receiver does not send")

    def heard(self) -> int:
        return self.taken

    def unacknowledged(self) -> bool:
        return False

    def set_rate(self, bits_per_second: int) -> None:
        raise AssertionError("a receiver sets no rate")

    def status(self) -> TransportStatus:
        return TransportStatus()

    def close(self) -> None:
        pass


class Receiving:
    """A receiver at the end of ``arriving``, and what it reports."""

    def __init__(self, directory: Path, arriving: Arriving) -> None:
        self._directory = directory
        self.reports: list[protocol.FromMover] = []
        self.on_report: Callable[[], None] = lambda: None
        self.disk = DiskPool()
        self.receiver = Receiver(1, arriving, Opener(KEY, 1), self.disk, self._report)
        self.thread = threading.Thread(target=self._run)

    def _report(self, message: protocol.FromMover) -> None:
        self.on_report()
        self.reports.append(message)

    def _run(self) -> None:
        with pytest.raises(TransportError):
            self.receiver.run()

    def expect(self, job: int, data: bytes) -> None:
        digests = b"".join(blake3(data[at : at + BLOCK]).digest() for at in range(0, len(data), BLOCK))
        self.receiver.expect(
            protocol.ExpectFile(
                session=1,
                job=job,
                temp_path=os.fsencode(self.path(job)),
                size=len(data),
                block_size=BLOCK,
                blocks=digests,
            )
        )

    def path(self, job: int) -> Path:
        return self._directory / f"temporary {job}"

    def finish(self) -> dict[int, list[int]]:
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()
        verified = self.receiver.finish()
        self.disk.close()
        return verified

    @property
    def received(self) -> set[int]:
        return {job for report in self.reports if isinstance(report, protocol.Received) for job in report.jobs}

    @property
    def failed(self) -> dict[int, str]:
        return {report.job: report.code for report in self.reports if isinstance(report, protocol.ReceiveFailed)}


def test_each_file_of_a_record_is_judged_by_itself(tmp_path: Path) -> None:
    arriving = Arriving()
    receiving = Receiving(tmp_path, arriving)
    contents = {job: os.urandom(job * 100 + 1) for job in range(20)}
    for job, data in contents.items():
        receiving.expect(job, data)
    damaged = {**contents, 3: contents[3][:-1] + b"?"}
    arriving.add(*((job, 0, data) for job, data in damaged.items()))
    receiving.receiver.cancel(5)
    receiving.path(7).mkdir()
    receiving.thread.start()
    assert receiving.finish() == {}
    assert receiving.received == contents.keys() - {3, 5, 7}
    assert receiving.failed == {3: "verify", 7: "disk"}
    for job in receiving.received:
        assert receiving.path(job).read_bytes() == contents[job]
    assert not receiving.path(3).exists()
    assert not receiving.path(5).exists()


def test_several_large_files_arrive_interleaved_and_keep_their_verified_blocks(tmp_path: Path) -> None:
    arriving = Arriving()
    receiving = Receiving(tmp_path, arriving)
    contents = {job: os.urandom(3 * BLOCK + job) for job in (1, 2, 3)}
    for job, data in contents.items():
        receiving.expect(job, data)
    for at in range(0, 4 * BLOCK, BLOCK):
        for job, data in contents.items():
            if job != 3 or at < 2 * BLOCK:
                arriving.add((job, at, data[at : at + BLOCK]))
    receiving.thread.start()
    assert receiving.finish() == {3: [0, 1]}
    assert receiving.received == {1, 2}
    assert receiving.path(1).read_bytes() == contents[1]
    assert receiving.path(3).read_bytes()[: 2 * BLOCK] == contents[3][: 2 * BLOCK]


def test_a_disk_that_does_not_keep_up_stops_the_reading(tmp_path: Path) -> None:
    arriving = Arriving()
    receiving = Receiving(tmp_path, arriving)
    records = 2 * MAX_QUEUED_BYTES // MAX_CONTENT
    data = b"x" * 1000
    for job in range(records):
        receiving.expect(job, data)
        arriving.add((job, 0, data))
    go_on = threading.Event()
    receiving.on_report = lambda: assert_set(go_on)
    receiving.thread.start()
    deadline = time.monotonic() + DEADLINE_S
    taken = -1
    while taken != arriving.taken:
        assert time.monotonic() < deadline
        taken = arriving.taken
        go_on.wait(0.3)
    assert 0 < taken < arriving.total * 0.6, "what waits for the disk is bounded"
    go_on.set()
    receiving.finish()
    assert receiving.received == set(range(records))


def assert_set(event: threading.Event) -> None:
    assert event.wait(DEADLINE_S)
