"""What a mover writes, and where it must not write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from blake3 import blake3

from syncer.movers.disk import DiskPool, ExpectedFile
from syncer.movers.whole_files import WholeFile

BLOCK = 1000


def expected(path: Path, data: bytes, *, have: tuple[int, ...] = ()) -> ExpectedFile:
    digests = b"".join(blake3(data[at : at + BLOCK]).digest() for at in range(0, len(data), BLOCK))
    return ExpectedFile(1, os.fsencode(path), len(data), BLOCK, digests, list(have))


def write_whole(path: Path, data: bytes) -> None:
    """As a mover does, and wait until it is durable."""
    disk, errors = DiskPool(), list[int]()
    disk.write_whole(len(data), [WholeFile(os.fsencode(path), memoryview(data))], errors.extend)
    disk.close()
    assert errors == [0]


def test_a_late_write_does_not_reach_a_file_that_was_moved_into_the_folder(tmp_path: Path) -> None:
    temporary, installed, data = tmp_path / "temporary", tmp_path / "installed", b"x" * BLOCK
    write_whole(temporary, data)
    os.link(temporary, installed)
    with installed.open("wb") as file:
        file.write(b"edited by the user")
    write_whole(temporary, data)
    assert installed.read_bytes() == b"edited by the user"
    assert temporary.read_bytes() == data


def test_a_partial_file_that_is_gone_is_not_made_anew_with_holes(tmp_path: Path) -> None:
    data = os.urandom(3 * BLOCK)
    resumed = expected(tmp_path / "temporary", data, have=(0, 1))
    with pytest.raises(FileNotFoundError):
        resumed.write(2 * BLOCK, memoryview(data)[2 * BLOCK :])
    with pytest.raises(FileNotFoundError):
        expected(tmp_path / "temporary", data, have=(0, 1, 2)).make_durable()


def test_a_partial_file_is_completed(tmp_path: Path) -> None:
    data = os.urandom(3 * BLOCK)
    (tmp_path / "temporary").write_bytes(data[: 2 * BLOCK])
    resumed = expected(tmp_path / "temporary", data, have=(0, 1))
    resumed.write(2 * BLOCK, memoryview(data)[2 * BLOCK :])
    resumed.make_durable()
    assert (tmp_path / "temporary").read_bytes() == data


def test_a_cancelled_file_takes_no_more_and_keeps_no_descriptor(tmp_path: Path) -> None:
    data = os.urandom(3 * BLOCK)
    cancelled = expected(tmp_path / "temporary", data)
    cancelled.close()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    cancelled.write(0, memoryview(data))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert not (tmp_path / "temporary").exists()
