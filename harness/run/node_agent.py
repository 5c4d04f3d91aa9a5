"""Runs on a node: carries out a batch of file operations or reads a tree, and says exactly what it found.

Stand-alone (standard library only, Python 3.9 or later): copied to the node and run there, one request as JSON on
stdin, one answer as JSON on stdout. Paths are text with surrogateescape; an entry is ``[kind, digest, mode, size]``
(see ``harness.model.tree``), null where nothing stands.

Requests: ``{"do": "operate", "root", "operations": [...]}``, ``{"do": "snapshot", "root"}``,
``{"do": "usage", "root"}``, ``{"do": "await-usage", "root", "bytes", "timeout_s"}``,
``{"do": "await-tree", "root", "path", "files", "bytes", "timeout_s"}``,
``{"do": "unpack", "root", "archive", "path"}``.

What a writer found is read through the very file that it then writes, so that an engine which replaces the path
meanwhile is noticed: such an effect is marked as not visible.
"""

# Paths here are raw bytes, which pathlib cannot hold.
# ruff: noqa: PTH101, PTH102, PTH104, PTH105, PTH106, PTH108, PTH115, PTH118, PTH208, PTH211

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import stat
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeVar

CHUNK = 1 << 20
POLL_S = 0.05

Entry = list[Any]
Effects = list[list[Any]]
T = TypeVar("T")


def content(seed: str, size: int) -> Iterator[bytes]:
    """Chunks of ``size`` bytes that no other seed gives (from 24 bytes up)."""
    source = random.Random(seed)
    head = hashlib.blake2b(seed.encode(), digest_size=12).hexdigest().encode()[:size]
    yield head
    left = size - len(head)
    while left > 0:
        step = min(left, CHUNK)
        yield source.randbytes(step)
        left -= step


def digest_of(chunks: Iterable[bytes]) -> tuple[str, int]:
    digest = hashlib.blake2b(digest_size=32)
    size = 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def chunks_of(descriptor: int) -> Iterator[bytes]:
    os.lseek(descriptor, 0, os.SEEK_SET)
    while True:
        chunk = os.read(descriptor, CHUNK)
        if not chunk:
            return
        yield chunk


def entry_of_descriptor(descriptor: int) -> Entry:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        return ["directory", "", stat.S_IMODE(mode), 0]
    digest, size = digest_of(chunks_of(descriptor))
    return ["file", digest, stat.S_IMODE(mode), size]


def entry_of(path: bytes) -> Entry | None:
    """The entry at an absolute path; None when nothing stands there (any more)."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            return ["symlink", digest_of([os.readlink(path)])[0], 0, 0]
        if stat.S_ISDIR(mode):
            return ["directory", "", stat.S_IMODE(mode), 0]
        if not stat.S_ISREG(mode):
            return ["other", "", stat.S_IMODE(mode), 0]
        with opened(path, os.O_RDONLY) as descriptor:
            return entry_of_descriptor(descriptor)
    except FileNotFoundError:
        return None


@contextmanager
def opened(path: bytes, flags: int, mode: int = 0o600) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def stands(descriptor: int, path: bytes) -> bool:
    """Whether the open file is still what stands at the path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def read_all(source: IO[bytes]) -> Iterator[bytes]:
    while True:
        chunk = source.read(CHUNK)
        if not chunk:
            return
        yield chunk


def write_all(descriptor: int, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]


