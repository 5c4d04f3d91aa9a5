"""What stands in the folder. Scans are the truth; whatever they could not see is said, never taken as deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

from syncer.core.records import Fingerprint, Kind
from syncer.files.root import DIRECTORY_FLAGS, PATH_MAX, PRIVATE, Root, fingerprint_of, kind_of


class Observed(NamedTuple):
    """One path as it stands. ``target`` is a symlink's, empty for others.

    A directory's size and times change with its children: of its fingerprint only device, inode and mode mean anything.
    """

    path: bytes
    kind: Kind
    fingerprint: Fingerprint
    target: bytes


class Problem(NamedTuple):
    """A path of which the scan knows nothing: the caller infers no change and no delete at it or below it.

    ``reason`` is for the log: no permission, an I/O error, a special file, another file system, changed meanwhile.
    """

    path: bytes
    reason: str


def observe(root: Root, path: bytes) -> Observed | Problem | None:
    """One path; None when nothing stands there.

    Ask this of a path before taking it as deleted: a listing of a directory that is being written to may miss names.
    """
    try:
        with root.parent(path) as (parent, name):
            return _observe(parent, name, path, os.fstat(root.fd).st_dev)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Problem(path, _why(error))


def scan(root: Root, subtree: bytes = b"", recursive: bool = True) -> Iterator[Observed | Problem]:
    """Everything below directory ``subtree`` and (unless it is the root) ``subtree`` itself, which may also be a file.

    A directory comes before what is in it; names in a directory come sorted. Not recursive: its direct children only.
    Nothing is yielded for a subtree that does not exist. Entries that vanish meanwhile are left out.
    Only a scan that was read to its end says what is absent: it raises RootMissing at its start or its end when the
    folder is not, or is no longer, the one that was opened.
    """
    root.check()
    yield from _scan(root, subtree, recursive)
    root.check()


def _scan(root: Root, subtree: bytes, recursive: bool) -> Iterator[Observed | Problem]:
    device = os.fstat(root.fd).st_dev
    if subtree:
        top = observe(root, subtree)
        if top is not None:
            yield top
        if not isinstance(top, Observed) or top.kind is not Kind.DIRECTORY:
            return
    try:
        level = _Level(root.open_directory(subtree), subtree)
    except OSError as error:
        yield Problem(subtree, _why(error))
        return
    stack = [level]
    try:
        while stack:
            level = stack[-1]
            try:
                name, entry = next(level.entries)
            except StopIteration:
                stack.pop().close()
                continue
            path = level.prefix + name
            try:
                found = _classify(level.fd, name, path, entry.stat(follow_symlinks=False), device)
            except FileNotFoundError:
                continue
            except OSError as error:
                found = Problem(path, _why(error))
            yield found
            if recursive and isinstance(found, Observed) and found.kind is Kind.DIRECTORY:
                try:
                    stack.append(_Level(os.open(name, DIRECTORY_FLAGS, dir_fd=level.fd), path))
                except OSError as error:
                    yield Problem(path, _why(error))
    finally:
        for level in stack:
            level.close()


class _Level:
    """One open directory of a walk, and what is left to do in it. Takes over ``fd``, also when it raises."""

    def __init__(self, fd: int, path: bytes) -> None:
        self.fd = fd
        self.prefix = path + b"/" if path else b""
        try:
            with os.scandir(fd) as listing:
                named = ((os.fsencode(entry.name), entry) for entry in listing)
                self.entries = iter(sorted((pair for pair in named if pair[0] != PRIVATE), key=itemgetter(0)))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self.fd)


def _observe(parent: int, name: bytes, path: bytes, device: int) -> Observed | Problem:
    return _classify(parent, name, path, os.stat(name, dir_fd=parent, follow_symlinks=False), device)


def _classify(parent: int, name: bytes, path: bytes, status: os.stat_result, device: int) -> Observed | Problem:
    if len(path) > PATH_MAX:
        return Problem(path, "its path is too long")
    kind = kind_of(status)
    if kind is None:
        return Problem(path, "a socket, a FIFO or a device: never synced")
    if status.st_dev != device:
        return Problem(path, "another file system is mounted here")
    fingerprint = fingerprint_of(status)
    if kind is Kind.FILE and fingerprint.mtime_ns != status.st_mtime_ns:
        return Problem(path, "its time stamp is out of range")
    target = os.readlink(name, dir_fd=parent) if kind is Kind.SYMLINK else b""
    return Observed(path, kind, fingerprint, target)


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "changed while it was looked at"
    return error.strerror or str(error)
