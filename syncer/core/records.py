"""The values that the whole engine speaks in: entries, what a scan saw, blocks."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from syncer.core.version_vector import Vector

BLOCK_SIZES = tuple(1 << shift for shift in range(17, 25))
"""128 KiB to 16 MiB: the smallest that keeps a file at or below 2,000 blocks (the last one for larger files)."""

DIGEST_SIZE = 32


def block_size_for(size: int) -> int:
    """Bytes in a block of a file of ``size`` bytes."""
    return next((block for block in BLOCK_SIZES if size <= block * 2000), BLOCK_SIZES[-1])


class Kind(IntEnum):
    """What stands at a path. The order is the precedence in a conflict of kinds: the highest stays."""

    SYMLINK = 1
    FILE = 2
    DIRECTORY = 3


class Fingerprint(msgspec.Struct, frozen=True, array_like=True):
    """What the file system says of a file: equal ones mean that it was not touched (but for the racy window)."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int


class Content(msgspec.Struct, frozen=True, array_like=True):
    """A file's bytes: BLAKE3 of the whole, and of each block, concatenated (DIGEST_SIZE each)."""

    size: int
    digest: bytes
    block_size: int
    blocks: bytes


class Entry(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One version of one path.

    ``path`` is relative, raw bytes, '/'-separated. ``mode`` is permission bits (0o7777); 0 for symlinks.
    ``mtime_ns`` is kept for files only (0 otherwise). ``content`` is None for all but files; ``target`` is a symlink's.
    ``origin`` is the site at which this version was written. A deleted entry is a tombstone: only path, kind, vector
    and origin mean anything.

    ``dot`` names the write that made this value: an actor (a site and the life of its index) and that actor's counter
    for this path. ``vector`` holds every write that this record has seen; it always holds its own dot.
    """

    path: bytes
    kind: Kind
    deleted: bool = False
    mode: int = 0
    mtime_ns: int = 0
    content: Content | None = None
    target: bytes = b""
    vector: Vector = ()
    origin: str = ""
    dot: tuple[str, int] = ("", 0)
