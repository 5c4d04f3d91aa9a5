"""Hints that something changed, from inotify. Events are only ever hints: a scan says what is true."""

from __future__ import annotations

from typing import NamedTuple

from syncer.files.root import Root


class WatchBatch(NamedTuple):
    """``dirty``: directories of which the direct children (and for a new directory, the directory itself) must be scanned,
    not recursively: every new directory below a new one is listed too. ``overflow``: events were lost; scan everything."""

    dirty: set[bytes]
    overflow: bool


class Watcher:
    """Watches every directory of the folder except the private one.

    ``add_tree()`` first, then the first scan: what changes in between is then reported by ``read()``.
    ``degraded`` is None, or says why some directory is not watched (the limit was reached): scan periodically then.
    """

    degraded: str | None

    def __init__(self, root: Root) -> None:
        raise NotImplementedError

    def fileno(self) -> int:
        """Readable when ``read()`` has something to say; for poll or asyncio's add_reader."""
        raise NotImplementedError

    def add_tree(self, path: bytes = b"") -> set[bytes]:
        """Watches directory ``path`` and all below it, each before it is listed. Returns those not watched before."""
        raise NotImplementedError

    def read(self) -> WatchBatch:
        """All hints that are waiting; never blocks. New directories are watched before this returns, so that a scan done
        after it misses nothing. After an overflow the whole tree has been walked for missing watches."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
