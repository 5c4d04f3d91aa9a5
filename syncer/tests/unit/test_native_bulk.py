"""Batches of file operations without the GIL: each file's own outcome, whatever becomes of the others."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer.native import _bulk


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("together", [True, False], ids=["syncfs", "fsync"])
def test_files_are_written_whole_and_each_failure_is_its_own(tmp_path: Path, together: bool) -> None:
    names = [os.fsencode(tmp_path / f"file {number}") for number in range(40)]
    contents = [os.urandom(number * 997) for number in range(40)]
    os.mkfifo(names[5])
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    files = [*zip(names, contents, strict=True), (os.fsencode(tmp_path / "missing" / "file"), b"x")]
    assert _bulk.write_files([(name, memoryview(data)) for name, data in files], together) == [0] * 40 + [errno.ENOENT]
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    for name, data in zip(names, contents, strict=True):
        path = Path(os.fsdecode(name))
        assert path.read_bytes() == data
        assert path.stat().st_mode == 0o100600


def test_a_file_that_is_there_is_not_written_to(tmp_path: Path) -> None:
    there, other = tmp_path / "there", tmp_path / "other"
    there.write_bytes(b"old")
    os.link(there, other)
    assert _bulk.write_files([(os.fsencode(there), b"new")], True) == [0]
    assert (there.read_bytes(), other.read_bytes()) == (b"new", b"old")


def test_files_are_placed_only_where_nothing_stands(tmp_path: Path, directory: int) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "link").symlink_to("a")
    mtime_ns = -1_234_567_890_123_456_789
    wanted = [
        (b"a", directory, b"placed", 1, 0o640, mtime_ns),
        (b"b", directory, b"placed", 1, 0o640, mtime_ns),
        (b"c", directory, b"not placed", 2, 0o640, mtime_ns),
        (b"gone", directory, b"not placed", 1, 0o640, mtime_ns),
        (b"link", directory, b"not placed", 1, 0o640, mtime_ns),
        (b"d", directory, b"also", 1, 0o604, 5),
    ]
    first, occupied, wrong_size, gone, link, last = _bulk.place_files(directory, wanted)
    assert isinstance(first, tuple) and isinstance(last, tuple)
    status = (tmp_path / "placed").stat()
    assert first[1] == (
        status.st_dev,
        status.st_ino,
        1,
        mtime_ns,
        status.st_ctime_ns,
        0o100640,
    )
    assert first[0][:4] == first[1][:4]
    assert (occupied, wrong_size, gone, link) == (errno.EEXIST, None, None, errno.ELOOP)
    assert (tmp_path / "placed").read_bytes() == b"a"
    assert not (tmp_path / "not placed").exists()
    assert ((tmp_path / "also").stat().st_mode, (tmp_path / "also").stat().st_mtime_ns) == (0o100604, 5)


def test_files_are_read_with_their_status_before_and_after(tmp_path: Path, directory: int) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "longer").write_bytes(b"content and more")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    names = [b"file", b"longer", b"sub", b"link", b"fifo", b"gone"]
    file, longer, sub, link, fifo, gone = _bulk.read_files([(directory, name, 7) for name in names])
    status = (tmp_path / "file").stat()
    expected = (status.st_dev, status.st_ino, 7, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)
    assert file == (b"content", expected, expected)
    assert isinstance(longer, tuple) and longer[0] == b"" and longer[1][2] == 16
    assert isinstance(sub, tuple) and sub[0] == b""
    assert isinstance(fifo, tuple) and fifo[0] == b""
    assert (link, gone) == (errno.ELOOP, errno.ENOENT)


def test_what_is_no_path_is_refused() -> None:
    with pytest.raises(TypeError):
        _bulk.write_files([("text", b"x")], True)  # type: ignore[list-item]
    with pytest.raises(TypeError):
        _bulk.write_files([(b"/dev/null/x", "text")], True)  # type: ignore[list-item]
