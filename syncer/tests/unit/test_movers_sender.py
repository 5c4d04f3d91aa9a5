"""In which order a sender puts files on the wire, and how much of them at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from syncer.movers.sender import LARGE_AT_ONCE, RECORD_S, SMALLEST_RECORD, Sender
from syncer.movers.transport import TransportStatus
from syncer.wire import mover_protocol as protocol
from syncer.wire.record import KEY_SIZE, MAX_CONTENT, RECORD_HEADER_SIZE, FrameType, Kind, Opener, Sealer, frames

DEADLINE_S = 20.0
KEY = bytes(KEY_SIZE)
FAST_BPS = 10**10


class Wire:
    """A connection in memory. ``on_wait`` is called with the number of records so far whenever the sender waits for
    room: what a test does there comes while the link is busy."""

    def __init__(self, rate_bps: int = FAST_BPS, on_wait: Callable[[int], None] = lambda count: None) -> None:
        self.records: list[list[tuple[int, int, int]]] = []
        self._opener = Opener(KEY, 1)
        self._rate_bps = rate_bps
        self._on_wait = on_wait

    def wait_room(self, timeout_s: float) -> bool:
        self._on_wait(len(self.records))
        return True

    def send(self, data: memoryview) -> None:
        header = self._opener.check_header(data[:RECORD_HEADER_SIZE])
        content = memoryview(bytearray(MAX_CONTENT))
        size = self._opener.open_into(data[:RECORD_HEADER_SIZE], data[RECORD_HEADER_SIZE:], content)
        if header.kind is not Kind.DATA:
            return
        found = list(frames(content[:size]))
        assert all(frame.type is FrameType.BLOCK_DATA for frame in found)
        self.records.append([(frame.job, frame.offset, len(frame.data)) for frame in found])

    def receive_into(self, buffer: memoryview) -> int:
        raise AssertionError("a sender does not receive")

    def heard(self) -> int:
        return 0

    def unacknowledged(self) -> bool:
        return False

    def set_rate(self, bits_per_second: int) -> None:
        raise AssertionError("a sender sets no rate")

    def status(self) -> TransportStatus:
        return TransportStatus(target_rate_bps=self._rate_bps)

    def close(self) -> None:
        pass


class Sending:
    """A sender with files, run until all of them are sent."""

    def __init__(self, directory: Path, wire: Wire) -> None:
        self._directory = directory
        self._left: set[int] = set()
        self.wire = wire
        self.sender = Sender(1, wire, Sealer(KEY, 1), self._report)

    def submit(self, job: int, size: int) -> None:
        path = self._directory / str(job)
        path.write_bytes(os.urandom(size))
        self._left.add(job)
        self.sender.submit(
            protocol.SendFile(
                session=1,
                job=job,
                path=os.fsencode(path),
                size=size,
                mtime_ns=path.stat().st_mtime_ns,
                ranges=[(0, size)],
            )
        )

    def _report(self, message: protocol.FromMover) -> None:
        assert isinstance(message, protocol.Sent), message
        self._left.difference_update(message.jobs)
        if not self._left:
            self.sender.stop()

    def run(self) -> list[list[int]]:
        """The jobs in each record."""
        timer = threading.Timer(DEADLINE_S, self.sender.stop)
        timer.start()
        self.sender.run()
        timer.cancel()
        assert not self._left
        return [[job for job, _, _ in record] for record in self.wire.records]


def test_small_files_share_records_and_take_turns_with_large_ones(tmp_path: Path) -> None:
    sending = Sending(tmp_path, Wire())
    sending.submit(1000, 4 * MAX_CONTENT)
    for job in range(60):
        sending.submit(job, 10_000)
    small_first = list(range(26))
    assert sending.run()[:4] == [small_first, [1000], [job + 26 for job in small_first], [1000]]


def test_a_small_file_that_comes_while_the_link_is_busy_is_next(tmp_path: Path) -> None:
    def come(count: int) -> None:
        if count == 3 and not arrived:
            arrived.append(count)
            sending.submit(2, 10_000)

    arrived: list[int] = []
    sending = Sending(tmp_path, Wire(on_wait=come))
    sending.submit(1, 8 * MAX_CONTENT)
    order = sending.run()
    assert order.index([2]) == 3
    assert order[4:] == [[1]] * len(order[4:])


def test_small_files_without_end_do_not_stop_a_large_one(tmp_path: Path) -> None:
    def come(count: int) -> None:
        if count < 20 and count + 100 not in arrived:
            arrived.add(count + 100)
            sending.submit(count + 100, 10_000)

    arrived: set[int] = set()
    sending = Sending(tmp_path, Wire(on_wait=come))
    sending.submit(1, 8 * MAX_CONTENT)
    assert sending.run()[:20].count([1]) >= 8


def test_large_files_take_turns_by_offset(tmp_path: Path) -> None:
    sending = Sending(tmp_path, Wire())
    for job in range(LARGE_AT_ONCE + 1):
        sending.submit(job, 3 * MAX_CONTENT)
    sending.run()
    order = [record[0] for record in sending.wire.records]
    assert [job for job, _, _ in order[: 2 * LARGE_AT_ONCE]] == [*range(LARGE_AT_ONCE)] * 2
    for wanted in range(LARGE_AT_ONCE + 1):
        at = 0
        for job, offset, size in order:
            if job == wanted:
                assert offset == at
                at += size
        assert at == 3 * MAX_CONTENT


def test_a_record_occupies_a_slow_link_only_for_a_moment(tmp_path: Path) -> None:
    rate_bps = 20_000_000
    sending = Sending(tmp_path, Wire(rate_bps))
    sending.submit(1, 4 * MAX_CONTENT)
    sending.run()
    sizes = [sum(size for _, _, size in record) for record in sending.wire.records]
    assert max(sizes) <= rate_bps / 8 * RECORD_S
    crawling = Sending(tmp_path, Wire(1000))
    crawling.submit(1, MAX_CONTENT + 1)
    crawling.submit(2, 200_000)
    crawling.run()
    sizes = [sum(size for _, _, size in record) for record in crawling.wire.records]
    assert sizes[0] == 200_000, "a small file is never split"
    assert max(sizes[1:]) <= SMALLEST_RECORD
