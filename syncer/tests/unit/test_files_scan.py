"""Scans: everything that stands there, nothing that does not, and what could not be seen is said."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer.core.records import Kind
from syncer.errors import RootMissing
from syncer.files.root import PATH_MAX, Root
from syncer.files.scan import Observed, Problem, observe, scan
from syncer.tests.unit.sample_folder import Folder, in_child_as_nobody


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path / "folder")
    yield made
    made.close()


def paths(root: Root, subtree: bytes = b"", recursive: bool = True) -> list[bytes]:
    return [found.path for found in scan(root, subtree, recursive)]


names = st.binary(min_size=1, max_size=8).filter(
    lambda name: name not in (b".", b"..", b".syncer") and b"/" not in name and b"\0" not in name
)
files = st.binary(max_size=20)
trees = st.recursive(
    st.dictionaries(names, files, max_size=3),
    lambda below: st.dictionaries(names, files | below, max_size=4),
    max_leaves=12,
)
Tree = dict[bytes, "bytes | Tree"]


def plant(tree: Tree, at: Path) -> dict[Path, tuple[Kind, bytes]]:
    """Paths to their kinds and targets."""
    planted = {}
    for name, value in tree.items():
        path = at / os.fsdecode(name)
        if isinstance(value, dict):
            path.mkdir()
            planted[path] = (Kind.DIRECTORY, b"")
            planted.update(plant(value, path))
        elif len(value) > 15:
            target = value.replace(b"\0", b"0")
            path.symlink_to(os.fsdecode(target))
            planted[path] = (Kind.SYMLINK, target)
        else:
            path.write_bytes(value)
            planted[path] = (Kind.FILE, b"")
    return planted


@settings(deadline=None, max_examples=60)
@given(trees)
def test_sees_exactly_what_was_planted(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as directory, Root(Path(directory)).create() as root:
        top = Path(directory)
        planted = {os.fsencode(path.relative_to(top)): value for path, value in plant(tree, top).items()}
        found = list(scan(root))
        assert {each.path: (each.kind, each.target) for each in found if isinstance(each, Observed)} == planted
        assert len(found) == len(planted)
        for each in found:
            assert isinstance(each, Observed)
            path = top / os.fsdecode(each.path)
            status = path.lstat()
            mode = 0 if each.kind is Kind.SYMLINK else stat.S_IMODE(status.st_mode)
            assert (
                each.fingerprint.inode,
                each.fingerprint.size,
                each.fingerprint.mtime_ns,
                each.fingerprint.mode,
            ) == (
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
                mode,
            )
            assert observe(root, each.path) == each


def test_directories_come_before_what_is_in_them(folder: Folder) -> None:
    folder.write(b"b/x/1", b"")
    folder.write(b"a", b"")
    folder.write(b"b-", b"")
    assert paths(folder.root) == [b"a", b"b", b"b/x", b"b/x/1", b"b-"]
    assert paths(folder.root, recursive=False) == [b"a", b"b", b"b-"]
    assert paths(folder.root, b"b") == [b"b", b"b/x", b"b/x/1"]
    assert paths(folder.root, b"b", recursive=False) == [b"b", b"b/x"]
    assert paths(folder.root, b"a") == [b"a"]
    assert paths(folder.root, b"nothing") == []
    assert paths(folder.root, b"a/below") == []


def test_the_private_directory_is_never_seen(folder: Folder) -> None:
    folder.write(b"sub/.syncer/marker", b"another folder's")
    assert paths(folder.root) == [b"sub"]


def test_names_are_raw_bytes(folder: Folder) -> None:
    odd = [b"\xff\xfe", b"new\nline", b"n" * 255, "\u00e9".encode(), "e\u0301".encode(), b" ", b"-rf"]
    for name in odd:
        folder.write(name, name)
    assert paths(folder.root) == sorted(odd)


def test_trees_deeper_than_a_path_can_name(folder: Folder) -> None:
    depth = 190
    fd = os.open(folder.path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(b"d" * 20, dir_fd=fd)
        below = os.open(b"d" * 20, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    *seen, problem = scan(folder.root)
    assert len(seen) == (PATH_MAX + 1) // 21
    assert isinstance(problem, Problem)
    assert len(problem.path) == PATH_MAX + 21 - (PATH_MAX + 1) % 21
    shutil.rmtree(folder.path / ("d" * 20))


def test_special_files_are_noted(folder: Folder) -> None:
    os.mkfifo(folder.at(b"fifo"))
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder.at(b"socket")))
    problems = list(scan(folder.root))
    assert [type(problem) for problem in problems] == [Problem, Problem]
    assert [problem.path for problem in problems] == [b"fifo", b"socket"]
    assert observe(folder.root, b"fifo") == problems[0]


def test_symlinks_are_not_followed(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("")
    folder.at(b"link").symlink_to(tmp_path / "outside")
    assert paths(folder.root) == [b"link"]
    assert paths(folder.root, b"link") == [b"link"]
    assert paths(folder.root, b"link/secret") == []
    assert observe(folder.root, b"link/secret") is None


def test_a_directory_swapped_for_a_symlink_during_the_scan(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("")
    folder.write(b"dir/file", b"")
    walk = scan(folder.root)
    first = next(walk)
    assert first.path == b"dir"
    folder.at(b"dir").rename(tmp_path / "dir")
    folder.at(b"dir").symlink_to(tmp_path / "outside")
    (problem,) = walk
    assert isinstance(problem, Problem)
    assert problem.path == b"dir"


def test_what_vanishes_is_left_out(folder: Folder) -> None:
    for name in (b"a", b"b", b"c"):
        folder.write(name, b"")
    walk = scan(folder.root)
    assert next(walk).path == b"a"
    folder.at(b"b").unlink()
    assert [found.path for found in walk] == [b"c"]


@pytest.mark.root
def test_an_unreadable_directory_is_a_problem_and_not_an_absence() -> None:
    with tempfile.TemporaryDirectory() as directory, Root(Path(directory)).create() as root:
        closed = root.folder / "closed"
        closed.mkdir()
        (closed / "file").touch()
        closed.chmod(0)
        for path in (root.folder, root.folder / ".syncer", root.folder / ".syncer" / "marker"):
            path.chmod(0o755)

        def says_so() -> bool:
            found = [(type(each), each.path) for each in scan(root)]
            return found == [(Observed, b"closed"), (Problem, b"closed")]

        assert in_child_as_nobody(says_so)


def test_a_root_that_is_replaced_during_the_scan_ends_it(folder: Folder, tmp_path: Path) -> None:
    folder.write(b"a", b"")
    folder.write(b"b", b"")
    walk = scan(folder.root)
    next(walk)
    folder.path.rename(tmp_path / "elsewhere")
    with pytest.raises(RootMissing):
        list(walk)
    with pytest.raises(RootMissing):
        list(scan(folder.root))


def test_a_file_of_a_far_future_is_said_and_harms_nothing_else(folder: Folder) -> None:
    for name in ("d", "d/far", "d/near"):
        place = folder.path / name
        place.mkdir() if name == "d" else place.write_text(name)
    far = 13_000_000_000 * 1_000_000_000  # the year 2381, beyond 64 bits of nanoseconds
    for name in ("d", "d/far"):
        os.utime(folder.path / name, ns=(far, far))
    found = {item.path: item for item in scan(folder.root)}
    assert isinstance(found[b"d/far"], Problem)
    observed = [item for item in found.values() if isinstance(item, Observed)]
    assert [item.path for item in observed] == [b"d", b"d/near"]
    assert all(item.fingerprint.mtime_ns < 1 << 63 for item in observed)
