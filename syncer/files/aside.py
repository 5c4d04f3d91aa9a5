"""Moving things out of the user's tree so that none can be lost: not to a racing write, not to a crash.

What leaves the tree goes to ``.syncer/tmp`` under an ``aside-`` name. Before it does, a marker beside it (a symlink,
since making one is a single step on disk) says where it belongs and what it was expected to be. It is dropped only
once it was seen to be that. After a crash ``recover`` reads the markers and puts back what must not go.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from syncer.core.records import Fingerprint
from syncer.errors import DestinationChanged
from syncer.files.rename import exchange, rename_new
from syncer.files.root import DIRECTORY_FLAGS, PRIVATE, TEMPORARY, Root, fingerprint_of
from syncer.files.temp_store import remove_any
from syncer.files.writers import has_writers

_ASIDE = b"aside-"
_MARK = b".mark"
_RESCUED = b".rescued-"
_NAME_MAX = 255


class _Mark(NamedTuple):
    """``incoming``: inode of the new thing that takes the old one's place; 0 where the old one is to go for good.

    ``path``: where the old one belongs if it must not be dropped. ``keep``: it must not, whatever it is.
    """

    keep: bool
    incoming: int
    device: int
    inode: int
    size: int
    mtime_ns: int
    path: bytes

    def pack(self) -> bytes:
        return b"%d:%d:%d:%d:%d:%d:" % self[:6] + self.path

    @classmethod
    def unpack(cls, packed: bytes) -> _Mark:
        *numbers, path = packed.split(b":", 6)
        keep, incoming, device, inode, size, mtime_ns = map(int, numbers)
        return cls(bool(keep), incoming, device, inode, size, mtime_ns, path)


def is_expected(status: os.stat_result, expected: Fingerprint, *, moved: bool = False) -> bool:
    """Whether this is still what was recorded. Of a directory only identity and mode count, since its size and times
    follow its children. ``moved``: we have renamed it since, which sets the change time."""
    found = fingerprint_of(status)
    same = (found.device, found.inode, found.mode) == (expected.device, expected.inode, expected.mode)
    if stat.S_ISDIR(status.st_mode):
        return same
    same_data = (found.size, found.mtime_ns) == (expected.size, expected.mtime_ns)
    return same and same_data and (moved or found.ctime_ns == expected.ctime_ns)


class AsideStore:
    """The part of the temporary directory that holds what was moved out of the tree."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._fd = root.temporary_fd

    def replace(
        self, temp: bytes, parent: int, name: bytes, path: bytes, expected: Fingerprint, keep_as: bytes | None
    ) -> None:
        """Exchanges ``temp`` for what stands at ``name`` in ``parent``.

        If that was ``expected``, it is dropped, or moved to the free path ``keep_as``.

        Raises DestinationChanged otherwise, with the tree and ``temp`` as they were.
        """
        self._check_in_place(parent, name, path, expected, may_be_full=keep_as is not None)
        incoming = os.stat(temp, dir_fd=self._fd, follow_symlinks=False).st_ino
        with self._marked(incoming, keep_as or path, expected, keep=keep_as is not None) as aside:
            os.rename(temp, aside, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            try:
                exchange(self._fd, aside, parent, name)
            except OSError:
                os.rename(aside, temp, src_dir_fd=self._fd, dst_dir_fd=self._fd)
                raise
            try:
                is_settled = self._is_still(aside, expected) and (
                    self._keep(aside, keep_as) if keep_as else self._drop(aside)
                )
            except OSError:  # no room for the copy, say
                self._undo(aside, temp, incoming, parent, name, path)
                raise
            if not is_settled:
                self._undo(aside, temp, incoming, parent, name, path)
                raise _changed(path)

    def remove(self, parent: int, name: bytes, path: bytes, expected: Fingerprint) -> None:
        """Moves what stands at ``name`` in ``parent`` out and drops it if it was ``expected``.

        Raises DestinationChanged otherwise, with the tree as it was.
        """
        self._check_in_place(parent, name, path, expected)
        with self._marked(0, path, expected, keep=False) as aside:
            os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=self._fd)
            try:
                is_settled = self._is_still(aside, expected) and self._drop(aside)
            except OSError:
                self._put_back(aside, path)
                raise
            if not is_settled:
                self._put_back(aside, path)
                raise _changed(path)

    def recover(self) -> list[bytes]:
        """Finishes or undoes what a crash interrupted. Returns the paths at which something was put back."""
        names = self._names()
        put_back = []
        for aside in sorted(name for name in names if name.startswith(_ASIDE) and not name.endswith(_MARK)):
            mark = self._read_mark(aside)
            if not self._is_superfluous(aside, mark):
                put_back.append(self._put_back(aside, mark.path if mark else b"unknown"))
        for name in self._names():
            if name.startswith(_ASIDE) and name.endswith(_MARK):
                os.unlink(name, dir_fd=self._fd)
        return put_back

    @contextmanager
    def _marked(self, incoming: int, path: bytes, expected: Fingerprint, *, keep: bool) -> Iterator[bytes]:
        """Yields the name to move to. The marker goes when nothing is left under that name."""
        aside = _ASIDE + secrets.token_hex(8).encode()
        mark = _Mark(keep, incoming, expected.device, expected.inode, expected.size, expected.mtime_ns, path)
        os.symlink(mark.pack(), aside + _MARK, dir_fd=self._fd)
        try:
            yield aside
        finally:
            try:
                os.stat(aside, dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                os.unlink(aside + _MARK, dir_fd=self._fd)

    def _undo(self, aside: bytes, temp: bytes, incoming: int, parent: int, name: bytes, path: bytes) -> None:
        try:
            exchange(self._fd, aside, parent, name)
        except FileNotFoundError:
            self._put_back(aside, path)
            return
        if os.stat(aside, dir_fd=self._fd, follow_symlinks=False).st_ino == incoming:
            os.rename(aside, temp, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            return
        # somebody replaced ours in that moment: what they put there stays, and what was there before is kept too
        exchange(self._fd, aside, parent, name)
        self._put_back(aside, path)

    def _check_in_place(
        self, parent: int, name: bytes, path: bytes, expected: Fingerprint, *, may_be_full: bool = False
    ) -> None:
        """Refuses early, so that a reader does not see a change that is taken back at once."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not is_expected(status, expected):
            raise _changed(path)
        if stat.S_ISREG(status.st_mode) and has_writers(parent, name):
            raise DestinationChanged(f"{os.fsdecode(path)!r} is open for writing")
        if stat.S_ISDIR(status.st_mode) and not may_be_full and not _is_empty(parent, name):
            raise DestinationChanged(f"the directory {os.fsdecode(path)!r} is not empty")

    def _is_still(self, aside: bytes, expected: Fingerprint) -> bool:
        """Whether what was moved out is as expected, and nobody is about to change it."""
        status = os.stat(aside, dir_fd=self._fd, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            # writers first: one that has just closed the file shows in its status
            if has_writers(self._fd, aside):
                return False
            status = os.stat(aside, dir_fd=self._fd, follow_symlinks=False)
        return is_expected(status, expected, moved=True)

    def _keep(self, aside: bytes, path: bytes) -> bool:
        try:
            with self._root.parent(path) as (parent, name):
                rename_new(self._fd, aside, parent, name)
        except (FileExistsError, FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _drop(self, aside: bytes) -> bool:
        """Whether it is gone; a directory that is not empty after all stays."""
        try:
            remove_any(self._fd, aside)
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:
                return False
            raise
        return True

    def _is_superfluous(self, aside: bytes, mark: _Mark | None) -> bool:
        """Whether this is ours, or the version that a finished exchange was meant to replace; if so it is gone now."""
        if mark is None:
            return False
        status = os.stat(aside, dir_fd=self._fd, follow_symlinks=False)
        found = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        known = (mark.device, mark.inode, mark.size, mark.mtime_ns)
        is_replaced = found == known or (stat.S_ISDIR(status.st_mode) and found[:2] == known[:2])
        is_ours = status.st_ino == mark.incoming
        return (is_ours or (is_replaced and bool(mark.incoming) and not mark.keep)) and self._drop(aside)

    def _put_back(self, aside: bytes, path: bytes) -> bytes:
        """Moves it to ``path``, or beside it if something stands there, or as near above as there is a directory."""
        directory, _, name = path.rpartition(b"/")
        names = [name]
        while True:
            token = secrets.token_hex(4).encode()
            names.append(name[: _NAME_MAX - len(_RESCUED) - len(token)] + _RESCUED + token)
            for candidate in names:
                target = directory + b"/" + candidate if directory else candidate
                try:
                    with self._root.parent(target) as (parent, last):
                        rename_new(self._fd, aside, parent, last)
                except FileExistsError:
                    continue
                except (FileNotFoundError, NotADirectoryError):
                    if not directory:
                        raise
                    directory = directory.rpartition(b"/")[0]
                    break
                return target
            names.clear()

    def _read_mark(self, aside: bytes) -> _Mark | None:
        try:
            return _Mark.unpack(os.readlink(aside + _MARK, dir_fd=self._fd))
        except FileNotFoundError:
            return None

    def _names(self) -> list[bytes]:
        return self._root.names_in(PRIVATE + b"/" + TEMPORARY)


def _is_empty(parent: int, name: bytes) -> bool:
    fd = os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
    try:
        with os.scandir(fd) as listing:
            return next(listing, None) is None
    finally:
        os.close(fd)


def _changed(path: bytes) -> DestinationChanged:
    return DestinationChanged(f"{os.fsdecode(path)!r} is not what the index knows")
