"""Installing: what a reader sees, what is kept, what is refused; and that a racing user never loses a write."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncer.core.records import Content, Entry, Fingerprint, Kind
from syncer.errors import DestinationChanged, DiskFailed, DiskFull, SourceChanged, WireError
from syncer.files import aside, install
from syncer.files.root import fingerprint_of
from syncer.files.scan import Problem, observe
from syncer.files.temp_store import partial_name
from syncer.tests.unit.sample_folder import MTIME_NS, Folder, content_of, file_entry, in_child_as_nobody


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path / "folder")
    yield made
    made.close()


def directory_entry(path: bytes, mode: int = 0o755) -> Entry:
    return Entry(path=path, kind=Kind.DIRECTORY, mode=mode)


def symlink_entry(path: bytes, target: bytes) -> Entry:
    return Entry(path=path, kind=Kind.SYMLINK, target=target)


# what is installed


@pytest.mark.parametrize("mode", [0o644, 0o400, 0o000, 0o755, 0o4755, 0o1777])
@pytest.mark.parametrize("mtime_ns", [0, -1, 1, MTIME_NS, 2**33 * 10**9 + 5])
def test_mode_and_mtime_are_exact(folder: Folder, mode: int, mtime_ns: int) -> None:
    temp = folder.stage(b"file", b"data")
    fingerprint = folder.installer.install_file(temp, file_entry(b"file", b"data", mode=mode, mtime_ns=mtime_ns), None)
    assert (fingerprint.mode, fingerprint.mtime_ns, fingerprint.size) == (mode, mtime_ns, 4)
    assert folder.fingerprint(b"file") == fingerprint
    assert folder.leftovers() == []


@pytest.mark.parametrize("name", [b"\xff\xfe\n", b"n" * 255, "\u00e9".encode(), "e\u0301".encode(), b"-rf *"])
def test_any_name(folder: Folder, name: bytes) -> None:
    folder.installer.make_directory(directory_entry(name))
    path = name + b"/" + name
    first = folder.install(path, b"one", None)
    second = folder.install(path, b"two", first)
    assert folder.tree() == {name: None, path: b"two"}
    folder.installer.remove(path, Kind.FILE, second)
    assert folder.tree() == {name: None}
    assert folder.leftovers() == []


@pytest.mark.parametrize("mode", [0o755, 0o555, 0o000, 0o2775, 0o1777])
def test_directories(folder: Folder, mode: int) -> None:
    fingerprint = folder.installer.make_directory(directory_entry(b"dir", mode))
    assert fingerprint == folder.fingerprint(b"dir")
    assert fingerprint.mode == mode
    folder.installer.remove(b"dir", Kind.DIRECTORY, fingerprint)
    assert folder.tree() == {}


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../outside", b"dangling", b"\xff", b"t" * 3000])
def test_symlinks(folder: Folder, target: bytes) -> None:
    fingerprint = folder.installer.make_symlink(symlink_entry(b"link", target))
    assert folder.observe(b"link").target == target
    assert folder.fingerprint(b"link") == fingerprint
    folder.installer.remove(b"link", Kind.SYMLINK, fingerprint)
    assert folder.tree() == {}


def make(folder: Folder, kind: Kind, text: bytes, expected: Fingerprint | None, **keep: bytes) -> Fingerprint:
    if kind is Kind.FILE:
        return folder.install(b"path", text, expected, **keep)
    if kind is Kind.SYMLINK:
        return folder.installer.make_symlink(symlink_entry(b"path", text), expected, **keep)
    return folder.installer.make_directory(directory_entry(b"path"), expected, **keep)


@pytest.mark.parametrize("new", Kind)
@pytest.mark.parametrize("old", Kind)
def test_any_kind_replaces_any_kind(folder: Folder, old: Kind, new: Kind) -> None:
    before = make(folder, old, b"old", None)
    after = make(folder, new, b"new", before)
    assert folder.observe(b"path").kind is new
    assert folder.fingerprint(b"path") == after
    assert folder.tree() == {b"path": None if new is Kind.DIRECTORY else b"new"}
    assert folder.leftovers() == []


@pytest.mark.parametrize("new", Kind)
@pytest.mark.parametrize("old", Kind)
def test_any_kind_is_kept_when_replaced(folder: Folder, old: Kind, new: Kind) -> None:
    before = make(folder, old, b"old", None)
    make(folder, new, b"new", before, keep_as=b"kept")
    contents = {Kind.DIRECTORY: None}
    assert folder.tree() == {b"path": contents.get(new, b"new"), b"kept": contents.get(old, b"old")}
    assert folder.fingerprint(b"kept").inode == before.inode
    assert folder.leftovers() == []


def test_nothing_is_kept_over_something(folder: Folder) -> None:
    before = folder.install(b"path", b"old", None)
    folder.write(b"kept", b"user's")
    with pytest.raises(DestinationChanged):
        folder.install(b"path", b"new", before, keep_as=b"kept")
    assert folder.tree() == {b"path": b"old", b"kept": b"user's"}
    assert folder.leftovers() == [folder.stage(b"path", b"new")]


def test_metadata_alone(folder: Folder) -> None:
    before = folder.install(b"file", b"data", None)
    after = folder.installer.set_metadata(file_entry(b"file", b"data", mode=0o600, mtime_ns=5), before)
    assert (after.inode, after.mode, after.mtime_ns) == (before.inode, 0o600, 5)
    assert folder.fingerprint(b"file") == after
    made = folder.installer.make_directory(directory_entry(b"dir"))
    folder.write(b"dir/file", b"")
    assert folder.installer.set_metadata(directory_entry(b"dir", 0o700), made) == folder.fingerprint(b"dir")
    assert folder.fingerprint(b"dir").mode == 0o700
    folder.installer.flush()


@pytest.mark.root
def test_metadata_of_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "folder")
    fingerprint = folder.write(b"file", b"data")
    for path in (folder.path, folder.at(b"file"), folder.path / ".syncer", folder.path / ".syncer" / "tmp"):
        os.chown(path, 65534, 65534)
    folder.at(b"file").chmod(0)
    fingerprint = folder.fingerprint(b"file")
    entry = file_entry(b"file", b"data", mode=0o640)

    def sets_it() -> bool:
        return folder.installer.set_metadata(entry, fingerprint).mode == 0o640

    assert in_child_as_nobody(sets_it)
    assert folder.fingerprint(b"file").mode == 0o640
    folder.close()


def test_moving_aside(folder: Folder) -> None:
    before = folder.install(b"file", b"data", None)
    moved = folder.installer.rename_aside(b"file", b"aside", before)
    assert folder.tree() == {b"aside": b"data"}
    assert folder.fingerprint(b"aside") == moved
    other = folder.install(b"file", b"other", None)
    with pytest.raises(DestinationChanged):
        folder.installer.rename_aside(b"file", b"aside", other)
    assert folder.tree() == {b"aside": b"data", b"file": b"other"}


# what is refused


def changed_by(folder: Folder, how: str) -> bytes:
    """A user does something to the file ``b"path"``; returns what must stand there afterwards."""
    path = folder.at(b"path")
    if how == "written, same size":
        status = path.stat()
        path.write_bytes(b"OLD")
        # not the time of the old one: else only the change time tells
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
        return b"OLD"
    if how == "replaced":
        (path.parent / "other").write_bytes(b"old")
        (path.parent / "other").rename(path)
        return b"old"
    if how == "chmod":
        path.chmod(0o604)
        return b"old"
    path.write_bytes(b"longer")
    return b"longer"


CHANGES = ["written, same size", "replaced", "chmod", "written"]


@pytest.mark.parametrize("how", CHANGES)
def test_a_destination_that_changed_is_left_alone(folder: Folder, how: str) -> None:
    before = folder.install(b"path", b"old", None)
    now = changed_by(folder, how)
    fingerprint = folder.fingerprint(b"path")
    entry = file_entry(b"path", b"new")
    temp = folder.stage(b"path", b"new")
    attempts: list[Callable[[], object]] = [
        lambda: folder.installer.install_file(temp, entry, before),
        lambda: folder.installer.install_file(temp, entry, before, keep_as=b"kept"),
        lambda: folder.installer.install_file(temp, entry, None),
        lambda: folder.installer.make_directory(directory_entry(b"path"), before),
        lambda: folder.installer.make_symlink(symlink_entry(b"path", b"x"), before),
        lambda: folder.installer.remove(b"path", Kind.FILE, before),
        lambda: folder.installer.rename_aside(b"path", b"aside", before),
        lambda: folder.installer.set_metadata(entry, before),
    ]
    for attempt in attempts:
        with pytest.raises(DestinationChanged):
            attempt()
        assert folder.tree() == {b"path": now}
        assert folder.fingerprint(b"path") == fingerprint
        assert folder.leftovers() == [temp]


def test_what_is_open_for_writing_is_left_alone(folder: Folder) -> None:
    before = folder.install(b"path", b"old", None)
    with folder.at(b"path").open("r+b") as file:
        with pytest.raises(DestinationChanged, match="open for writing"):
            folder.install(b"path", b"new", before)
        with pytest.raises(DestinationChanged):
            folder.installer.set_metadata(file_entry(b"path", b"old", mode=0o600), before)
        mapped = mmap.mmap(file.fileno(), 0)
    with pytest.raises(DestinationChanged, match="open for writing"):
        folder.installer.remove(b"path", Kind.FILE, before)
    mapped.close()
    with folder.at(b"path").open("rb"):
        folder.install(b"path", b"new", before)


def test_a_directory_that_is_not_empty_stays(folder: Folder) -> None:
    made = folder.installer.make_directory(directory_entry(b"path"))
    folder.write(b"path/file", b"user's")
    with pytest.raises(DestinationChanged):
        folder.installer.remove(b"path", Kind.DIRECTORY, made)
    with pytest.raises(DestinationChanged):
        folder.install(b"path", b"new", made)
    assert folder.tree() == {b"path": None, b"path/file": b"user's"}
    folder.install(b"path", b"new", made, keep_as=b"kept")
    assert folder.tree() == {b"path": b"new", b"kept": None, b"kept/file": b"user's"}


@pytest.mark.parametrize("missing", ["parent", "destination"])
def test_what_is_gone_is_not_replaced(folder: Folder, missing: str) -> None:
    before = folder.write(b"dir/path", b"old")
    folder.at(b"dir/path").unlink()
    if missing == "parent":
        folder.at(b"dir").rmdir()
        with pytest.raises(DestinationChanged):
            folder.install(b"dir/path", b"new", None)
    with pytest.raises(DestinationChanged):
        folder.install(b"dir/path", b"new", before)
    with pytest.raises(DestinationChanged):
        folder.installer.remove(b"dir/path", Kind.FILE, before)


def test_a_parent_swapped_for_a_symlink_leads_nowhere(folder: Folder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    before = folder.write(b"dir/path", b"old")
    folder.at(b"dir").rename(outside)
    folder.at(b"dir").symlink_to(outside)
    entry = file_entry(b"dir/path", b"new")
    temp = folder.stage(b"dir/path", b"new")
    attempts: list[Callable[[], object]] = [
        lambda: folder.installer.install_file(temp, entry, before),
        lambda: folder.installer.install_file(temp, file_entry(b"dir/other", b"new"), None),
        lambda: folder.installer.make_directory(directory_entry(b"dir/other")),
        lambda: folder.installer.make_symlink(symlink_entry(b"dir/other", b"x")),
        lambda: folder.installer.remove(b"dir/path", Kind.FILE, before),
        lambda: folder.installer.rename_aside(b"dir/path", b"aside", before),
        lambda: folder.installer.set_metadata(entry, before),
    ]
    for attempt in attempts:
        with pytest.raises(DestinationChanged):
            attempt()
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"path": b"old"}


@pytest.mark.parametrize("what", ["missing", "short"])
def test_a_temporary_file_that_is_not_whole_is_not_installed(folder: Folder, what: str) -> None:
    entry = file_entry(b"path", b"data")
    temp = folder.stage(b"path", b"dat") if what == "short" else partial_name(b"path", b"d" * 32)
    with pytest.raises(SourceChanged):
        folder.installer.install_file(temp, entry, None)
    assert folder.tree() == {}


@pytest.mark.parametrize(
    "path", [b"../escaped", b"dir/../../escaped", b"..", b"", b"/tmp/x", b".syncer/marker", b"a//b"]
)
def test_no_path_leads_out_of_the_folder(folder: Folder, tmp_path: Path, path: bytes) -> None:
    folder.at(b"dir").mkdir()
    (tmp_path / "escaped").write_bytes(b"theirs")
    status = (tmp_path / "escaped").stat()
    expected = fingerprint_of(status)
    temp = folder.stage(b"x", b"new")
    attempts: list[Callable[[], object]] = [
        lambda: folder.installer.install_file(temp, file_entry(path, b"new"), None),
        lambda: folder.installer.install_file(temp, file_entry(path, b"new"), expected),
        lambda: folder.installer.make_directory(directory_entry(path)),
        lambda: folder.installer.make_symlink(symlink_entry(path, b"x")),
        lambda: folder.installer.set_metadata(file_entry(path, b"theirs"), expected),
        lambda: folder.installer.remove(path, Kind.FILE, expected),
        lambda: folder.installer.rename_aside(path, b"aside", expected),
    ]
    for attempt in attempts:
        with pytest.raises(WireError):
            attempt()
    assert (tmp_path / "escaped").stat() == status
    assert folder.tree() == {b"dir": None}


@pytest.mark.parametrize(
    "entry",
    [
        replace(file_entry(b"x", b"data"), mode=-1),
        replace(file_entry(b"x", b"data"), mode=0o10000),
        replace(file_entry(b"x", b"data"), mtime_ns=1 << 63),
        replace(file_entry(b"x", b"data"), content=None),
        replace(file_entry(b"x", b"data"), content=Content(4, b"d" * 32, 1 << 17, b"")),
        replace(file_entry(b"x", b"data"), content=Content(4, b"short", 1 << 17, b"d" * 32)),
        replace(file_entry(b"x", b"data"), content=Content(4, b"d" * 32, 0, b"d" * 32)),
        Entry(path=b"x", kind=Kind.SYMLINK, target=b""),
        Entry(path=b"x", kind=Kind.SYMLINK, target=b"a\0b"),
    ],
)
def test_impossible_entries_are_refused(folder: Folder, entry: Entry) -> None:
    with pytest.raises(WireError):
        if entry.kind is Kind.SYMLINK:
            folder.installer.make_symlink(entry)
        else:
            folder.installer.install_file(folder.stage(b"x", b"data"), entry, None)
    assert folder.tree() == {}


# races: a user acts between any two steps


def before_step(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, action: Callable[[], object], *, call: int = 1
) -> None:
    """Runs ``action`` just before the ``call``-th time that ``module`` calls ``name``."""
    original = getattr(module, name)
    calls = 0

    def acting(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            action()
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, acting)


@pytest.mark.parametrize("how", ["written", "replaced", "chmod"])
@pytest.mark.parametrize("keep", [{}, {"keep_as": b"kept"}])
def test_a_write_just_before_the_exchange_is_put_back(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, how: str, keep: dict[str, bytes]
) -> None:
    before = folder.install(b"path", b"old", None)
    seen: list[bytes] = []
    before_step(monkeypatch, aside, "exchange", lambda: seen.append(changed_by(folder, how)))
    with pytest.raises(DestinationChanged):
        folder.install(b"path", b"new", before, **keep)
    assert folder.tree() == {b"path": seen[0]}
    assert folder.leftovers() == [partial_name(b"path", content_of(b"new").digest)]


def test_a_writer_that_opens_just_before_the_exchange_goes_on_writing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder.install(b"path", b"old", None)
    files = []
    before_step(monkeypatch, aside, "exchange", lambda: files.append(folder.at(b"path").open("r+b")))
    with pytest.raises(DestinationChanged):
        folder.install(b"path", b"new", before)
    with files[0] as file:
        file.write(b"user")
    assert folder.tree() == {b"path": b"user"}


def test_a_replacement_of_ours_before_it_is_taken_back_stays(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user writes before the exchange, and replaces the file between it and its undoing: both are kept."""
    before = folder.install(b"path", b"old", None)
    before_step(monkeypatch, aside, "exchange", lambda: folder.write(b"path", b"first edit"))

    def replace() -> None:
        folder.write(b"other", b"second edit")
        folder.at(b"other").rename(folder.at(b"path"))

    before_step(monkeypatch, aside, "exchange", replace, call=2)
    with pytest.raises(DestinationChanged):
        folder.install(b"path", b"new", before)
    tree = folder.tree()
    assert tree.pop(b"path") == b"second edit"
    ((rescued, data),) = tree.items()
    assert rescued.startswith(b"path.rescued-")
    assert data == b"first edit"


