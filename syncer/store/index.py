"""The index: what this site knows of every path, and of every peer, in one SQLite database.

One process opens it (the lock is exclusive) and one thread at a time uses it. Every commit is durable when the call
returns (WAL, synchronous=FULL). Rows carry a checksum, so that a flipped bit is an error and never a decision.
"""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec

from syncer.core.ports import Progress
from syncer.core.records import Content, Entry, Fingerprint, Kind
from syncer.errors import DiskFailed, DiskFull, InputError, StoreError, SyncerError
from syncer.store.recent import Recent

SCHEMA_VERSION = 1

_PAGE = 512
"""Rows fetched in one read transaction: short, so that the WAL can always be checkpointed."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE peer (
    site TEXT PRIMARY KEY,
    epoch BLOB NOT NULL,
    received_seq INTEGER NOT NULL,
    acked_seq INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    digest BLOB,
    checksum INTEGER NOT NULL,
    fingerprint BLOB,
    record BLOB NOT NULL
);
CREATE INDEX entry_by_digest ON entry (digest) WHERE digest IS NOT NULL;
"""

MIGRATIONS: Mapping[int, Callable[[apsw.Connection], None]] = {}
"""From schema version n to n + 1, each run in one transaction with the change of the version."""

_CHILDREN_PAGE = 64
"""Fewer, where most of a page may be skipped."""

_WAL_KEPT = 64 << 20
"""Bytes to which the WAL file is cut back after a checkpoint."""

_COLUMNS = "seq, path, digest, checksum, fingerprint, record"

_BY_PATH = f"SELECT {_COLUMNS} FROM entry WHERE path = ?"

_Row = tuple[Any, ...]

_TOMBSTONE = -1
"""``size`` of a deleted entry's row: keeps the counts cheap without reading the records."""


class StoredEntry(NamedTuple):
    """An entry as the index holds it: its local sequence number and what the file system said when it was recorded."""

    seq: int
    entry: Entry
    fingerprint: Fingerprint | None


_UNKNOWN = StoredEntry(0, Entry(path=b"", kind=Kind.FILE), None)
"""Says that a path has to be looked up in the database."""


class Counts(NamedTuple):
    """Totals: ``entries`` that are not deleted, ``bytes`` in their files, ``tombstones``."""

    entries: int
    bytes: int
    tombstones: int