class Folder:
    """Operations on a folder; each returns its effects: rows ``[path, before, after, visible]``."""

    def __init__(self, root: str) -> None:
        self.root = os.fsencode(root)

    def absolute(self, path: str) -> bytes:
        return os.path.join(self.root, os.fsencode(path))

    def create(self, path: str, seed: str, size: int, mode: int = 0o644) -> Effects:
        """A new file, opened and written in place; where one stands already it is changed instead."""
        place = self.absolute(path)
        try:
            with opened(place, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode) as descriptor:
                os.fchmod(descriptor, mode)
                write_all(descriptor, content(seed, size))
                return [[path, None, entry_of_descriptor(descriptor), stands(descriptor, place)]]
        except FileExistsError:
            return self.change(path, seed, size)

    def change(self, path: str, seed: str, size: int) -> Effects:
        """Overwrite a file in place."""
        place = self.absolute(path)
        with opened(place, os.O_RDWR) as descriptor:
            before = entry_of_descriptor(descriptor)
            os.lseek(descriptor, 0, os.SEEK_SET)
            write_all(descriptor, content(seed, size))
            os.ftruncate(descriptor, size)
            return [[path, before, entry_of_descriptor(descriptor), stands(descriptor, place)]]

    def append(self, path: str, seed: str, size: int) -> Effects:
        """Add bytes at the end."""
        place = self.absolute(path)
        with opened(place, os.O_RDWR) as descriptor:
            before = entry_of_descriptor(descriptor)
            os.lseek(descriptor, 0, os.SEEK_END)
            write_all(descriptor, content(seed, size))
            return [[path, before, entry_of_descriptor(descriptor), stands(descriptor, place)]]

    def save(self, path: str, seed: str, size: int) -> Effects:
        """Replace a file as an editor does: a new file beside it, renamed over it."""
        beside = path + ".new"
        place = self.absolute(path)
        with opened(place, os.O_RDONLY) as old:
            effects = self.create(beside, seed, size, stat.S_IMODE(os.fstat(old).st_mode))
            written = effects[-1][2]
            before = entry_of_descriptor(old)
            if not stands(old, place):
                return effects
            os.replace(self.absolute(beside), place)
        return [*effects, [beside, written, None, True], [path, before, written, True]]

    def chmod(self, path: str, mode: int) -> Effects:
        """Set permission bits."""
        place = self.absolute(path)
        with opened(place, os.O_RDONLY) as descriptor:
            before = entry_of_descriptor(descriptor)
            os.fchmod(descriptor, mode)
            return [[path, before, entry_of_descriptor(descriptor), stands(descriptor, place)]]

    def mkdir(self, path: str, mode: int = 0o755) -> Effects:
        """A new directory."""
        place = self.absolute(path)
        os.mkdir(place)
        os.chmod(place, mode)
        return [[path, None, ["directory", "", mode, 0], True]]

    def symlink(self, path: str, target: str) -> Effects:
        """A new symbolic link."""
        os.symlink(os.fsencode(target), self.absolute(path))
        return [[path, None, ["symlink", digest_of([os.fsencode(target)])[0], 0, 0], True]]

    def rename(self, path: str, to: str) -> Effects:
        """Move a file, a link or a whole directory to a name that is free."""
        place = self.absolute(to)
        if os.path.lexists(place):
            raise FileExistsError(to)
        os.rename(self.absolute(path), place)
        effects: Effects = []
        for below, entry in walk(place, b""):
            suffix = os.fsdecode(below)
            effects.append([path + suffix, entry, None, True])
            effects.append([to + suffix, None, entry, True])
        return effects

    def delete(self, path: str) -> Effects:
        """Remove a file or link, or a directory with all that is in it; what arrives meanwhile is left alone."""
        place = self.absolute(path)
        if not stat.S_ISDIR(os.lstat(place).st_mode):
            return self.unlink(path)
        effects: Effects = []
        for name in sorted(os.listdir(place)):
            # What has gone meanwhile must not hide what was removed here.
            with suppress(FileNotFoundError):
                effects += self.delete(path + "/" + os.fsdecode(name))
        before = entry_of(place)
        try:
            os.rmdir(place)
        except OSError:
            return effects
        return [*effects, [path, before, None, True]]

    def unlink(self, path: str) -> Effects:
        """Remove one file or link."""
        place = self.absolute(path)
        if stat.S_ISLNK(os.lstat(place).st_mode):
            before = entry_of(place)
            os.unlink(place)
            return [[path, before, None, True]]
        with opened(place, os.O_RDONLY) as descriptor:
            before = entry_of_descriptor(descriptor)
            if not stands(descriptor, place):
                raise FileNotFoundError(path)
            os.unlink(place)
            return [[path, before, None, True]]

    def unpack(self, path: str, archive: str) -> Effects:
        """Extract a tar archive into a new directory."""
        effects = self.mkdir(path)
        with tarfile.open(archive, errors="surrogateescape") as members:
            for member in members:
                below = path + "/" + member.name
                place = self.absolute(below)
                if member.isdir():
                    effects += self.mkdir(below, stat.S_IMODE(member.mode))
                elif member.issym():
                    effects += self.symlink(below, member.linkname)
                elif member.isfile():
                    with opened(place, os.O_RDWR | os.O_CREAT | os.O_EXCL) as descriptor:
                        os.fchmod(descriptor, stat.S_IMODE(member.mode))
                        source = members.extractfile(member)
                        assert source is not None
                        write_all(descriptor, read_all(source))
                        effects.append([below, None, entry_of_descriptor(descriptor), stands(descriptor, place)])
        return effects


