"""Contents: hash a file as it stands, and find out which blocks of a partial one are right."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from blake3 import blake3

from syncer.core.records import BLOCK_SIZES, DIGEST_SIZE, Content, Fingerprint, block_size_for
from syncer.errors import SourceChanged, Unreadable
from syncer.files.root import Root, fingerprint_of, fingerprint_of_raw
from syncer.native import _bulk

_TICK_NS = 20_000_000
"""The kernel stamps files by its timer tick (10 ms at most): two writes within one may look the same."""

_COARSE_NS = 2_000_000_000
"""The largest granularity in use (FAT); assumed where a time stamp shows no fraction of a second."""

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


def read_content(root: Root, path: bytes, fingerprint: Fingerprint) -> Content:
    """Hashes file ``path``, which must have this fingerprint before and after (all fields).

    The block size is ``block_size_for(size)``; there are ceil(size / block size) blocks: none in an empty file, and in
    a file of one block its digest is the file's. Safe to call from several threads; releases the GIL while hashing.

    Raises:
        SourceChanged: it is gone or not what ``fingerprint`` says; observe it again.
        Unreadable: no permission or an I/O error.
    """
    try:
        fd = root.open_file(path)
        try:
            _expect(fd, fingerprint, path)
            content = _hash(fd, fingerprint.size, path)
            _expect(fd, fingerprint, path)
        finally:
            os.close(fd)
    except OSError as error:
        raise _why(path, error) from error
    return content


def read_contents(root: Root, files: Sequence[tuple[bytes, Fingerprint]]) -> list[Content | SourceChanged | Unreadable]:
    """As ``read_content`` for each path, but the errors are returned. Quick for many small files; a list that is in the
    order of paths is quicker still."""
    outcomes: list[Content | SourceChanged | Unreadable] = []
    at = 0
    while at < len(files):
        directory = files[at][0].rpartition(b"/")[0]
        end = at
        while end < len(files) and files[end][0].rpartition(b"/")[0] == directory:
            end += 1
        outcomes += _read_directory(root, directory, files[at:end])
        at = end
    return outcomes


def _read_directory(
    root: Root, directory: bytes, files: Sequence[tuple[bytes, Fingerprint]]
) -> list[Content | SourceChanged | Unreadable]:
    small = [(path, found) for path, found in files if found.size <= BLOCK_SIZES[0]]
    if len(small) < len(files) or len(files) == 1:
        return [_read_or_why(root, path, found) for path, found in files]
    try:
        parent = root.open_directory(directory)
    except OSError as error:
        return [_why(path, error) for path, _ in files]
    try:
        names = [path.rpartition(b"/")[2] for path, _ in files]
        read = _bulk.read_files([(parent, name, found.size) for name, (_, found) in zip(names, files, strict=True)])
    finally:
        os.close(parent)
    return [_content_of(path, found, result) for (path, found), result in zip(files, read, strict=True)]


def _content_of(
    path: bytes, fingerprint: Fingerprint, read: tuple[bytes, _bulk.Status, _bulk.Status] | int
) -> Content | SourceChanged | Unreadable:
    if isinstance(read, int):
        return _why(path, OSError(read, os.strerror(read)))
    data, before, after = read
    is_same = before == after and stat.S_ISREG(before[5]) and fingerprint_of_raw(before) == fingerprint
    if not is_same or len(data) != fingerprint.size:
        return _changed(path)
    digest = blake3(data).digest()
    return Content(fingerprint.size, digest, block_size_for(fingerprint.size), digest if data else b"")


def _read_or_why(root: Root, path: bytes, fingerprint: Fingerprint) -> Content | SourceChanged | Unreadable:
    try:
        return read_content(root, path, fingerprint)
    except (SourceChanged, Unreadable) as error:
        return error


def is_settled(fingerprint: Fingerprint, now_ns: int) -> bool:
    """Whether any write after ``now_ns`` (CLOCK_REALTIME, taken before hashing began) must change this fingerprint.

    It need not within the granularity of the file system's clock. A fingerprint that is not settled may be recorded
    only together with the resolve to hash again (same-second, same-size edits).
    """
    granularity = _TICK_NS if fingerprint.ctime_ns % 1_000_000_000 else _COARSE_NS
    return fingerprint.ctime_ns + granularity <= now_ns


def verify_blocks(fd: int, content: Content) -> list[int]:
    """Indices of the blocks that the open file (a partial temporary one) already holds right, in order."""
    buffer = memoryview(bytearray(min(content.block_size, content.size)))
    present = os.fstat(fd).st_size
    right = []
    for index, start in enumerate(range(0, content.size, content.block_size)):
        length = min(content.block_size, content.size - start)
        if start + length > present or _read_at(fd, buffer[:length], start) < length:
            break
        if blake3(buffer[:length]).digest() == content.blocks[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]:
            right.append(index)
    return right


def _hash(fd: int, size: int, path: bytes) -> Content:
    block_size = block_size_for(size)
    if size <= block_size:
        data = bytearray(size)
        if _read_at(fd, memoryview(data), 0) < size:
            raise _changed(path)
        digest = blake3(data).digest()
        return Content(size, digest, block_size, digest if size else b"")
    whole, blocks = blake3(), bytearray()
    buffer = memoryview(bytearray(block_size))
    for start in range(0, size, block_size):
        part = buffer[: min(block_size, size - start)]
        if _read_at(fd, part, start) < len(part):
            raise _changed(path)
        whole.update(part)
        blocks += blake3(part).digest()
    return Content(size, whole.digest(), block_size, bytes(blocks))


def _read_at(fd: int, buffer: memoryview, offset: int) -> int:
    """Fills ``buffer`` unless the file ends; returns the bytes read."""
    done = 0
    while done < len(buffer) and (count := os.preadv(fd, [buffer[done:]], offset + done)):
        done += count
    return done


def _expect(fd: int, fingerprint: Fingerprint, path: bytes) -> None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or fingerprint_of(status) != fingerprint:
        raise _changed(path)


def _why(path: bytes, error: OSError) -> SourceChanged | Unreadable:
    if error.errno in _GONE:
        return _changed(path)
    return Unreadable(
        f"{os.fsdecode(path)!r} cannot be read: {error.strerror}", hint="mend its permissions or its disk"
    )


def _changed(path: bytes) -> SourceChanged:
    return SourceChanged(f"{os.fsdecode(path)!r} changed while it was read")
