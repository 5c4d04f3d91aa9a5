"""The index as it will be after the next commit: what is durable, and over it what is staged. Pure but for the port."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from syncer.core.ports import IndexPort, Progress
from syncer.core.records import Entry, Fingerprint


class Overlay:
    """Reads through to ``index`` for what is not staged."""

    def __init__(self, index: IndexPort) -> None:
        self._index = index
        self._staged: dict[bytes, tuple[Entry, Fingerprint | None]] = {}
        self._refreshed: dict[bytes, Fingerprint | None] = {}

    @property
    def is_dirty(self) -> bool:
        """Whether there are entries to commit."""
        return bool(self._staged)

    def entry(self, path: bytes) -> Entry | None:
        """What is known of ``path``, tombstones included."""
        if path in self._staged:
            return self._staged[path][0]
        stored = self._index.entry(path)
        return stored.entry if stored is not None else None

    def fingerprint(self, path: bytes) -> Fingerprint | None:
        """What the file system said when the entry was recorded; None when that can't be relied on."""
        if path in self._refreshed:
            return self._refreshed[path]
        if path in self._staged:
            return self._staged[path][1]
        stored = self._index.entry(path)
        return stored.fingerprint if stored is not None else None

    def live_children(self, path: bytes) -> Iterator[Entry]:
        """What stands directly in directory ``path``; an entry may come twice."""
        for stored in self._index.children(path):
            entry = self._staged[stored.entry.path][0] if stored.entry.path in self._staged else stored.entry
            if not entry.deleted:
                yield entry
        for entry, _ in self._staged.values():
            if entry.path.rpartition(b"/")[0] == path and not entry.deleted:
                yield entry

    def stage(self, entry: Entry, fingerprint: Fingerprint | None) -> None:
        """To be committed, after all that was staged before."""
        self._refreshed.pop(entry.path, None)
        self._staged.pop(entry.path, None)
        self._staged[entry.path] = (entry, None if entry.deleted else fingerprint)

    def refresh(self, path: bytes, fingerprint: Fingerprint | None) -> None:
        """The entry is the same, its fingerprint is not."""
        self._refreshed[path] = fingerprint

    def commit(self, progress: Mapping[str, Progress]) -> None:
        """Make all that is staged and the peers' progress durable. When it raises, all is still staged."""
        self._index.upsert(list(self._staged.values()), peer_progress=progress)
        self._staged.clear()

    def commit_refreshed(self) -> None:
        """Record the new fingerprints; for peers nothing has changed."""
        if self._refreshed:
            self._index.refresh_fingerprints(self._refreshed)
            self._refreshed.clear()
