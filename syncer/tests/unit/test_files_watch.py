"""Watching: every change is hinted at, directories that come are watched, a lost event is known to be lost."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer.files import watch
from syncer.files.watch import WatchBatch, Watcher
from syncer.tests.unit.sample_folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path / "folder")
    yield made
    made.close()


@pytest.fixture
def watcher(folder: Folder) -> Iterator[Watcher]:
    with Watcher(folder.root) as made:
        made.add_tree()
        yield made
        assert made.degraded is None


def is_readable(watcher: Watcher) -> bool:
    poll = select.poll()
    poll.register(watcher.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def test_add_tree_says_what_is_new(folder: Folder) -> None:
    folder.write(b"a/b/file", b"")
    folder.write(b"a/.syncer/file", b"")
    folder.at(b"link").symlink_to("a")
    with Watcher(folder.root) as watcher:
        assert watcher.add_tree() == {b"", b"a", b"a/b"}
        assert watcher.add_tree() == set()
        folder.at(b"a/c").mkdir()
        assert watcher.add_tree(b"a") == {b"a/c"}
        assert watcher.add_tree(b"nothing") == set()


def test_quiet_folders_say_nothing(watcher: Watcher) -> None:
    assert not is_readable(watcher)
    assert watcher.read() == WatchBatch(set(), False)


CHANGES = {
    "create": ("touch new", {b""}),
    "write": ("echo more >> dir/file", {b"dir"}),
    "chmod": ("chmod 600 dir/file", {b"dir"}),
    "touch": ("touch -d @5 dir/file", {b"dir"}),
    "delete": ("rm dir/file", {b"dir"}),
    "rename": ("mv dir/file dir/other", {b"dir"}),
    "move": ("mv dir/file other/file", {b"dir", b"other"}),
    "symlink": ("ln -s x dir/link", {b"dir"}),
    "hard link": ("ln dir/file other/link", {b"other"}),
    "new directories": ("mkdir -p dir/a/b/c", {b"dir", b"dir/a", b"dir/a/b", b"dir/a/b/c"}),
    "moved directory": ("mv dir other/dir", {b"", b"other", b"other/dir"}),
    "removed directory": ("rm -r dir", {b"", b"dir"}),
    "odd name": ("mkdir $'dir/\\xff'", {b"dir", b"dir/\xff"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_hints(folder: Folder, change: str) -> None:
    command, expected = CHANGES[change]
    folder.write(b"dir/file", b"")
    folder.at(b"other").mkdir()
    with Watcher(folder.root) as watcher:
        watcher.add_tree()
        subprocess.run(["bash", "-c", command], cwd=folder.path, check=True)
        assert is_readable(watcher)
        dirty, overflow = watcher.read()
        assert not overflow
        assert dirty >= expected
        assert dirty <= expected | {b"dir"}


def test_the_private_directory_gives_no_hints(folder: Folder, watcher: Watcher) -> None:
    folder.stage(b"path", b"data")
    folder.at(b".syncer/new").mkdir()
    assert watcher.read().dirty == set()


def test_what_happens_in_a_new_directory_is_seen(folder: Folder, watcher: Watcher) -> None:
    folder.write(b"a/b/file", b"one")
    assert watcher.read().dirty == {b"", b"a", b"a/b"}
    folder.write(b"a/b/file", b"two")
    assert watcher.read().dirty == {b"a/b"}


def test_a_moved_directory_is_watched_where_it_went(folder: Folder, watcher: Watcher) -> None:
    folder.write(b"a/b/file", b"one")
    folder.at(b"elsewhere").mkdir()
    watcher.read()
    folder.at(b"a").rename(folder.at(b"elsewhere/a"))
    folder.write(b"elsewhere/a/b/file", b"two")
    assert watcher.read().dirty >= {b"", b"elsewhere", b"elsewhere/a", b"elsewhere/a/b"}
    folder.write(b"elsewhere/a/b/file", b"three")
    assert watcher.read().dirty == {b"elsewhere/a/b"}


def test_a_directory_moved_out_is_let_go(folder: Folder, watcher: Watcher, tmp_path: Path) -> None:
    folder.write(b"a/b/file", b"one")
    watcher.read()
    folder.at(b"a").rename(tmp_path / "a")
    assert watcher.read().dirty == {b""}
    (tmp_path / "a" / "b" / "file").write_bytes(b"two")
    assert watcher.read() == WatchBatch(set(), False)


def test_a_directory_made_again_under_its_name(folder: Folder, watcher: Watcher) -> None:
    for _ in range(3):
        folder.write(b"a/file", b"")
        folder.at(b"a/file").unlink()
        folder.at(b"a").rmdir()
    folder.write(b"a/file", b"")
    assert watcher.read().dirty == {b"", b"a"}
    folder.write(b"a/file", b"again")
    assert watcher.read().dirty == {b"a"}


def test_directories_that_swap_names(folder: Folder, watcher: Watcher) -> None:
    folder.write(b"a/one/file", b"")
    folder.write(b"b/two/file", b"")
    watcher.read()
    folder.at(b"a").rename(folder.at(b"c"))
    folder.at(b"b").rename(folder.at(b"a"))
    folder.at(b"c").rename(folder.at(b"b"))
    watcher.read()
    folder.write(b"a/two/file", b"now")
    folder.write(b"b/one/file", b"now")
    assert watcher.read().dirty == {b"a/two", b"b/one"}


def test_a_symlink_to_a_directory_is_not_followed(folder: Folder, watcher: Watcher, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    folder.at(b"link").symlink_to(tmp_path / "outside")
    assert watcher.read().dirty == {b""}
    (tmp_path / "outside" / "file").touch()
    assert watcher.read().dirty == set()


def test_lost_events_are_known_to_be_lost(folder: Folder, watcher: Watcher) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    fd = os.open(folder.path, os.O_RDONLY)
    for number in range(limit // 2 + 10):
        # two events each time, never the same twice in a row: equal ones in a row are merged
        os.close(os.open(b"%d" % (number % 2), os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.unlink(b"%d" % (number % 2), dir_fd=fd)
    os.close(fd)
    folder.write(b"unseen/below/file", b"")
    batch = watcher.read()
    assert batch.overflow
    assert batch.dirty >= {b"unseen", b"unseen/below"}
    folder.write(b"unseen/below/file", b"seen")
    assert watcher.read() == WatchBatch({b"unseen/below"}, False)


@pytest.mark.parametrize("loss", ["moved", "removed"])
def test_losing_the_folder_itself_asks_for_a_full_scan(
    folder: Folder, watcher: Watcher, tmp_path: Path, loss: str
) -> None:
    if loss == "moved":
        folder.path.rename(tmp_path / "elsewhere")
    else:
        subprocess.run(["rm", "-r", folder.path], check=True)
    assert watcher.read().overflow


def test_a_watch_limit_is_said(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write(b"a/b/file", b"")
    with Watcher(folder.root) as watcher:
        add_watch = watch.INotify.add_watch

        def limited(self: watch.INotify, path: str, mask: int) -> int:
            if len(watcher._paths) >= 1:
                raise OSError(28, "No space left on device")
            return int(add_watch(self, path, mask))

        monkeypatch.setattr(watch.INotify, "add_watch", limited)
        assert watcher.add_tree() == {b"", b"a", b"a/b"}
        assert "max_user_watches" in (watcher.degraded or "")
        monkeypatch.setattr(watch.INotify, "add_watch", add_watch)
        assert watcher.add_tree() == {b"a", b"a/b"}
        assert watcher.degraded is None


def move_in(folder: Folder, path: bytes) -> None:
    """As an install does: out of the private directory, which is not watched."""
    staged = folder.path / ".syncer" / "tmp" / "staged"
    staged.write_bytes(b"data")
    staged.rename(folder.at(path))


def test_our_own_moves_are_no_hints(folder: Folder, watcher: Watcher) -> None:
    folder.at(b"dir").mkdir()
    assert watcher.read().dirty
    watcher.expect_moves([b"dir/one", b"dir/two", b"top"])
    for path in (b"dir/one", b"dir/two", b"top"):
        move_in(folder, path)
    assert watcher.read() == WatchBatch(set(), False)
    watcher.forget_moves()
    move_in(folder, b"dir/one")
    assert watcher.read().dirty == {b"dir"}


@pytest.mark.parametrize("change", ["echo more >> dir/one", "mv other dir/one", "rm dir/one", "mv dir/one away"])
def test_what_a_user_does_to_a_file_of_ours_is_a_hint(folder: Folder, watcher: Watcher, change: str) -> None:
    folder.at(b"dir").mkdir()
    folder.write(b"other", b"user's")
    assert watcher.read().dirty
    watcher.expect_moves([b"dir/one"])
    move_in(folder, b"dir/one")
    subprocess.run(change, shell=True, cwd=folder.path, check=True)
    assert b"dir" in watcher.read().dirty


def test_a_directory_that_a_user_moves_to_where_ours_should_go_is_watched(folder: Folder, watcher: Watcher) -> None:
    folder.write(b"dir/below/file", b"user's")
    assert watcher.read().dirty
    watcher.expect_moves([b"moved"])
    folder.at(b"dir").rename(folder.at(b"moved"))
    assert {b"", b"moved", b"moved/below"} <= watcher.read().dirty
    watcher.forget_moves()
    folder.write(b"moved/below/more", b"user's")
    assert watcher.read().dirty == {b"moved/below"}
