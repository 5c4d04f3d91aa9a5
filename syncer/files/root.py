"""The folder: its marker, its temporary directory, and the only way to reach a path inside it.

Every path is raw bytes, relative, '/'-separated. Parents are opened one by one with O_NOFOLLOW from the folder's own
descriptor, so a directory that is swapped for a symlink in mid-operation never leads outside.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncer.core.records import Fingerprint, Kind
from syncer.errors import InputError, RootMissing, WireError

PRIVATE = b".syncer"
"""Name that is never synced, wherever it stands: the engine's own directory in a folder's root."""

MARKER = b"marker"
TEMPORARY = b"tmp"

PATH_MAX = 3840
"""Bytes in the longest path that is synced: with the folder's own path before it the kernel still takes it whole."""

TIME_LIMIT_NS = 1 << 63
"""Some file systems hold times beyond it; no file with such a one is synced."""

_UPWARD = frozenset((b"", b".", b".."))

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}


def is_valid_path(path: bytes) -> bool:
    """Whether ``path`` may name an entry: relative, no empty, '.', '..' or '.syncer' component, no NUL.

    Ask this of every path that a peer sends.
    """
    return (
        0 < len(path) <= PATH_MAX
        and b"\0" not in path
        and all(0 < len(part) <= 255 and part not in (b".", b"..", PRIVATE) for part in path.split(b"/"))
    )


def fingerprint_of(status: os.stat_result) -> Fingerprint:
    """``mode`` is permission bits only, as in an Entry (0 for symlinks). A time that 64 bits do not hold is cut."""
    mode = 0 if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode)
    mtime_ns = max(-TIME_LIMIT_NS, min(status.st_mtime_ns, TIME_LIMIT_NS - 1))
    return Fingerprint(status.st_dev, status.st_ino, status.st_size, mtime_ns, status.st_ctime_ns, mode)


def fingerprint_of_raw(status: tuple[int, int, int, int, int, int]) -> Fingerprint:
    """As ``fingerprint_of``, of (device, inode, size, mtime_ns, ctime_ns, st_mode)."""
    device, inode, size, mtime_ns, ctime_ns, mode = status
    mtime_ns = max(-TIME_LIMIT_NS, min(mtime_ns, TIME_LIMIT_NS - 1))
    return Fingerprint(device, inode, size, mtime_ns, ctime_ns, 0 if stat.S_ISLNK(mode) else stat.S_IMODE(mode))


def kind_of(status: os.stat_result) -> Kind | None:
    """None for what is never synced: sockets, FIFOs, devices."""
    return _KINDS.get(stat.S_IFMT(status.st_mode))


