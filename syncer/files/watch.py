"""Hints that something changed, from inotify. Events are only ever hints: a scan says what is true."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from inotify_simple import INotify, flags

from syncer.files.root import PRIVATE, Root

_MASK = (
    flags.CREATE
    | flags.DELETE
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.MODIFY
    | flags.CLOSE_WRITE
    | flags.ATTRIB
    | flags.MOVE_SELF
    | flags.ONLYDIR
    | flags.EXCL_UNLINK
)
_LOST = flags.Q_OVERFLOW | flags.UNMOUNT


class WatchBatch(NamedTuple):
    """``dirty``: directories to scan, not recursively: every new directory below a new one is in it too.

    ``overflow``: events were lost, or the folder itself was moved, removed or unmounted; scan everything.
    """

    dirty: set[bytes]
    overflow: bool


class Watcher:
    """Watches every directory of the folder except the private one.

    ``add_tree()`` first, then the first scan: what changes in between is then reported by ``read()``.
    ``degraded`` is None, or says why some directory is not watched (a limit, no permission): scan periodically then.
    Raises OSError if no inotify instance is to be had. Use it from one thread at a time.
    """

    degraded: str | None

    def __init__(self, root: Root) -> None:
        self._root = root
        self._inotify = INotify(nonblocking=True)
        self._paths: dict[int, bytes] = {}
        self._watches: dict[bytes, int] = {}
        self._ours: set[tuple[bytes, bytes]] = set()
        self.degraded = None

    def fileno(self) -> int:
        """Readable when ``read()`` has something to say; for poll or asyncio's add_reader."""
        return int(self._inotify.fileno())

    def close(self) -> None:
        self._inotify.close()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_tree(self, path: bytes = b"") -> set[bytes]:
        """Watches directory ``path`` and all below it, each before it is listed.

        Returns those that were not watched before: what happened in them until now has to be found by scanning.
        """
        if not path:
            self.degraded = None
        return set(self._add_tree(path))

    def expect_moves(self, paths: Iterable[bytes]) -> None:
        """The engine is about to move something to each of these paths, where nothing stands: the one event of that is
        no hint. To be followed by ``forget_moves`` when it is done."""
        for path in paths:
            directory, _, name = path.rpartition(b"/")
            self._ours.add((directory, name))

    def forget_moves(self) -> None:
        """All moves were made, and ``read`` was called since: whatever happens from now on is a user's."""
        self._ours.clear()

    def read(self) -> WatchBatch:
        """All hints that are waiting; never blocks.

        New directories are watched before this returns, so that a scan done after it misses nothing. After an
        overflow the whole tree has been walked for directories that are not watched yet.
        """
        dirty: set[bytes] = set()
        overflow = False
        for event in self._inotify.read(timeout=0):
            if event.mask & _LOST:
                overflow = True
            elif event.mask & flags.IGNORED:
                overflow = self._forget(event.wd) == b"" or overflow
            elif (directory := self._paths.get(event.wd)) is not None:
                if event.mask & flags.MOVE_SELF:
                    overflow = overflow or not directory
                    continue
                name = os.fsencode(event.name)
                is_move = event.mask & (flags.MOVED_TO | flags.ISDIR) == flags.MOVED_TO
                if is_move and (directory, name) in self._ours:
                    self._ours.discard((directory, name))
                    continue
                if name == PRIVATE:
                    # the marker goes with it; while the folder is open its own removal is not told
                    overflow = overflow or bool(not directory and event.mask & (flags.DELETE | flags.MOVED_FROM))
                    continue
                dirty.add(directory)
                if event.mask & flags.ISDIR and name:
                    path = directory + b"/" + name if directory else name
                    if event.mask & flags.MOVED_FROM:
                        self._drop_tree(path)
                    elif event.mask & (flags.CREATE | flags.MOVED_TO):
                        dirty.update(self._add_tree(path))
        if overflow:
            dirty.update(self.add_tree())
        return WatchBatch(dirty, overflow)

    def _add_tree(self, path: bytes) -> Iterator[bytes]:
        """Every directory is watched before it is listed: what appears in between is seen by one or the other."""
        pending = [path]
        while pending:
            directory = pending.pop()
            try:
                fd = self._root.open_directory(directory)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self._degrade(directory, error)
                continue
            try:
                if self._watch(fd, directory):
                    yield directory
                prefix = directory + b"/" if directory else b""
                with os.scandir(fd) as listing:
                    below = (os.fsencode(entry.name) for entry in listing if entry.is_dir(follow_symlinks=False))
                    pending.extend(prefix + name for name in below if name != PRIVATE)
            except OSError as error:
                self._degrade(directory, error)
            finally:
                os.close(fd)

    def _watch(self, fd: int, directory: bytes) -> bool:
        """Whether the directory was not watched before.

        Through its descriptor, so that a symlink put in its place is not followed.
        """
        try:
            watch = self._inotify.add_watch(f"/proc/self/fd/{fd}", _MASK)
        except OSError as error:
            self._degrade(directory, error)
            return True
        before = self._paths.get(watch)
        if before == directory:
            return False
        if before is not None:
            del self._watches[before]
        if (stale := self._watches.get(directory)) is not None:
            del self._paths[stale]
        self._paths[watch] = directory
        self._watches[directory] = watch
        return True

    def _drop_tree(self, path: bytes) -> None:
        """The directory has left this place. If it stays in the folder, it is watched anew where it arrives."""
        prefix = path + b"/"
        for directory in [name for name in self._watches if name == path or name.startswith(prefix)]:
            watch = self._watches.pop(directory)
            del self._paths[watch]
            try:
                self._inotify.rm_watch(watch)
            except OSError as error:
                # the kernel drops the watch by itself when the directory is removed
                if error.errno != errno.EINVAL:
                    raise

    def _forget(self, watch: int) -> bytes | None:
        """The kernel has dropped this watch, since its directory is gone. Returns which that was, if it was known."""
        directory = self._paths.pop(watch, None)
        if directory is not None:
            del self._watches[directory]
        return directory

    def _degrade(self, directory: bytes, error: OSError) -> None:
        """Remembers why events alone no longer tell of every change."""
        if error.errno == errno.ENOSPC:
            self.degraded = "the limit of inotify watches was reached: raise fs.inotify.max_user_watches"
        elif error.errno not in (errno.ENOENT, errno.ENOTDIR):
            self.degraded = f"{os.fsdecode(directory)!r} can't be watched: {error.strerror}"