class Index:
    """Opens the index at ``path``, making it if there is none.

    A new one gets a random ``epoch`` (u64, never 0): peers then know that sequence numbers start afresh and that
    nothing may be taken as deleted because it is absent. ``site`` is stored at creation; another one later is refused.

    Raises:
        StoreError: the database is damaged: move it away (the hint names the files) and open a new one. Every method
            raises it for damage found later.
        InputError: it is held by another process, of another site, of a newer version, or no index at all.
        DiskFull: no space was left for a commit; nothing of it was kept.
        DiskFailed: it could not be opened, read or written for another reason.
    """

    epoch: int
    site: str

    def __init__(self, path: Path, *, site: str = "") -> None:
        self.path = path
        self._recent = Recent(_with_fingerprint)
        is_new = not path.exists()
        with self._guard():
            self._db = apsw.Connection(os.fspath(path))
            try:
                self._prepare(site)
            except BaseException:
                self._db.close()
                raise
        if is_new:
            _fsync_directory(path.parent)

    def close(self) -> None:
        """Releases the lock. What was committed is on disk already."""
        with self._guard():
            self._db.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def bind(self, folder: str) -> None:
        """This index is of the folder with that identity from now on.

        Raises StoreError if it is of another one: all that the other folder lacks would be taken as deleted.
        """
        known = self._rows("SELECT value FROM meta WHERE key = 'folder'")
        if not known:
            with self._guard(), self._db:
                self._write_meta("folder", folder)
        elif known != [(folder,)]:
            raise StoreError(
                f"the index {self.path} is of another folder than the one that is configured now",
                hint="it is rebuilt from the folder and the peers, and nothing is deleted",
            )

    # entries

    @property
    def last_seq(self) -> int:
        """The highest sequence number given so far; 0 when empty."""
        return self._last_seq

    def entry(self, path: bytes) -> StoredEntry | None:
        """What is known of ``path``, tombstones included."""
        found = self._recent.find(path, _UNKNOWN)
        if found is not _UNKNOWN:
            return found
        rows = self._rows(_BY_PATH, (path,))
        stored = self._stored(rows[0]) if rows else None
        self._recent.read(path, stored)
        return stored

    def entries(self, below: bytes = b"") -> Iterator[StoredEntry]:
        """All entries in path order (bytes), tombstones included; with ``below`` only what lies under that directory.

        Read in short transactions: an entry written during the walk may or may not be seen, others are seen once.
        """
        after, end = _range(below)
        query = f"SELECT {_COLUMNS} FROM entry WHERE path > ? AND (?2 IS NULL OR path < ?2) ORDER BY path LIMIT ?"
        while rows := self._rows(query, (after, end, _PAGE)):
            yield from map(self._stored, rows)
            after = rows[-1][1]

    def children(self, path: bytes) -> Iterator[StoredEntry]:
        """The entries directly in directory ``path`` (``b""`` for the root), in path order, tombstones included."""
        prefix, end = _range(path)
        start = prefix
        query = "SELECT path FROM entry WHERE path >= ? AND (?2 IS NULL OR path < ?2) ORDER BY path LIMIT ?"
        while rows := self._rows(query, (start, end, _CHILDREN_PAGE)):
            skipped = b""
            for (found,) in rows:
                if skipped and found.startswith(skipped):
                    continue
                name, slash, _ = found[len(prefix) :].partition(b"/")
                if slash:
                    skipped = prefix + name + slash
                elif (stored := self.entry(found)) is not None:
                    yield stored
            last = rows[-1][0]
            # '0' follows '/': in one jump over the rest of a subdirectory
            start = skipped[:-1] + b"0" if skipped and last.startswith(skipped) else last + b"\0"

    def upsert(
        self,
        items: Sequence[tuple[Entry, Fingerprint | None]],
        *,
        peer_progress: Mapping[str, Progress] | None = None,
    ) -> int:
        """Records all items and the peers' progress in one durable transaction: all or nothing, also in a crash.

        Each item gets the next sequence number, in order; of two items for one path the later stays. Returns the last
        sequence number in use (unchanged if there were no items).
        """
        stored = [StoredEntry(seq, entry, print_) for seq, (entry, print_) in enumerate(items, self._last_seq + 1)]
        rows = [(row.seq, *_pack(*row)) for row in stored]
        with self._guard(), self._db:
            counts = self._counts_after(rows)
            self._db.executemany(
                "INSERT OR REPLACE INTO entry (seq, path, size, digest, checksum, fingerprint, record)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            for site, state in (peer_progress or {}).items():
                self._write_peer(site, state)
        self._counts = counts
        self._last_seq += len(rows)
        self._recent.committed(stored)
        return self._last_seq

    def refresh_fingerprints(self, fingerprints: Mapping[bytes, Fingerprint | None]) -> None:
        """Notes that the same contents now have these fingerprints, in one durable transaction. No new sequence
        numbers: peers have nothing to learn."""
        rows = [(None if found is None else _encode(found), path) for path, found in fingerprints.items()]
        with self._guard(), self._db:
            self._db.executemany("UPDATE entry SET fingerprint = ? WHERE path = ?", rows)
        for path, found in fingerprints.items():
            self._recent.refreshed(path, found)

    def since(self, seq: int, limit: int) -> list[tuple[int, Entry]]:
        """Up to ``limit`` entries with sequence numbers above ``seq``, in order: what a peer at ``seq`` must learn."""
        recent = self._recent.since(seq, limit)
        if recent is None:
            recent = [
                self._stored(row)
                for row in self._rows(f"SELECT {_COLUMNS} FROM entry WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
            ]
        return [(stored.seq, stored.entry) for stored in recent]

    def by_digest(self, digest: bytes) -> list[bytes]:
        """Paths of the files (not deleted) whose content has this BLAKE3 digest, in path order."""
        return [path for (path,) in self._rows("SELECT path FROM entry WHERE digest = ? ORDER BY path", (digest,))]

    def counts(self) -> Counts:
        """Totals over all entries; kept up to date with each commit, so free to ask."""
        return self._counts

    # peers

    def peer(self, site: str) -> Progress:
        """Progress with ``site``; all zero for a site never heard of."""
        rows = self._rows("SELECT epoch, received_seq, acked_seq FROM peer WHERE site = ?", (site,))
        return Progress(int.from_bytes(rows[0][0]), *rows[0][1:]) if rows else Progress()

    def set_peer(self, site: str, state: Progress) -> None:
        """Records progress with ``site``, durably."""
        with self._guard():
            self._write_peer(site, state)

    def renew_epoch(self) -> int:
        """Gives this index a new epoch, and forgets what peers have acknowledged of the old one.

        For an index that was restored from a backup: a peer holds a higher sequence number of this epoch than
        ``last_seq``, so numbers would be given twice.
        """
        epoch = _new_epoch()
        with self._guard(), self._db:
            self._write_meta("epoch", epoch.to_bytes(8))
            self._db.execute("UPDATE peer SET acked_seq = 0")
        self.epoch = epoch
        return epoch

    # inside

    def _prepare(self, site: str) -> None:
        database = self._db
        database.setbusytimeout(0)
        # exclusive before WAL: the WAL's index then lives in memory and no second process can get in
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")
        verdict = self._value("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise self._damaged(verdict)
        self._migrate(site)
        meta = dict(self._rows("SELECT key, value FROM meta"))
        try:
            self.epoch, self.site = int.from_bytes(meta["epoch"]), meta["site"]
        except (KeyError, TypeError) as error:
            raise self._damaged(f"its identity is missing: {error}") from error
        if site and site != self.site:
            raise InputError(
                f"the index {self.path} belongs to site {self.site!r}, not to {site!r}",
                hint="each site needs its own home: check which one this engine was started in",
            )
        self._last_seq: int = self._value("SELECT coalesce(max(seq), 0) FROM entry")
        (totals,) = self._rows(
            "SELECT count(*) FILTER (WHERE size >= 0), coalesce(sum(size) FILTER (WHERE size >= 0), 0),"
            " count(*) FILTER (WHERE size < 0) FROM entry"
        )
        self._counts = Counts(*totals)

    def _migrate(self, site: str) -> None:
        database = self._db
        version = self._value("PRAGMA user_version")
        if version > SCHEMA_VERSION:
            raise InputError(
                f"the index {self.path} was written by a newer syncer (schema {version}, here {SCHEMA_VERSION})",
                hint="start the newer syncer again, or move the file away to have it rebuilt",
            )
        if version == 0:
            if self._value("SELECT count(*) FROM sqlite_schema"):
                raise InputError(f"{self.path} is another program's database", hint="choose another home")
            with database:
                database.execute(_SCHEMA)
                self._write_meta("epoch", _new_epoch().to_bytes(8))
                self._write_meta("site", site)
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            return
        for step in range(version, SCHEMA_VERSION):
            with database:
                MIGRATIONS[step](database)
                database.execute(f"PRAGMA user_version = {step + 1}")

    def _counts_after(self, rows: Sequence[_Row]) -> Counts:
        entries, size_sum, tombstones = self._counts
        sizes: dict[bytes, int] = {}
        for _, path, size, *_ in rows:
            before = sizes.get(path)
            if before is None:
                before = self._size_before(path)
            for value, sign in ((before, -1), (size, 1)):
                if value == _TOMBSTONE:
                    tombstones += sign
                elif value is not None:
                    entries += sign
                    size_sum += sign * value
            sizes[path] = size
        return Counts(entries, size_sum, tombstones)

    def _size_before(self, path: bytes) -> int | None:
        """As in the row that is replaced; None if there is none."""
        found = self._recent.find(path, _UNKNOWN)
        if found is not _UNKNOWN:
            return None if found is None else _size(found.entry)
        return next((size for (size,) in self._db.execute("SELECT size FROM entry WHERE path = ?", (path,))), None)

    def _stored(self, row: tuple[Any, ...]) -> StoredEntry:
        seq, path, digest, checksum, fingerprint, record = row
        if checksum != _checksum(seq, path, digest, record):
            raise self._damaged(f"the checksum of row {seq} is wrong")
        try:
            return StoredEntry(
                seq,
                _unpack(path, digest, record),
                None if fingerprint is None else _decode_fingerprint(fingerprint),
            )
        except msgspec.DecodeError as error:
            raise self._damaged(f"row {seq} cannot be read: {error}") from error

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        # Asked too often for a context manager.
        try:
            return list(self._db.execute(sql, values))
        except apsw.Error as error:
            raise self._refusal(error) from error

    def _value(self, sql: str) -> Any:
        ((value,),) = self._rows(sql)
        return value

    def _write_peer(self, site: str, state: Progress) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO peer (site, epoch, received_seq, acked_seq) VALUES (?, ?, ?, ?)",
            (site, state.epoch.to_bytes(8), state.received_seq, state.acked_seq),
        )

    def _write_meta(self, key: str, value: bytes | str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def _damaged(self, detail: str) -> StoreError:
        return StoreError(
            f"the index {self.path} is damaged: {detail}",
            hint=f"stop the engine and move {self.path} and its -wal file away; it is then rebuilt from the folder"
            " and the peers, and nothing is deleted",
        )

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except apsw.Error as error:
            raise self._refusal(error) from error

    def _refusal(self, error: apsw.Error) -> SyncerError:
        if isinstance(error, apsw.FullError):
            return DiskFull(
                f"no space is left for the index {self.path}",
                hint="free space on its file system; syncing then goes on",
            )
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            return self._damaged(str(error))
        if isinstance(error, apsw.BusyError):
            return InputError(
                f"the index {self.path} is in use by another process",
                hint="one engine at a time may run in a home: stop the other one first",
            )
        return DiskFailed(
            f"the index {self.path} could not be used: {error}", hint="see its directory's permissions and its disk"
        )


def _pack(seq: int, entry: Entry, fingerprint: Fingerprint | None) -> tuple[Any, ...]:
    """The row of an entry, without its sequence number. What other columns hold is left out of the record."""
    content = entry.content
    digest = None
    size = _size(entry)
    if content is not None and not entry.deleted:
        digest = content.digest
        blocks = b"" if content.blocks == digest else content.blocks
        content = Content(size, b"", content.block_size, blocks)
    record = _encode(msgspec.structs.replace(entry, path=b"", content=content))
    return (
        entry.path,
        size,
        digest,
        _checksum(seq, entry.path, digest, record),
        None if fingerprint is None else _encode(fingerprint),
        record,
    )


def _size(entry: Entry) -> int:
    """The column ``size``."""
    if entry.deleted:
        return _TOMBSTONE
    return entry.content.size if entry.content is not None else 0


def _with_fingerprint(row: StoredEntry, fingerprint: Fingerprint | None) -> StoredEntry:
    return row._replace(fingerprint=fingerprint)


def _unpack(path: bytes, digest: bytes | None, record: bytes) -> Entry:
    entry = _decode_entry(record)
    content = entry.content
    if content is not None and digest is not None:
        # a file of one block has its digest as the block list; an empty one has none
        blocks = content.blocks or (digest if content.size else b"")
        content = Content(content.size, digest, content.block_size, blocks)
    return msgspec.structs.replace(entry, path=path, content=content)


def _range(directory: bytes) -> tuple[bytes, bytes | None]:
    """All paths below ``directory`` are above the first and below the second (None: no bound)."""
    return (directory + b"/", directory + b"0") if directory else (b"", None)


def _checksum(seq: int, path: bytes, digest: bytes | None, record: bytes) -> int:
    return zlib.crc32(record, zlib.crc32(b"%d\0%b\0%b" % (seq, path, digest or b"")))


def _new_epoch() -> int:
    return secrets.randbelow(2**64 - 1) + 1


def _fsync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_encode = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(Entry).decode
_decode_fingerprint = msgspec.msgpack.Decoder(Fingerprint).decode
