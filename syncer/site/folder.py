"""The folder's side of the coordinator: scans, hashing and applying in worker threads, results on the event loop."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple, TypeVar

import structlog

from syncer.core.commands import Apply, Source
from syncer.core.diff import LocalState
from syncer.core.records import Content, Entry, Fingerprint, Kind
from syncer.errors import DestinationChanged, DiskFailed, DiskFull, SourceChanged, SyncerError, Unreadable
from syncer.files.chunk import is_settled, read_contents, verify_blocks
from syncer.files.disk import changing
from syncer.files.install import Installer
from syncer.files.root import Root
from syncer.files.scan import Observed, Problem, observe, scan
from syncer.files.temp_store import TempStore, partial_name

HASH_THREADS = 2
BATCH_FILES = 256
BATCH_BYTES = 64 << 20
APPLY_BATCH = 256
FUTURE_NS = 1_000_000_000

Result = TypeVar("Result")

log = structlog.get_logger("folder")


class Applied(NamedTuple):
    """What became of one Apply. ``problem``: the error that stopped it."""

    command: Apply
    fingerprint: Fingerprint | None
    problem: SyncerError | None


class Scanned(NamedTuple):
    """What stands in a part of the folder. ``unknown``: paths at and below which nothing may be inferred."""

    found: dict[bytes, Observed]
    unknown: tuple[bytes, ...]

    def covers(self, path: bytes) -> bool:
        """Whether the absence of ``path`` from ``found`` means something."""
        return not any(path == hole or not hole or path.startswith(hole + b"/") for hole in self.unknown)


class Folder:
    """An open folder. Its coroutines run the work in threads; only ``close`` waits for them."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.temporary = TempStore(root)
        self._installer = Installer(root)
        self._scanning = ThreadPoolExecutor(1, "scan")
        self._hashing = ThreadPoolExecutor(HASH_THREADS, "hash")
        self._applying = ThreadPoolExecutor(1, "apply")

    def recover(self) -> None:
        """Put back what a crash left outside the tree; before the first scan."""
        for path in self._installer.recover():
            log.info("put back after a crash", path=_shown(path))

    def close(self) -> None:
        for pool in (self._scanning, self._hashing, self._applying):
            pool.shutdown(cancel_futures=True)

    # scanning

    async def scan(self, places: list[tuple[bytes, bool]]) -> Scanned:
        """What stands in these (directory, recursive) places. Raises RootMissing."""
        return await self._in(self._scanning, lambda: self._scan(places))

    def _scan(self, places: list[tuple[bytes, bool]]) -> Scanned:
        found, unknown = {}, []
        for subtree, recursive in places:
            for item in scan(self.root, subtree, recursive):
                if isinstance(item, Problem):
                    log.warning("not synced", path=_shown(item.path), reason=item.reason)
                    unknown.append(item.path)
                else:
                    found[item.path] = item
        return Scanned(found, tuple(unknown))

    async def absent(self, paths: list[bytes]) -> list[bytes]:
        """Those of ``paths`` at which nothing stands. Raises RootMissing."""

        def look() -> list[bytes]:
            gone = [path for path in paths if observe(self.root, path) is None]
            self.root.check()
            return gone

        return await self._in(self._scanning, look)

    # hashing

    async def read(self, observed: list[Observed]) -> tuple[list[LocalState], list[bytes]]:
        """The states of these paths, and those that have to be looked at again soon: they changed meanwhile, or so
        recently that another write could leave them looking the same."""
        batches = [self._in(self._hashing, lambda part=part: self._read(part)) for part in _batches(observed)]  # type: ignore[misc]
        states: list[LocalState] = []
        again: list[bytes] = []
        for done in await asyncio.gather(*batches):
            states += done[0]
            again += done[1]
        return states, again

    def _read(self, batch: list[Observed]) -> tuple[list[LocalState], list[bytes]]:
        states, again = [], []
        now = time.time_ns()
        files = [(path, fingerprint) for path, kind, fingerprint, _ in batch if kind is Kind.FILE]
        contents = iter(read_contents(self.root, files))
        for path, kind, fingerprint, target in batch:
            content, settled = None, True
            if kind is Kind.FILE:
                settled = is_settled(fingerprint, now) or fingerprint.ctime_ns > now + FUTURE_NS
                read = next(contents)
                if isinstance(read, Unreadable):
                    log.warning("not synced", path=_shown(path), reason=read.message)
                    continue
                if isinstance(read, SourceChanged):
                    again.append(path)
                    continue
                content = read
                if not settled:
                    again.append(path)
            states.append(
                LocalState(
                    path=path, kind=kind, fingerprint=fingerprint, content=content, target=target, settled=settled
                )
            )
        return states, again

    # fetching

    async def have(self, entry: Entry) -> list[int] | None:
        """Indices of the blocks that an earlier attempt left; None when all of the content is here, durably.

        Raises DiskFull and DiskFailed.
        """
        assert entry.content is not None
        content = entry.content

        def look() -> list[int] | None:
            with changing(entry.path):
                return self._have(entry.path, content)

        return await self._in(self._hashing, look)

    def has_partial(self, entry: Entry) -> bool:
        """Whether ``have`` has to be asked."""
        assert entry.content is not None
        if not entry.content.size:
            return True
        name = partial_name(entry.path, entry.content.digest)
        try:
            os.stat(name, dir_fd=self.root.temporary_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _have(self, path: bytes, content: Content) -> list[int] | None:
        name = partial_name(path, content.digest)
        if not content.size:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=self.root.temporary_fd))
            return None
        fd = self.temporary.open_partial(name)
        if fd is None:
            return []
        try:
            have = verify_blocks(fd, content)
            if len(have) * content.block_size < content.size or os.fstat(fd).st_size != content.size:
                return have
            os.fsync(fd)
            return None
        finally:
            os.close(fd)

    async def clean(self) -> None:
        """Drop partial files. A mover that begins to write one at this moment has to start over."""
        await self._in(self._applying, self.temporary.clean)

    def temporary_path(self, entry: Entry) -> bytes:
        """Where a mover writes the entry's content."""
        assert entry.content is not None
        return self.temporary.absolute(partial_name(entry.path, entry.content.digest))

    # applying

    async def apply(self, commands: list[Apply]) -> list[Applied]:
        """Carry out the commands in order; when this returns, what was applied is durable."""
        return await self._in(self._applying, lambda: self._apply(commands))

    def _apply(self, commands: list[Apply]) -> list[Applied]:
        results: list[Applied] = []
        for is_new, run in groupby(commands, installs_new):
            if is_new:
                results += self._install_new(list(run))
                continue
            for command in run:
                try:
                    results.append(Applied(command, self._apply_one(command), None))
                except SyncerError as error:
                    results.append(Applied(command, None, error))
        try:
            self._installer.flush()
        except (DiskFailed, DiskFull) as error:
            results = [Applied(result.command, None, error) for result in results]
        return results

    def _install_new(self, commands: list[Apply]) -> list[Applied]:
        """Runs of new files, the bulk of all that is ever applied."""
        files = []
        for command in commands:
            content = command.entry.content
            assert content is not None
            files.append((partial_name(command.entry.path, content.digest), command.entry))
        return [
            Applied(command, None, outcome) if isinstance(outcome, SyncerError) else Applied(command, outcome, None)
            for command, outcome in zip(commands, self._installer.install_new(files), strict=True)
        ]

    def _apply_one(self, command: Apply) -> Fingerprint | None:
        entry, expected = command.entry, command.fingerprint
        stands = command.known is not None and not command.known.deleted
        if stands and expected is None:
            raise DestinationChanged(f"{_shown(entry.path)} was not read since it was written")
        if entry.deleted:
            assert command.known is not None and expected is not None
            self._installer.remove(entry.path, command.known.kind, expected)
            return None
        if not stands:
            expected = None
        if command.metadata_only and entry.kind is not Kind.SYMLINK:
            assert expected is not None
            return self._installer.set_metadata(entry, expected)
        if entry.kind is Kind.DIRECTORY:
            return self._installer.make_directory(entry, expected, keep_as=command.aside)
        if entry.kind is Kind.SYMLINK:
            return self._installer.make_symlink(entry, expected, keep_as=command.aside)
        assert entry.content is not None
        name = partial_name(entry.path, entry.content.digest)
        if command.source is Source.LOCAL:
            assert command.local is not None
            self._installer.copy_local(command.local, entry.content, name)
        return self._installer.install_file(name, entry, expected, keep_as=command.aside)

    @staticmethod
    def _in(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Awaitable[Result]:
        return asyncio.get_running_loop().run_in_executor(pool, work)


def installs_new(command: Apply) -> bool:
    """Whether a fetched file goes where nothing stands."""
    stands = command.known is not None and not command.known.deleted
    return command.source is Source.TEMPORARY and command.entry.kind is Kind.FILE and not stands and not command.aside


def _batches(observed: Iterable[Observed]) -> Iterator[list[Observed]]:
    batch: list[Observed] = []
    size = 0
    for item in observed:
        batch.append(item)
        size += item.fingerprint.size
        if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _shown(path: bytes) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
