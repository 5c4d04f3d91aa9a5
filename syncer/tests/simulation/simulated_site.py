"""A site in memory for the simulator: a disk, a durable index, and the surroundings of a Replica."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from blake3 import blake3

from syncer.core.commands import Apply, Source
from syncer.core.diff import LocalState
from syncer.core.ports import Progress
from syncer.core.records import Content, Entry, Fingerprint, Kind


class Row(NamedTuple):
    seq: int
    entry: Entry
    fingerprint: Fingerprint | None


class MemoryIndex:
    """The index port, durable over a simulated crash because the crash keeps the object."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.last_seq = 0
        self.rows: dict[bytes, Row] = {}
        self.peers: dict[str, Progress] = {}

    def entry(self, path: bytes) -> Row | None:
        return self.rows.get(path)

    def children(self, path: bytes) -> Iterator[Row]:
        return iter([row for row in self.rows.values() if row.entry.path.rpartition(b"/")[0] == path])

    def since(self, seq: int, limit: int) -> list[tuple[int, Entry]]:
        return sorted((row.seq, row.entry) for row in self.rows.values() if row.seq > seq)[:limit]

    def by_digest(self, digest: bytes) -> list[bytes]:
        return sorted(
            path
            for path, row in self.rows.items()
            if row.entry.content is not None and row.entry.content.digest == digest and not row.entry.deleted
        )

    def peer(self, site: str) -> Progress:
        return self.peers.get(site, Progress())

    def upsert(
        self,
        items: Sequence[tuple[Entry, Fingerprint | None]],
        *,
        peer_progress: Mapping[str, Progress] | None = None,
    ) -> int:
        for entry, fingerprint in items:
            assert any(actor == entry.dot[0] and count >= entry.dot[1] for actor, count in entry.vector), entry
            self.last_seq += 1
            self.rows[entry.path] = Row(self.last_seq, entry, fingerprint)
        self.peers.update(peer_progress or {})
        return self.last_seq

    def refresh_fingerprints(self, fingerprints: Mapping[bytes, Fingerprint | None]) -> None:
        for path, fingerprint in fingerprints.items():
            row = self.rows[path]
            self.rows[path] = Row(row.seq, row.entry, fingerprint)


@dataclass(frozen=True)
class File:
    """One inode; a write makes another one. ``data`` also holds a symlink's target."""

    kind: Kind
    inode: int
    changed: int
    data: bytes = b""
    mode: int = 0o644
    mtime: int = 0

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(1, self.inode, len(self.data), self.mtime, self.changed, self.mode)


class Refused(Exception):
    """What stands at a path is not what was expected."""


def content_of(data: bytes) -> Content:
    digest = blake3(data).digest()
    return Content(len(data), digest, 1 << 17, digest if data else b"")


@dataclass
class Disk:
    """A tree. Every operation is atomic and durable; user operations and installs share it."""

    tree: dict[bytes, File] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def inside(self, path: bytes) -> list[bytes]:
        return sorted(found for found in self.tree if found.startswith(path + b"/"))

    def has_parent(self, path: bytes) -> bool:
        parent = path.rpartition(b"/")[0]
        return not parent or (parent in self.tree and self.tree[parent].kind is Kind.DIRECTORY)

    def put(self, path: bytes, kind: Kind, data: bytes = b"", mode: int = 0o644, mtime: int = 0) -> File:
        assert self.has_parent(path), path
        number = next(self._numbers)
        self.tree[path] = File(kind, number, number, data, mode, mtime)
        return self.tree[path]

    def chmod(self, path: bytes, mode: int, mtime: int) -> None:
        now = self.tree[path]
        self.tree[path] = File(now.kind, now.inode, next(self._numbers), now.data, mode, mtime)

    def remove(self, path: bytes) -> None:
        for inner in [*self.inside(path), path]:
            del self.tree[inner]

    def states(self, index: MemoryIndex) -> list[LocalState]:
        """What a scan would report: every path that is not as the index says."""
        found = []
        for path, file in self.tree.items():
            row = index.entry(path)
            if row is not None and not row.entry.deleted and row.fingerprint is not None:
                known = row.fingerprint
                if known == file.fingerprint and row.entry.kind is file.kind:
                    continue
            found.append(
                LocalState(
                    path=path,
                    kind=file.kind,
                    fingerprint=file.fingerprint,
                    content=content_of(file.data) if file.kind is Kind.FILE else None,
                    target=file.data if file.kind is Kind.SYMLINK else b"",
                )
            )
        gone = [path for path, row in index.rows.items() if not row.entry.deleted and path not in self.tree]
        return found + [LocalState(path=path, kind=None) for path in gone]

    def apply(
        self, command: Apply, temporary: Callable[[bytes], bytes]
    ) -> tuple[Fingerprint | None, Fingerprint | None]:
        """Carries out an Apply; ``temporary`` gives the fetched bytes of a digest. Raises Refused, changing nothing,
        but perhaps the conflict copy, as a crash between the two would."""
        entry, path = command.entry, command.entry.path
        there = self.tree.get(path)
        known = command.known is not None and not command.known.deleted
        if known != (there is not None) or not self.has_parent(path):
            raise Refused
        if there is not None and there.kind is Kind.DIRECTORY:
            if command.fingerprint is None or command.fingerprint.inode != there.inode:
                raise Refused
            if (entry.deleted or entry.kind is not Kind.DIRECTORY) and self.inside(path):
                raise Refused
        elif there is not None and there.fingerprint != command.fingerprint:
            raise Refused
        aside = None
        if command.aside is not None:
            assert there is not None
            if command.aside in self.tree:
                raise Refused
            aside = self.put(command.aside, there.kind, there.data, there.mode, there.mtime).fingerprint
        if entry.deleted:
            self.remove(path)
            return None, aside
        data = entry.target
        if entry.content is not None:
            if command.source is Source.LOCAL:
                assert command.local is not None
                source = self.tree.get(command.local)
                if source is None or blake3(source.data).digest() != entry.content.digest:
                    raise LookupError(command.local)
                data = source.data
            elif command.source is Source.TEMPORARY:
                data = temporary(entry.content.digest)
            else:
                assert there is not None
                data = there.data
            assert blake3(data).digest() == entry.content.digest
        if command.metadata_only:
            self.chmod(path, entry.mode, entry.mtime_ns)
        else:
            self.put(path, entry.kind, data, entry.mode, entry.mtime_ns)
        return self.tree[path].fingerprint, aside
