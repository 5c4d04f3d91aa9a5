"""Contents: digests, changes while reading, what a partial file holds, racy time stamps."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer.core.records import Content, Fingerprint
from syncer.errors import SourceChanged, Unreadable
from syncer.files import chunk
from syncer.files.chunk import is_settled, read_content, read_contents, verify_blocks
from syncer.tests.unit.sample_folder import Folder, content_of, in_child_as_nobody

BLOCK = 1 << 17


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path / "folder")
    yield made
    made.close()


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK - 7])
def test_contents_of_all_sizes(folder: Folder, size: int) -> None:
    data = os.urandom(size)
    fingerprint = folder.write(b"file", data)
    content = read_content(folder.root, b"file", fingerprint)
    assert content == content_of(data)
    assert len(content.blocks) == 32 * -(-size // BLOCK)


@pytest.mark.parametrize("change", ["grown", "touched", "replaced", "gone", "symlink", "fifo", "directory gone"])
def test_a_source_that_changed_before(folder: Folder, change: str) -> None:
    fingerprint = folder.write(b"dir/file", b"data")
    path = folder.at(b"dir/file")
    if change == "grown":
        path.write_bytes(b"data and more")
    elif change == "touched":
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
    if change == "replaced":
        path.write_bytes(b"data")
    elif change == "symlink":
        path.symlink_to("/etc/passwd")
    elif change == "fifo":
        os.mkfifo(path)
    elif change == "directory gone":
        path.parent.rmdir()
    with pytest.raises(SourceChanged):
        read_content(folder.root, b"dir/file", fingerprint)


def test_a_source_that_is_appended_to_while_it_is_read(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = folder.write(b"file", bytes(3 * BLOCK))
    preadv = os.preadv

    def appending(*arguments: object) -> int:
        with folder.at(b"file").open("ab") as file:
            file.write(b"more")
        return preadv(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(chunk.os, "preadv", appending)
    with pytest.raises(SourceChanged):
        read_content(folder.root, b"file", fingerprint)


def test_a_source_that_is_cut_while_it_is_read(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = folder.write(b"file", bytes(3 * BLOCK))
    preadv = os.preadv

    def cutting(*arguments: object) -> int:
        os.truncate(folder.at(b"file"), BLOCK)
        return preadv(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(chunk.os, "preadv", cutting)
    with pytest.raises(SourceChanged):
        read_content(folder.root, b"file", fingerprint)


@pytest.mark.root
def test_a_source_without_permission_is_unreadable_and_not_gone() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Folder(Path(directory))
        fingerprint = folder.write(b"file", b"data")
        folder.path.chmod(0o755)
        folder.at(b"file").chmod(0)

        def says_so() -> bool:
            with pytest.raises(Unreadable):
                read_content(folder.root, b"file", fingerprint)
            return True

        assert in_child_as_nobody(says_so)
        folder.close()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6 * BLOCK), st.sets(st.integers(0, 5)), st.integers(0, 6 * BLOCK))
def test_blocks_of_a_partial_file(size: int, spoiled: set[int], cut: int) -> None:
    data = bytearray(os.urandom(size))
    content = content_of(bytes(data))
    count = -(-size // BLOCK)
    for index in spoiled:
        if index < count:
            data[index * BLOCK] ^= 1
    with tempfile.TemporaryFile() as file:
        file.write(data[:cut])
        file.flush()
        right = verify_blocks(file.fileno(), content)
    whole = [index for index in range(count) if min((index + 1) * BLOCK, size) <= cut]
    assert right == [index for index in whole if index not in spoiled]


def test_blocks_of_an_empty_file(folder: Folder) -> None:
    with tempfile.TemporaryFile() as file:
        assert verify_blocks(file.fileno(), content_of(b"")) == []
        assert verify_blocks(file.fileno(), Content(1, b"d" * 32, BLOCK, b"d" * 32)) == []


@pytest.mark.parametrize(
    ("ctime_ns", "now_ns", "settled"),
    [
        (5_000_000_001, 5_000_000_001, False),
        (5_000_000_001, 5_019_999_999, False),
        (5_000_000_001, 5_020_000_001, True),
        (5_000_000_000, 6_999_999_999, False),
        (5_000_000_000, 7_000_000_000, True),
        (9_000_000_001, 5_000_000_000, False),
    ],
)
def test_time_stamps_within_the_clocks_granularity_are_not_trusted(ctime_ns: int, now_ns: int, settled: bool) -> None:
    assert is_settled(Fingerprint(1, 1, 1, 1, ctime_ns, 0o644), now_ns) is settled


def test_many_contents_are_as_single_ones(folder: Folder) -> None:
    sizes = {b"a/%03d" % n: n * 1000 for n in range(50)} | {b"b/large": 3 * BLOCK, b"b/small": 1, b"c": BLOCK}
    files = [(path, folder.write(path, os.urandom(size))) for path, size in sizes.items()]
    assert read_contents(folder.root, files) == [read_content(folder.root, path, found) for path, found in files]


def test_of_many_contents_each_that_changed_is_told(folder: Folder) -> None:
    names = ("same", "grown", "touched", "replaced", "symlink", "fifo", "gone", "same too")
    files = [(path, folder.write(path, b"data")) for path in (b"dir/" + name.encode() for name in names)]
    files += [(path, folder.write(path, b"data")) for path in (b"gone/a", b"gone/b")]
    at = {name: folder.at(b"dir/" + name.encode()) for name in names}
    at["grown"].write_bytes(b"data and more")
    os.utime(at["touched"], ns=(1, 1))
    for name in ("replaced", "symlink", "fifo", "gone"):
        at[name].unlink()
    at["replaced"].write_bytes(b"data")
    at["symlink"].symlink_to("same")
    os.mkfifo(at["fifo"])
    folder.at(b"gone").rename(folder.at(b"elsewhere"))
    read = read_contents(folder.root, files)
    assert read[0] == read[7] == content_of(b"data")
    assert [type(outcome) for outcome in (*read[1:7], *read[8:])] == [SourceChanged] * 8