NODE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""The node is at fault: what was to be written stands there in part, and no test can be judged by it."""
OPERATIONS = ("create", "change", "append", "save", "chmod", "mkdir", "symlink", "rename", "delete")


def walk(place: bytes, prefix: bytes) -> Iterator[tuple[bytes, Entry]]:
    """The entry at an absolute path and all below it, with suffixes from ``prefix`` on; never through a link."""
    entry = entry_of(place)
    if entry is None:
        return
    yield prefix, entry
    if entry[0] == "directory":
        try:
            names = sorted(os.listdir(place))
        except FileNotFoundError:
            return
        for name in names:
            yield from walk(os.path.join(place, name), prefix + b"/" + name)


def operate(request: Any) -> Any:
    folder = Folder(request["root"])
    results = []
    for operation in request["operations"]:
        arguments = dict(operation)
        action = arguments.pop("do")
        if action not in OPERATIONS:
            raise ValueError(f"unknown operation {action}")
        result: Any = {"effects": [], "skipped": ""}
        try:
            result["effects"] = getattr(folder, action)(**arguments)
        except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            result["skipped"] = type(error).__name__
        except OSError as error:
            if error.errno in NODE_FAULTS:
                raise
            result["skipped"] = str(error.strerror)
        results.append(result)
    return {"results": results}


def snapshot(request: Any) -> Any:
    root = os.fsencode(request["root"])
    rows = [[os.fsdecode(below[1:]), *entry] for below, entry in walk(root, b"") if below]
    return {"tree": rows}


def allocated(root: bytes) -> int:
    """Bytes that the file system has given to all files below, the engine's own included."""
    total = 0
    pending = [root]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def count(root: bytes) -> tuple[int, int]:
    """Files and their bytes below a path, which may be a file itself."""
    files = size = 0
    try:
        if stat.S_ISREG(os.lstat(root).st_mode):
            return 1, os.lstat(root).st_size
        pending = [root]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        files += 1
                        size += entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        pass
    return files, size


def wait_for(measure: Callable[[], T], enough: Callable[[T], bool], timeout_s: float) -> tuple[T, bool]:
    """Measure until it is enough or the deadline passes; returns the last measurement and whether it was enough."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = measure()
        if enough(value) or time.monotonic() >= deadline:
            return value, enough(value)
        time.sleep(POLL_S)


def await_usage(request: Any) -> Any:
    root = os.fsencode(request["root"])
    value, reached = wait_for(lambda: allocated(root), lambda n: n >= request["bytes"], request["timeout_s"])
    return {"bytes": value, "reached": reached}


def await_tree(request: Any) -> Any:
    place = os.path.join(os.fsencode(request["root"]), os.fsencode(request["path"]))
    wanted = (request["files"], request["bytes"])
    value, reached = wait_for(lambda: count(place), lambda found: found == wanted, request["timeout_s"])
    return {"files": value[0], "bytes": value[1], "reached": reached}


def unpack(request: Any) -> Any:
    return {"effects": Folder(request["root"]).unpack(request["path"], request["archive"])}


def usage(request: Any) -> Any:
    return {"bytes": allocated(os.fsencode(request["root"]))}


COMMANDS = {
    "operate": operate,
    "snapshot": snapshot,
    "usage": usage,
    "await-usage": await_usage,
    "await-tree": await_tree,
    "unpack": unpack,
}


def main() -> None:
    request = json.load(sys.stdin)
    json.dump(COMMANDS[request["do"]](request), sys.stdout)


if __name__ == "__main__":
    main()
