"""Real files as a workload: which ones, and how they travel to a node."""

from __future__ import annotations

import os
import stat
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

from harness.errors import InputError, LabError
from harness.model.base import Value

MOST_FILES = 3_000
MOST_BYTES = 40_000_000
LARGEST_FILE = 250_000
_NOT_STANDARD = frozenset({"site-packages", "dist-packages"})


class RealTree(Value):
    """What was packed. ``files`` and ``bytes`` count regular files."""

    source: str
    archive: Path
    files: int
    bytes: int


def pack_tree(data: str | None, archive: Path) -> RealTree:
    """Pack the directory ``data``, or Python's standard library (bounded in number and size) when it is None.

    Regular files, directories and symbolic links; everything else is left out. Raises InputError when it is no
    directory or holds no file, LabError when a file changes meanwhile or the archive cannot be written.
    """
    if data is None:
        root = Path(sysconfig.get_path("stdlib"))
        members = _bounded(_members(root))
    else:
        root = Path(data)
        require_files(root)
        members = _members(root)
    try:
        files, size = _pack(root, members, archive)
    except OSError as error:
        raise LabError(f"cannot pack {root}: {error}", hint="Does something write there, or is a disk full?") from error
    return RealTree(source=str(root), archive=archive, files=files, bytes=size)


def require_files(root: Path) -> None:
    """Raises InputError when it is no directory, or holds no regular file that can be read."""
    if not root.is_dir():
        raise InputError(f"--data {root}: not a directory")
    try:
        if not any(stat.S_ISREG(status.st_mode) for _, status in _members(root)):
            raise InputError(f"--data {root}: no regular file in it")
    except OSError as error:
        raise InputError(f"--data {root}: {error.filename}: {error.strerror}") from None


def _pack(root: Path, members: Iterator[tuple[Path, os.stat_result]], archive: Path) -> tuple[int, int]:
    """How many regular files went in, and their bytes."""
    files = size = 0
    with tarfile.open(archive, "w", errors="surrogateescape") as tar:
        for path, status in members:
            member = tarfile.TarInfo(str(path.relative_to(root)))
            member.mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISDIR(status.st_mode):
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            elif stat.S_ISLNK(status.st_mode):
                member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(member)
            else:
                member.size = status.st_size
                with path.open("rb") as content:
                    tar.addfile(member, content)
                files += 1
                size += member.size
    return files, size


def _members(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below ``root`` in a stable order, directories before what is in them."""
    for path in sorted(root.iterdir()):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            yield path, status
            yield from _members(path)
        elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            yield path, status


def _bounded(members: Iterator[tuple[Path, os.stat_result]]) -> Iterator[tuple[Path, os.stat_result]]:
    files = size = 0
    for path, status in members:
        if _NOT_STANDARD & set(path.parts):
            continue
        if stat.S_ISREG(status.st_mode):
            if status.st_size > LARGEST_FILE or size + status.st_size > MOST_BYTES:
                continue
            files += 1
            size += status.st_size
            if files > MOST_FILES:
                return
        yield path, status
