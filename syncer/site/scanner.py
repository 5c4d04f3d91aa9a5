"""Keeps the index true to the folder: turns hints into scans, scans into states, states into the replica's events."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import structlog

from syncer.core.diff import LocalState
from syncer.core.records import Kind
from syncer.core.replica import Replica
from syncer.files.scan import Observed
from syncer.files.watch import Watcher
from syncer.site.folder import Folder, Scanned
from syncer.store.index import Index, StoredEntry

GATHER_S = 0.03
REST_FACTOR = 3.0
LONGEST_REST_S = 2.0
SETTLE_S = 0.04
FULL_SCAN_S = 600.0
DEGRADED_SCAN_S = 15.0
CHUNK = 1000
FIRST_CHUNK = 100

log = structlog.get_logger("scanner")


class Scanner:
    """``changed`` is called after every batch of events to the replica."""

    def __init__(self, folder: Folder, watcher: Watcher, index: Index, replica: Replica, changed: Callable[[], None]):
        self._folder = folder
        self._watcher = watcher
        self._index = index
        self._replica = replica
        self._changed = changed
        self._directories: set[bytes] = set()
        self._trees: set[bytes] = set()
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._later: set[bytes] = set()
        self._busy = False
        self._rounds_started = 0
        self._rounds_done = 0
        self._round_over = asyncio.Condition()
        self._last_full = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether no hint waits and no scan runs."""
        return not (self._busy or self._directories or self._trees or self._later)

    def watch(self) -> None:
        """Take hints from the watcher from now on."""
        asyncio.get_running_loop().add_reader(self._watcher.fileno(), self._read_hints)

    def unwatch(self) -> None:
        asyncio.get_running_loop().remove_reader(self._watcher.fileno())

    def _read_hints(self) -> None:
        batch = self._watcher.read()
        if batch.overflow:
            log.warning("lost events, scanning everything")
            self._trees.add(b"")
        self._directories |= batch.dirty
        if self._directories or self._trees:
            self._wake.set()

    @contextlib.contextmanager
    def installing(self, paths: list[bytes]) -> Iterator[None]:
        """Around our own moves of new files to these paths: they are no reason to scan. One at a time."""
        self._watcher.expect_moves(paths)
        try:
            yield
        finally:
            self._read_hints()
            self._watcher.forget_moves()

    def look(self, path: bytes) -> None:
        """Scan this path, all below it, and its directory's children."""
        self._trees.add(path)
        if path:
            self._directories.add(path.rpartition(b"/")[0])
        self._wake.set()

    def look_later(self, path: bytes) -> None:
        """Look at this path's directory once its time stamp has settled."""
        directory = path.rpartition(b"/")[0]
        if directory not in self._later:
            self._later.add(directory)
            asyncio.get_running_loop().call_later(SETTLE_S, self._look_now, directory)

    def _look_now(self, directory: bytes) -> None:
        self._later.discard(directory)
        self._directories.add(directory)
        self._wake.set()

    async def full_scan(self) -> None:
        """Return when a scan of everything that began after this call was reported. Raises RootMissing."""
        self._read_hints()
        self._trees.add(b"")
        self._wake.set()
        self._urgent.set()
        wanted = self._rounds_started + 1
        async with self._round_over:
            await self._round_over.wait_for(lambda: self._rounds_done >= wanted)

    async def run(self) -> None:
        """Scan whatever is hinted at, for ever. Raises RootMissing."""
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), self._until_full_scan())
            except TimeoutError:
                self._trees.add(b"")
            await self._rest(GATHER_S)
            self._wake.clear()
            self._urgent.clear()
            began = time.monotonic()
            await self._round()
            await self._rest(min(REST_FACTOR * (time.monotonic() - began), LONGEST_REST_S))

    async def _rest(self, duration: float) -> None:
        """Let hints gather; cut short when somebody waits for a scan."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._urgent.wait(), duration)

    def _until_full_scan(self) -> float:
        period = DEGRADED_SCAN_S if self._watcher.degraded else FULL_SCAN_S
        return max(0.0, self._last_full + period - time.monotonic())

    async def _round(self) -> None:
        trees, self._trees = self._trees, set()
        directories, self._directories = self._directories, set()
        if b"" in trees:
            trees, directories = {b""}, set()
            self._last_full = time.monotonic()
        self._rounds_started += 1
        self._busy = True
        try:
            if trees or directories:
                await self._scan([(path, True) for path in trees] + [(path, False) for path in directories])
        finally:
            self._busy = False
        async with self._round_over:
            self._rounds_done = self._rounds_started
            self._round_over.notify_all()

    async def _scan(self, places: list[tuple[bytes, bool]]) -> None:
        mark = self._replica.mark()
        try:
            scanned = await self._folder.scan(places)
            changed, missing = await self._compare(places, scanned)
            if missing:
                gone = await self._folder.absent(sorted(missing))
                self._report([LocalState(path=path, kind=None) for path in gone], mark)
            for part in _in_chunks(changed):
                states, again = await self._folder.read(part)
                for path in again:
                    self.look_later(path)
                self._report(states, mark)
        finally:
            self._replica.release(mark)

    def _report(self, states: list[LocalState], mark: int) -> None:
        if states:
            self._replica.observed(states, mark)
            self._changed()

    async def _compare(self, places: list[tuple[bytes, bool]], scanned: Scanned) -> tuple[list[Observed], set[bytes]]:
        """What stands otherwise than the index says, parents first; and what the index has and the scan has not."""
        fresh = dict(scanned.found)
        changed: list[Observed] = []
        missing: set[bytes] = set()
        for number, stored in enumerate(self._known(places, scanned)):
            if number % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
            entry = stored.entry
            observed = fresh.get(entry.path)
            if entry.deleted:
                continue
            if observed is None:
                if entry.path not in scanned.found and scanned.covers(entry.path):
                    missing.add(entry.path)
                continue
            del fresh[entry.path]
            if not _is_as_known(stored, observed):
                changed.append(observed)
        changed += fresh.values()
        changed.sort(key=lambda item: item.path)
        return changed, missing

    def _known(self, places: list[tuple[bytes, bool]], scanned: Scanned) -> Iterator[StoredEntry]:
        for path, recursive in places:
            if path and (stored := self._index.entry(path)) is not None:
                yield stored
            if recursive or (path and path not in scanned.found):
                yield from self._index.entries(path)
                continue
            for stored in self._index.children(path):
                yield stored
                entry = stored.entry
                observed = scanned.found.get(entry.path)
                was_directory = entry.kind is Kind.DIRECTORY and not entry.deleted
                if was_directory and (observed is None or observed.kind is not Kind.DIRECTORY):
                    yield from self._index.entries(entry.path)


def _in_chunks(changed: list[Observed]) -> Iterator[list[Observed]]:
    """Small ones first: peers hear of the first files while the rest is hashed."""
    start, size = 0, FIRST_CHUNK
    while start < len(changed):
        yield changed[start : start + size]
        start, size = start + size, min(2 * size, CHUNK)


def _is_as_known(stored: StoredEntry, observed: Observed) -> bool:
    known, now = stored.fingerprint, observed.fingerprint
    if known is None or stored.entry.kind is not observed.kind:
        return False
    if observed.kind is Kind.DIRECTORY:
        return (known.device, known.inode, known.mode) == (now.device, now.inode, now.mode)
    return known == now
