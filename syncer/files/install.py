"""Changes to the user's tree, each atomic to a reader and none able to destroy what a user writes at the same moment.

Whatever is displaced or removed goes to ``.syncer/tmp`` first, is compared there with what the index knew, and is put
back if it differs. ``flush()`` makes the changes durable; only after it may the index be told.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from syncer.core.records import Content, Entry, Fingerprint, Kind
from syncer.errors import DestinationChanged, DiskFailed, SourceChanged, SyncerError
from syncer.files.aside import AsideStore, is_expected
from syncer.files.chunk import verify_blocks
from syncer.files.disk import changing, refusal
from syncer.files.rename import rename_new
from syncer.files.root import Root, fingerprint_of, fingerprint_of_raw, kind_of
from syncer.files.temp_store import remove_any, staged_name
from syncer.files.validity import check_entry, check_path
from syncer.files.writers import without_writers
from syncer.native import _bulk

_FICLONE = 0x40049409
"""ioctl: share all extents with another file of the same file system."""

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NAME_ONLY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_STEP = 1 << 30


class Installer:
    """Applies entries to the folder. Safe to use from several threads, one at a time for one path.

    ``expected`` is always the fingerprint that the index has for what stands at the path; None: nothing may stand
    there. Of a directory only device, inode and mode are compared (and it must be empty to go).
    Returned fingerprints describe what was installed, to be recorded in the index: a later write by a user differs.
    ``keep_as``: a free path to which what is replaced is moved instead of being dropped (a conflict copy). Record it
    without a fingerprint, so that the next scan reads it.

    All methods raise:
        DestinationChanged: what stands there is not ``expected``, a writer has it open, or a parent is missing or is
            not a directory. The tree is as it was; observe the path (and its parents) again.
        DiskFull: no space or quota; the tree is as it was.
        DiskFailed: the file system refused (I/O error, permission, read-only).
        WireError: the entry is none that may be installed (see ``check_entry``).
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._temporary = root.temporary_fd
        self._aside = AsideStore(root)
        self._lock = threading.Lock()
        self._unflushed: set[bytes] = set()

    def install_file(
        self, temp: bytes, entry: Entry, expected: Fingerprint | None, *, keep_as: bytes | None = None
    ) -> Fingerprint:
        """Puts the finished file ``temp`` at ``entry.path`` with the entry's mode and mtime.

        ``temp`` is a name in the temporary directory, verified and fsynced. What stands at the path (of any kind) is
        replaced without a moment in which there is nothing. On DestinationChanged ``temp`` is still there (but for the
        case that somebody replaced it in the instant in which it stood in the tree).

        Raises SourceChanged if ``temp`` is missing or is not of the entry's size: fetch it again.
        """
        check_entry(entry)
        size = entry.content.size if entry.content else 0
        with changing(entry.path):
            try:
                fd = os.open(temp, _OPEN, dir_fd=self._temporary)
            except FileNotFoundError as error:
                raise SourceChanged(f"the temporary file for {os.fsdecode(entry.path)!r} is gone") from error
            try:
                if os.fstat(fd).st_size != size:
                    raise SourceChanged(f"the temporary file for {os.fsdecode(entry.path)!r} is not complete")
                os.fchmod(fd, entry.mode)
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
                return self._place(temp, fd, entry.path, expected, keep_as)
            finally:
                os.close(fd)

    def install_new(self, files: Sequence[tuple[bytes, Entry]]) -> list[Fingerprint | SyncerError]:
        """As ``install_file`` for each (temp, entry) where nothing may stand, but the errors are returned. Quick for
        many files; a list in which those of one directory follow one another is quicker still."""
        outcomes: list[Fingerprint | SyncerError] = []
        at = 0
        while at < len(files):
            directory = _parent_of(files[at][1].path)
            end = at
            while end < len(files) and _parent_of(files[end][1].path) == directory:
                end += 1
            outcomes += self._install_in(directory, files[at:end])
            at = end
        return outcomes

    def _install_in(self, directory: bytes, files: Sequence[tuple[bytes, Entry]]) -> list[Fingerprint | SyncerError]:
        if len(files) == 1:
            return [self._install_or_why(*files[0])]
        wanted: list[tuple[bytes, int, bytes, int, int, int]] = []
        outcomes: list[Fingerprint | SyncerError | None] = []
        try:
            parent = self._root.open_directory(directory)
        except OSError as error:
            return [refusal(entry.path, error) for _, entry in files]
        try:
            for temp, entry in files:
                try:
                    check_entry(entry)
                except SyncerError as error:
                    outcomes.append(error)
                    continue
                outcomes.append(None)
                size = entry.content.size if entry.content else 0
                wanted.append((temp, parent, entry.path.rpartition(b"/")[2], size, entry.mode, entry.mtime_ns))
            placed = iter(_bulk.place_files(self._temporary, wanted))
        finally:
            os.close(parent)
        self._touch(directory)
        return [
            outcome if outcome is not None else _as_placed(entry.path, next(placed))
            for outcome, (_, entry) in zip(outcomes, files, strict=True)
        ]

    def _install_or_why(self, temp: bytes, entry: Entry) -> Fingerprint | SyncerError:
        try:
            return self.install_file(temp, entry, None)
        except SyncerError as error:
            return error

    def make_directory(
        self, entry: Entry, expected: Fingerprint | None = None, *, keep_as: bytes | None = None
    ) -> Fingerprint:
        """Makes an empty directory. For a new mode of an existing directory use ``set_metadata``."""
        check_entry(entry)
        name = staged_name()
        with changing(entry.path), self._staged(name):
            os.mkdir(name, 0o700, dir_fd=self._temporary)
            fd = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=self._temporary)
            try:
                # moving a directory rewrites its "..", for which its owner needs write permission
                os.fchmod(fd, entry.mode | stat.S_IWUSR)
                self._place(name, fd, entry.path, expected, keep_as)
                os.fchmod(fd, entry.mode)
                return fingerprint_of(os.fstat(fd))
            finally:
                os.close(fd)

    def make_symlink(
        self, entry: Entry, expected: Fingerprint | None = None, *, keep_as: bytes | None = None
    ) -> Fingerprint:
        """Makes a symlink to ``entry.target``, which is never looked at."""
        check_entry(entry)
        name = staged_name()
        with changing(entry.path), self._staged(name):
            os.symlink(entry.target, name, dir_fd=self._temporary)
            fd = os.open(name, _NAME_ONLY, dir_fd=self._temporary)
            try:
                return self._place(name, fd, entry.path, expected, keep_as)
            finally:
                os.close(fd)

    def remove(self, path: bytes, kind: Kind, expected: Fingerprint) -> None:
        """Removes what ``expected`` describes. A directory must be empty."""
        with self._parent(path) as (parent, name):
            if kind is Kind.DIRECTORY:
                if not is_expected(os.stat(name, dir_fd=parent, follow_symlinks=False), expected):
                    raise _not_expected(path)
                os.rmdir(name, dir_fd=parent)
            else:
                self._aside.remove(parent, name, path, expected)

    def rename_aside(self, path: bytes, new_path: bytes, expected: Fingerprint) -> Fingerprint:
        """Moves within the tree, never onto something. Returns the fingerprint at ``new_path``.

        For a moment nothing stands at ``path``: where a new version is to be put there, use ``keep_as`` instead.
        A writer that has the file open goes on writing to it under its new name.
        """
        with self._parent(path) as (parent, name), self._parent(new_path) as (new_parent, new_name):
            if not is_expected(os.stat(name, dir_fd=parent, follow_symlinks=False), expected):
                raise _not_expected(path)
            rename_new(parent, name, new_parent, new_name)
            status = os.stat(new_name, dir_fd=new_parent, follow_symlinks=False)
            if not is_expected(status, expected, moved=True):
                with suppress(FileExistsError):
                    rename_new(new_parent, new_name, parent, name)
                raise _not_expected(path)
            return fingerprint_of(status)

    def set_metadata(self, entry: Entry, expected: Fingerprint) -> Fingerprint:
        """Gives an existing file or directory the entry's mode and (files) mtime; the content stays."""
        check_entry(entry)
        with self._parent(entry.path) as (parent, name):
            readable = True
            try:
                fd = os.open(name, _OPEN, dir_fd=parent)
            except PermissionError:
                fd, readable = os.open(name, _NAME_ONLY, dir_fd=parent), False
            try:
                # while the lease holds writers off, a write can't slip in between the check and the new mtime
                with without_writers(fd) as free:
                    status = os.fstat(fd)
                    if not free or kind_of(status) is not entry.kind or not is_expected(status, expected):
                        raise _not_expected(entry.path)
                    target = fd if readable else f"/proc/self/fd/{fd}"
                    os.chmod(target, entry.mode)  # noqa: PTH101  (may be a descriptor)
                    if entry.kind is Kind.FILE:
                        os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))
                    found = fingerprint_of(os.fstat(fd))
            finally:
                os.close(fd)
        self._touch(entry.path)
        return found

    def copy_local(self, source_path: bytes, content: Content, temp: bytes) -> None:
        """Makes ``temp`` (a name in the temporary directory) from a file of this folder, verified and fsynced.

        Shares extents where the file system can, and keeps holes.

        Raises SourceChanged if the source is gone or has other content; ``temp`` is then gone.
        """
        try:
            source = self._root.open_file(source_path)
        except OSError as error:
            raise SourceChanged(f"{os.fsdecode(source_path)!r} cannot be copied: {error.strerror}") from error
        try:
            with changing(source_path):
                target = os.open(
                    temp,
                    os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC,
                    0o600,
                    dir_fd=self._temporary,
                )
            try:
                with changing(source_path):
                    _copy(source, target, content.size)
                    if len(verify_blocks(target, content)) * content.block_size < content.size:
                        raise SourceChanged(f"{os.fsdecode(source_path)!r} has other content than the index knows")
                    os.fsync(target)
            except SyncerError:
                os.unlink(temp, dir_fd=self._temporary)
                raise
            finally:
                os.close(target)
        finally:
            os.close(source)

    def flush(self) -> None:
        """fsyncs every directory that was changed since the last flush.

        When it raises, the changes of this batch must not be committed to the index: scan their directories again.
        """
        with self._lock:
            paths, self._unflushed = self._unflushed, set()
        for path in sorted(paths):
            try:
                fd = self._root.open_file(path) if path else self._root.open_directory(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise refusal(path, error) from error
            try:
                os.fsync(fd)
            except OSError as error:
                raise DiskFailed(
                    f"the disk did not take the changes in {os.fsdecode(path)!r}: {error.strerror}",
                    hint="see the health of the disk; the folder is scanned again",
                ) from error
            finally:
                os.close(fd)

    def recover(self) -> list[bytes]:
        """Puts back what an interrupted operation had moved out of the tree; before the first scan after a start.

        What can't go back to its place, since something else stands there now, is put beside it under a name of its
        own. Returns the paths at which something was put.
        """
        with changing(b""):
            put_back = self._aside.recover()
        for path in put_back:
            self._touch(_parent_of(path))
        self.flush()
        return put_back

    def _place(
        self, name: bytes, fd: int, path: bytes, expected: Fingerprint | None, keep_as: bytes | None
    ) -> Fingerprint:
        """Moves ``name``, of which ``fd`` is open, from the temporary directory into the tree."""
        before = fingerprint_of(os.fstat(fd))
        with self._parent(path) as (parent, last):
            if expected is None:
                rename_new(self._temporary, name, parent, last)
            else:
                self._aside.replace(name, parent, last, path, expected, keep_as)
        if keep_as is not None:
            self._touch(_parent_of(keep_as))
        return _unless_written(before, fingerprint_of(os.fstat(fd)))

    @contextmanager
    def _parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        check_path(path)
        with changing(path), self._root.parent(path) as found:
            yield found
        self._touch(_parent_of(path))

    @contextmanager
    def _staged(self, name: bytes) -> Iterator[None]:
        """Leaves nothing of ``name`` behind."""
        try:
            yield
        except BaseException:
            with suppress(FileNotFoundError):
                remove_any(self._temporary, name)
            raise

    def _touch(self, path: bytes) -> None:
        with self._lock:
            self._unflushed.add(path)


def _as_placed(path: bytes, placed: tuple[_bulk.Status, _bulk.Status] | int | None) -> Fingerprint | SyncerError:
    if placed is None:
        return SourceChanged(f"the temporary file for {os.fsdecode(path)!r} is gone or not complete")
    if isinstance(placed, int):
        return refusal(path, OSError(placed, os.strerror(placed)))
    return _unless_written(fingerprint_of_raw(placed[0]), fingerprint_of_raw(placed[1]))


def _unless_written(before: Fingerprint, after: Fingerprint) -> Fingerprint:
    """What to record of a file that was moved: the rename sets the change time, but a user's write in this instant must
    differ from what is recorded."""
    written_meanwhile = (before.size, before.mtime_ns, before.mode) != (after.size, after.mtime_ns, after.mode)
    return before if written_meanwhile else after


def _copy(source: int, target: int, size: int) -> None:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        position = 0
        while position < size:
            try:
                start = os.lseek(source, position, os.SEEK_DATA)
            except OSError:
                break
            position = min(os.lseek(source, start, os.SEEK_HOLE), size)
            _copy_range(source, target, start, position)
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        count = os.copy_file_range(source, target, min(end - start, _COPY_STEP), start, start)
        if count == 0:
            return
        start += count


def _parent_of(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _not_expected(path: bytes) -> DestinationChanged:
    return DestinationChanged(f"{os.fsdecode(path)!r} is not what the index knows")