class Root:
    """The synced folder at ``folder``. Call ``create()`` (at init) or ``open()`` first; both return self.

    After that: ``fd`` is the folder, ``temporary_fd`` is ``.syncer/tmp``, ``id`` is the folder's identity from the
    marker. Safe to use from several threads.
    """

    fd: int
    temporary_fd: int
    id: str

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.abspath(folder))  # noqa: PTH100  (resolve() would follow what may be swapped)

    def create(self) -> Root:
        """Makes the folder (if missing), its marker and its temporary directory, durably, and opens it.

        A folder that has a marker keeps it. Raises InputError where a folder can't be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            private = self.folder / os.fsdecode(PRIVATE)
            private.mkdir(mode=0o700, exist_ok=True)
            (private / os.fsdecode(TEMPORARY)).mkdir(mode=0o700, exist_ok=True)
            marker = private / os.fsdecode(MARKER)
            if not marker.exists():
                _write_durably(marker, f"{secrets.token_hex(16)}\n".encode())
                for made in (private, self.folder, self.folder.parent):
                    _fsync_directory(made)
        except OSError as error:
            raise InputError(
                f"the folder {self.folder} cannot be made: {error.strerror}",
                hint="choose a directory that you may write to",
            ) from error
        return self.open()

    def open(self) -> Root:
        """Raises RootMissing if the folder or its marker is not there."""
        try:
            self.fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._missing(error.strerror) from error
        try:
            self.id = self._read_marker()
            self._ensure_temporary()
            self.temporary_fd = self.open_directory(PRIVATE + b"/" + TEMPORARY)
        except BaseException:
            os.close(self.fd)
            raise
        return self

    def close(self) -> None:
        os.close(self.temporary_fd)
        os.close(self.fd)

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self) -> None:
        """Raises RootMissing if the path no longer leads to the folder that was opened, or its marker is gone.

        To be asked before and after whatever may infer a delete.
        """
        try:
            now = self.folder.stat()
        except OSError as error:
            raise self._missing(error.strerror) from error
        opened = os.fstat(self.fd)
        if (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino):
            raise self._missing("another directory stands in its place")
        if self._read_marker() != self.id:
            raise self._missing("its marker is another folder's")

    def absolute(self, path: bytes) -> bytes:
        """The path as another process (a mover) opens it."""
        return os.fsencode(self.folder) + b"/" + path

    def open_directory(self, path: bytes) -> int:
        """A descriptor of directory ``path`` (``b""`` is the folder), to be closed by the caller.

        Raises FileNotFoundError, or NotADirectoryError when any component is a symlink or not a directory, and
        WireError for a path with a component that leads elsewhere ('..').
        """
        parts = path.split(b"/") if path else []
        if not _UPWARD.isdisjoint(parts):
            raise WireError(f"{os.fsdecode(path)!r} leads out of its directory")
        fd = os.open(b".", DIRECTORY_FLAGS, dir_fd=self.fd)
        try:
            for name in parts:
                below = os.open(name, DIRECTORY_FLAGS, dir_fd=fd)
                os.close(fd)
                fd = below
        except OSError as error:
            os.close(fd)
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from error
            raise
        return fd

    @contextmanager
    def parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """The open parent directory of ``path`` and the last component. Raises as ``open_directory``."""
        directory, _, name = path.rpartition(b"/")
        if name in _UPWARD:
            raise WireError(f"{os.fsdecode(path)!r} leads out of its directory")
        fd = self.open_directory(directory)
        try:
            yield fd, name
        finally:
            os.close(fd)

    def open_file(self, path: bytes) -> int:
        """A descriptor of file ``path`` for reading; never follows a symlink, never blocks on a FIFO.

        Raises OSError (FileNotFoundError, NotADirectoryError, PermissionError, ELOOP for a symlink).
        """
        with self.parent(path) as (parent, name):
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)

    def names_in(self, path: bytes) -> list[bytes]:
        """Sorted names in directory ``path``. Raises as ``open_directory``."""
        fd = self.open_directory(path)
        try:
            with os.scandir(fd) as listing:
                return sorted(os.fsencode(entry.name) for entry in listing)
        finally:
            os.close(fd)

    def lstat(self, path: bytes) -> os.stat_result:
        """Raises FileNotFoundError or NotADirectoryError when nothing stands there."""
        with self.parent(path) as (parent, name):
            return os.stat(name, dir_fd=parent, follow_symlinks=False)

    def _read_marker(self) -> str:
        try:
            private = self.open_directory(PRIVATE)
            try:
                fd = os.open(MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=private)
            finally:
                os.close(private)
            try:
                return os.read(fd, 256).decode("ascii", "replace").strip()
            finally:
                os.close(fd)
        except OSError as error:
            raise self._missing(f"its marker is gone ({error.strerror})") from error

    def _ensure_temporary(self) -> None:
        private = self.open_directory(PRIVATE)
        try:
            os.mkdir(TEMPORARY, 0o700, dir_fd=private)
        except FileExistsError:
            pass
        finally:
            os.close(private)

    def _missing(self, why: str | None) -> RootMissing:
        return RootMissing(
            f"the folder {self.folder} is missing: {why}",
            hint="mount or restore it; nothing is taken as deleted meanwhile",
        )


class Parents:
    """Looks at many paths, one after the other; quick where those of one directory follow one another."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._directory = b""
        self._fd = -1

    def __enter__(self) -> Parents:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def lstat(self, path: bytes) -> os.stat_result:
        """As ``Root.lstat``."""
        directory, _, name = path.rpartition(b"/")
        if name in _UPWARD:
            raise WireError(f"{os.fsdecode(path)!r} leads out of its directory")
        if self._fd < 0 or directory != self._directory:
            self._close()
            self._fd = self._root.open_directory(directory)
            self._directory = directory
        return os.stat(name, dir_fd=self._fd, follow_symlinks=False)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _write_durably(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.rename(path)


def _fsync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
