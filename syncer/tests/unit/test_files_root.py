"""The folder's identity, and that no path leads out of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from syncer.errors import InputError, RootMissing, WireError
from syncer.files.root import PATH_MAX, Root, is_valid_path


def test_create_is_repeatable_and_keeps_the_identity(tmp_path: Path) -> None:
    with Root(tmp_path / "deep" / "folder").create() as first, Root(tmp_path / "deep" / "folder").create() as second:
        assert first.id == second.id
        assert len(first.id) == 32
        assert first.names_in(b".syncer") == [b"marker", b"tmp"]


def test_open_needs_a_marker(tmp_path: Path) -> None:
    with pytest.raises(RootMissing, match="marker") as missing:
        Root(tmp_path).open()
    assert missing.value.hint
    with pytest.raises(RootMissing):
        Root(tmp_path / "nothing").open()


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        Root(tmp_path / "file" / "folder").create()


def test_a_lost_temporary_directory_is_made_again(tmp_path: Path) -> None:
    Root(tmp_path).create().close()
    (tmp_path / ".syncer" / "tmp").rmdir()
    with Root(tmp_path).open() as root:
        assert root.names_in(b".syncer/tmp") == []


@pytest.mark.parametrize("loss", ["removed", "replaced", "marker gone", "marker of another", "marker is a symlink"])
def test_check_notices(tmp_path: Path, loss: str) -> None:
    folder = tmp_path / "folder"
    with Root(folder).create() as root:
        root.check()
        marker = folder / ".syncer" / "marker"
        if loss == "removed":
            shutil.rmtree(folder)
        elif loss == "replaced":
            folder.rename(tmp_path / "elsewhere")
            shutil.copytree(tmp_path / "elsewhere", folder)
        elif loss == "marker gone":
            marker.unlink()
        elif loss == "marker of another":
            marker.write_text("0" * 32)
        else:
            marker.rename(tmp_path / "marker")
            marker.symlink_to(tmp_path / "marker")
        with pytest.raises(RootMissing):
            root.check()


def test_no_component_may_be_a_symlink(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("theirs")
    with Root(tmp_path / "folder").create() as root:
        (root.folder / "link").symlink_to(outside)
        (root.folder / "file").write_text("ours")
        for path in (b"link/secret", b"file/below"):
            with pytest.raises(NotADirectoryError):
                root.open_file(path)
            with pytest.raises(NotADirectoryError):
                root.lstat(path)
        with pytest.raises(OSError, match="symbolic"):
            root.open_file(b"link")


@pytest.mark.parametrize("path", [b"..", b"../outside", b"a/..", b"a/../../outside", b"a//b", b"./a"])
def test_no_component_leads_upward(tmp_path: Path, path: bytes) -> None:
    (tmp_path / "folder" / "a").mkdir(parents=True)
    (tmp_path / "outside").write_text("theirs")
    with Root(tmp_path / "folder").create() as root:
        for look in (root.open_file, root.lstat, root.open_directory):
            with pytest.raises(WireError):
                look(path)


def test_reading_a_fifo_does_not_wait(tmp_path: Path) -> None:
    with Root(tmp_path).create() as root:
        os.mkfifo(tmp_path / "fifo")
        os.close(root.open_file(b"fifo"))


@pytest.mark.parametrize(
    "path",
    [
        *(b"", b"/", b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"../a", b"a/.", b"a\0b", b"n" * 256),
        *(b".syncer", b".syncer/marker", b"a/.syncer/b", b"a/" * (PATH_MAX // 2) + b"a"),
    ],
)
def test_paths_that_no_peer_may_name(path: bytes) -> None:
    assert not is_valid_path(path)


@given(st.lists(st.binary(min_size=1, max_size=255), min_size=1, max_size=10))
def test_all_other_paths_are_valid(parts: list[bytes]) -> None:
    assume(not any(b"/" in part or b"\0" in part or part in (b".", b"..", b".syncer") for part in parts))
    assert is_valid_path(b"/".join(parts))
