"""The receiving side's files: temporary files that fill block by block, and the threads that make files durable."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from blake3 import blake3

from syncer.core.records import DIGEST_SIZE
from syncer.errors import WireError
from syncer.movers.whole_files import Done, WholeFile, WholeFileWriter

FSYNC_THREADS = 8
MAX_QUEUED_BYTES = 64 * 1024 * 1024
"""What may wait in memory for the disk; more stops the receiver, and so the sender."""


class VerifyFailed(Exception):
    """A block's content is not what its digest says."""


class ExpectedFile:
    """One job of the receiving side. Used by one thread at a time, but for ``close``, which may come from any: a
    descriptor closed under a write would be another file's by the time of the write."""

    def __init__(self, job: int, temp_path: bytes, size: int, block_size: int, blocks: bytes, have: list[int]) -> None:
        if len(blocks) % DIGEST_SIZE:
            raise WireError(f"job {job}: {len(blocks)} bytes of digests")
        self.job = job
        self.temp_path = temp_path
        self.size = size
        self.block_size = block_size
        self._digests = blocks
        self.block_count = len(blocks) // DIGEST_SIZE
        if size and (block_size <= 0 or self.block_count != -(-size // block_size)):
            raise WireError(f"job {job}: {self.block_count} blocks of {block_size} bytes for {size} bytes")
        self.verified = set(have)
        # Blocks that are said to be there are not in a file that has to be made: better none than one with holes.
        self._flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (0 if have else os.O_CREAT)
        self._lock = threading.Lock()
        self._closed = False
        self._fd: int | None = None
        self._hasher = blake3()
        self._block: int | None = None
        self._at = 0

    @property
    def complete(self) -> bool:
        return len(self.verified) >= self.block_count

    @property
    def whole_in_one(self) -> bool:
        """Nothing is there yet and one block is all: the data can be written and made durable in one go."""
        return self.block_count == 1 and not self.verified and self._fd is None

    def check_whole(self, offset: int, data: bytes | memoryview) -> bool:
        """Whether ``data`` is the entire, right content of a file of one block."""
        return offset == 0 and len(data) == self.size and blake3(data).digest() == self._digests

    def write(self, offset: int, data: memoryview) -> None:
        """Write what arrived; nothing once closed. Raises OSError, VerifyFailed, WireError."""
        if offset + len(data) > self.size:
            raise WireError(f"job {self.job}: data beyond the end of the file")
        with self._lock:
            if self._closed:
                return
            if self._fd is None:
                self._fd = os.open(self.temp_path, self._flags, 0o600)
                os.ftruncate(self._fd, self.size)
            _pwrite_all(self._fd, data, offset)
        while len(data):
            if self._block is None:
                if offset % self.block_size:
                    raise WireError(f"job {self.job}: a block begins at {offset}")
                self._block, self._at = offset // self.block_size, offset
                self._hasher = blake3()
            if offset != self._at:
                raise WireError(f"job {self.job}: data for {offset} where {self._at} was due")
            end = min((self._block + 1) * self.block_size, self.size)
            part = data[: end - offset]
            self._hasher.update(part)
            self._at = offset = offset + len(part)
            data = data[len(part) :]
            if self._at == end:
                self._finish_block(self._block)

    def _finish_block(self, block: int) -> None:
        self._block = None
        if self._hasher.digest() != self._digests[block * DIGEST_SIZE : (block + 1) * DIGEST_SIZE]:
            raise VerifyFailed(f"block {block} is not what was agreed")
        self.verified.add(block)

    def make_durable(self) -> None:
        """Fsync what was written, and close. Makes the file if it is empty. Raises OSError."""
        fd, self._fd = self._fd, None
        if fd is None:
            fd = os.open(self.temp_path, self._flags, 0o600)
        try:
            os.ftruncate(fd, self.size)
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Leave the partial file as it is, from now on."""
        with self._lock:
            self._closed = True
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)


class DiskPool:
    """Makes finished files durable; bounds the bytes that wait for it."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(FSYNC_THREADS, thread_name_prefix="disk")
        self._whole_files = WholeFileWriter()
        self._room = threading.Condition()
        self._queued = 0

    def submit(self, size: int, task: Callable[[], None]) -> None:
        """Run ``task`` on a thread; waits while too many bytes are queued. ``task`` must not raise."""
        self._take_room(size)
        self._threads.submit(self._run, size, task)

    def write_whole(self, size: int, files: list[WholeFile], done: Done) -> None:
        """Make new files with all of their content, held in ``size`` bytes of memory. See WholeFileWriter."""

        def written(errors: list[int]) -> None:
            try:
                done(errors)
            finally:
                self._give_room(size)

        self._take_room(size)
        self._whole_files.submit(files, written)

    def _take_room(self, size: int) -> None:
        with self._room:
            while self._queued and self._queued + size > MAX_QUEUED_BYTES:
                self._room.wait()
            self._queued += size

    def _give_room(self, size: int) -> None:
        with self._room:
            self._queued -= size
            self._room.notify_all()

    def _run(self, size: int, task: Callable[[], None]) -> None:
        try:
            task()
        finally:
            self._give_room(size)

    def close(self) -> None:
        """Finish what was submitted."""
        self._whole_files.close()
        self._threads.shutdown(wait=True)


def _pwrite_all(fd: int, data: memoryview, offset: int) -> None:
    while len(data):
        written = os.pwrite(fd, data, offset)
        data = data[written:]
        offset += written