def test_a_deletion_of_ours_before_it_is_taken_back(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folder.install(b"path", b"old", None)
    before_step(monkeypatch, aside, "exchange", lambda: folder.write(b"path", b"edit"))
    before_step(monkeypatch, aside, "exchange", lambda: folder.at(b"path").unlink(), call=2)
    with pytest.raises(DestinationChanged):
        folder.install(b"path", b"new", before)
    assert folder.tree() == {b"path": b"edit"}


@pytest.mark.parametrize("how", ["written", "replaced", "chmod"])
def test_a_write_just_before_a_removal_is_put_back(folder: Folder, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    before = folder.install(b"path", b"old", None)
    seen: list[bytes] = []
    before_step(monkeypatch, aside.os, "rename", lambda: seen.append(changed_by(folder, how)))
    with pytest.raises(DestinationChanged):
        folder.installer.remove(b"path", Kind.FILE, before)
    assert folder.tree() == {b"path": seen[0]}
    assert folder.leftovers() == []


def test_a_directory_filled_just_before_it_is_replaced_is_put_back(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = folder.installer.make_directory(directory_entry(b"path"))
    before_step(monkeypatch, aside, "exchange", lambda: folder.write(b"path/file", b"user's"))
    with pytest.raises(DestinationChanged):
        folder.install(b"path", b"new", made)
    assert folder.tree() == {b"path": None, b"path/file": b"user's"}


def test_a_file_made_just_before_a_new_one_is_installed_stays(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    before_step(monkeypatch, install, "rename_new", lambda: folder.write(b"path", b"user's"))
    with pytest.raises(DestinationChanged):
        folder.install(b"path", b"new", None)
    assert folder.tree() == {b"path": b"user's"}


def test_a_write_just_after_the_install_shows_in_the_fingerprint(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename_new = install.rename_new

    def then_written(*arguments: object) -> None:
        rename_new(*arguments)  # type: ignore[arg-type]
        folder.write(b"path", b"usr")

    monkeypatch.setattr(install, "rename_new", then_written)
    fingerprint = folder.install(b"path", b"new", None)
    assert folder.fingerprint(b"path") != fingerprint
    assert folder.tree() == {b"path": b"usr"}


def test_a_reader_sees_the_old_or_the_new_and_always_something(folder: Folder) -> None:
    versions = [b"%06d" % number * 2000 for number in range(300)]
    expected = folder.install(b"path", versions[0], None)
    stop = threading.Event()
    seen: set[bytes] = set()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                seen.add(folder.at(b"path").read_bytes())
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for version in versions[1:]:
        expected = folder.install(b"path", version, expected)
    stop.set()
    reader.join()
    assert failures == []
    assert len(seen) > 1
    assert seen <= set(versions)


# local copies


def test_a_local_copy_is_verified_and_keeps_holes(folder: Folder) -> None:
    with folder.at(b"sparse").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"in the middle")
        file.truncate(64 << 20)
    data = folder.at(b"sparse").read_bytes()
    temp = partial_name(b"copy", b"d" * 32)
    folder.installer.copy_local(b"sparse", content_of(data), temp)
    folder.installer.install_file(temp, file_entry(b"copy", data), None)
    assert folder.at(b"copy").read_bytes() == data
    assert folder.at(b"copy").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("data", [b"", b"x", b"abc" * 100_000])
def test_local_copies_of_all_sizes(folder: Folder, data: bytes) -> None:
    folder.write(b"source", data)
    temp = partial_name(b"copy", b"d" * 32)
    folder.installer.copy_local(b"source", content_of(data), temp)
    folder.installer.install_file(temp, file_entry(b"copy", data), None)
    assert folder.tree() == {b"source": data, b"copy": data}


@pytest.mark.parametrize("now", [b"other", b"dat", b"data and more", None])
def test_a_copy_of_other_content_is_thrown_away(folder: Folder, now: bytes | None) -> None:
    if now is not None:
        folder.write(b"source", now)
    with pytest.raises(SourceChanged):
        folder.installer.copy_local(b"source", content_of(b"datas"), partial_name(b"copy", b"d" * 32))
    assert folder.leftovers() == []


# the disk


def test_a_failed_fsync_throws_the_copy_away(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write(b"source", b"data")
    calls = []

    def failing(fd: int) -> None:
        calls.append(fd)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(install.os, "fsync", failing)
    with pytest.raises(DiskFailed):
        folder.installer.copy_local(b"source", content_of(b"data"), b"get-copy")
    assert folder.leftovers() == []
    assert len(calls) == 1


def test_a_failed_flush_is_said_once_and_not_tried_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.install(b"path", b"data", None)
    calls = []

    def failing(fd: int) -> None:
        calls.append(fd)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(install.os, "fsync", failing)
    with pytest.raises(DiskFailed):
        folder.installer.flush()
    folder.installer.flush()
    assert len(calls) == 1


def test_flush_syncs_every_directory_that_changed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noting(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink().relative_to(folder.path)))
        fsync(fd)

    folder.installer.make_directory(directory_entry(b"a"))
    folder.installer.make_directory(directory_entry(b"a/b"))
    one = folder.install(b"a/b/file", b"1", None)
    folder.install(b"a/b/file", b"2", one)
    gone = folder.installer.make_directory(directory_entry(b"a/gone"))
    folder.install(b"a/gone/file", b"", None)
    folder.installer.rename_aside(b"a/gone/file", b"a/kept", folder.fingerprint(b"a/gone/file"))
    folder.installer.remove(b"a/gone", Kind.DIRECTORY, gone)
    folder.installer.set_metadata(file_entry(b"a/kept", b""), folder.fingerprint(b"a/kept"))
    monkeypatch.setattr(install.os, "fsync", noting)
    folder.installer.flush()
    assert synced == [".", "a", "a/b", "a/kept"]
    folder.installer.flush()
    assert len(synced) == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 1 MiB and 24 inodes."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=24", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_a_full_disk_is_said_and_changes_nothing(small_disk: Path) -> None:
    folder = Folder(small_disk / "folder")
    data = os.urandom(700_000)
    fingerprint = folder.write(b"source", data)
    with pytest.raises(DiskFull) as full:
        folder.installer.copy_local(b"source", content_of(data), b"get-copy")
    assert full.value.hint
    assert folder.leftovers() == []
    with pytest.raises(DiskFull):
        for number in range(100):
            folder.installer.make_directory(directory_entry(b"%d" % number))
    with pytest.raises(DiskFull):
        folder.installer.remove(b"source", Kind.FILE, fingerprint)
    assert folder.tree()[b"source"] == data
    assert folder.leftovers() == []
    folder.close()


@pytest.mark.root
def test_another_file_system_below_is_not_written_to(folder: Folder) -> None:
    folder.at(b"mounted").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder.at(b"mounted")], check=True)
    try:
        with pytest.raises(DiskFailed):
            folder.install(b"mounted/file", b"data", None)
        assert list(folder.at(b"mounted").iterdir()) == []
        assert isinstance(observe(folder.root, b"mounted"), Problem)
    finally:
        subprocess.run(["umount", folder.at(b"mounted")], check=True)


@pytest.mark.parametrize("keep", [{}, {"keep_as": b"d/kept"}], ids=["drop", "keep"])
def test_what_cannot_be_finished_leaves_the_tree_as_it_was(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, keep: dict[str, bytes]
) -> None:
    """A full disk may refuse the copy's name, which needs room in its directory, when the exchange is done already."""
    (folder.path / "d").mkdir()
    before = folder.write(b"d/path", b"the user's")

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(aside.AsideStore, "_keep" if keep else "_drop", no_room)
        with pytest.raises(DiskFull):
            folder.install(b"d/path", b"new", before, **keep)
        if not keep:
            with pytest.raises(DiskFull):
                folder.installer.remove(b"d/path", Kind.FILE, folder.fingerprint(b"d/path"))
    assert folder.tree() == {b"d": None, b"d/path": b"the user's"}
    assert not folder.installer.recover()
    folder.install(b"d/path", b"new", folder.fingerprint(b"d/path"), **keep)
    assert folder.tree()[b"d/path"] == b"new"


# many at once


def test_many_new_files_are_as_single_ones(folder: Folder) -> None:
    for directory in (b"one", b"two"):
        folder.installer.make_directory(directory_entry(directory))
    paths = [b"top", b"one/a", b"one/b", b"two/a", b"two/b", b"two/c", b"one/c"]
    entries = [file_entry(path, path * n, mode=0o600 + n, mtime_ns=MTIME_NS + n) for n, path in enumerate(paths)]
    files = [(folder.stage(path, path * n), entry) for n, (path, entry) in enumerate(zip(paths, entries, strict=True))]
    assert folder.installer.install_new(files) == [folder.fingerprint(path) for path in paths]
    assert [folder.fingerprint(path).mode for path in paths] == [entry.mode for entry in entries]
    assert [folder.fingerprint(path).mtime_ns for path in paths] == [entry.mtime_ns for entry in entries]
    assert folder.tree() == {b"one": None, b"two": None} | {path: path * n for n, path in enumerate(paths)}
    assert folder.leftovers() == []


def test_of_many_new_files_each_is_refused_for_itself(folder: Folder, tmp_path: Path) -> None:
    folder.installer.make_directory(directory_entry(b"dir"))
    folder.at(b"leads out").symlink_to(tmp_path)
    folder.write(b"dir/occupied", b"user's")
    wrong = folder.stage(b"dir/wrong", b"too long")
    files = [
        (folder.stage(path, b"data"), file_entry(path, b"data"))
        for path in (b"dir/a", b"dir/occupied", b"dir/z", b"gone/a", b"gone/b", b"leads out/a", b"leads out/b")
    ]
    files.insert(2, (wrong, file_entry(b"dir/wrong", b"short")))
    files.insert(3, (b"get-missing", file_entry(b"dir/missing", b"data")))
    files.insert(4, (b"get-missing", file_entry(b"dir/../../escaped", b"data")))
    files.insert(5, (folder.stage(b"dir/mode", b"x"), file_entry(b"dir/mode", b"x", mode=0o10000)))
    outcomes = folder.installer.install_new(files)
    found = {entry.path: type(outcome) for (_, entry), outcome in zip(files, outcomes, strict=True)}
    assert found == {
        b"dir/a": Fingerprint,
        b"dir/occupied": DestinationChanged,
        b"dir/wrong": SourceChanged,
        b"dir/missing": SourceChanged,
        b"dir/../../escaped": WireError,
        b"dir/mode": WireError,
        b"dir/z": Fingerprint,
        b"gone/a": DestinationChanged,
        b"gone/b": DestinationChanged,
        b"leads out/a": DestinationChanged,
        b"leads out/b": DestinationChanged,
    }
    assert folder.at(b"dir/occupied").read_bytes() == b"user's"
    assert folder.at(b"dir/z").read_bytes() == b"data"
    assert not (tmp_path / "a").exists()
    assert not (folder.path.parent / "escaped").exists()
