"""SIGKILL before every line of every operation: the tree is then as before it or as after it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncer.core.records import Entry, Fingerprint, Kind
from syncer.errors import DestinationChanged
from syncer.files import aside
from syncer.files.temp_store import remove_any
from syncer.tests.unit.kill_at_line import killed_before_line
from syncer.tests.unit.sample_folder import Folder, content_of, file_entry

Tree = dict[bytes, bytes | None]
DATA = b"data" * 50_000


@dataclass(frozen=True)
class Case:
    """An operation on ``path``, and what the tree is before and after. ``raced``: a user's write slips in."""

    before: Tree
    after: Tree
    operate: Callable[[Folder, bytes, Fingerprint | None], object]
    raced: bool = False

    def prepare(self, folder: Folder) -> Callable[[], object]:
        """Builds the tree before; what is returned operates on it."""
        for path, data in self.before.items():
            folder.write(path, data or b"")
        expected = folder.fingerprint(b"path") if b"path" in self.before else None
        temp = folder.stage(b"path", b"new")
        return lambda: self.operate(folder, temp, expected)


def install(folder: Folder, temp: bytes, expected: Fingerprint | None) -> None:
    folder.installer.install_file(temp, file_entry(b"path", b"new"), expected)
    folder.installer.flush()


def install_many(folder: Folder, temp: bytes, expected: Fingerprint | None) -> None:
    files = [(temp, file_entry(b"path", b"new")), (folder.stage(b"more", b"of it"), file_entry(b"more", b"of it"))]
    assert all(isinstance(placed, Fingerprint) for placed in folder.installer.install_new(files))
    folder.installer.flush()


def install_and_keep(folder: Folder, temp: bytes, expected: Fingerprint | None) -> None:
    folder.installer.install_file(temp, file_entry(b"path", b"new"), expected, keep_as=b"kept")


def make_symlink(folder: Folder, temp: bytes, expected: Fingerprint | None) -> None:
    folder.installer.make_symlink(Entry(path=b"path", kind=Kind.SYMLINK, target=b"new"), expected)


def make_directory(folder: Folder, temp: bytes, expected: Fingerprint | None) -> None:
    folder.installer.make_directory(Entry(path=b"path", kind=Kind.DIRECTORY, mode=0o755), expected)


def remove(folder: Folder, temp: bytes, expected: Fingerprint | None) -> None:
    assert expected is not None
    folder.installer.remove(b"path", Kind.FILE, expected)


def copy(folder: Folder, temp: bytes, expected: Fingerprint | None) -> None:
    folder.installer.copy_local(b"source", content_of(DATA), b"get-copy")
    folder.installer.install_file(b"get-copy", file_entry(b"path", DATA), None)


def raced(module: object, name: str, action: Callable[..., None]) -> Callable[..., None]:
    """``action``, with a user who writes just before it calls ``name`` for the first time."""

    def racing(folder: Folder, temp: bytes, expected: Fingerprint | None) -> None:
        original = getattr(module, name)

        def after_a_write(*arguments: object, **options: object) -> None:
            setattr(module, name, original)
            folder.at(b"path").write_bytes(b"user's")
            original(*arguments, **options)

        setattr(module, name, after_a_write)
        with pytest.raises(DestinationChanged):
            action(folder, temp, expected)

    return racing


OLD: Tree = {b"path": b"old"}
NEW: Tree = {b"path": b"new"}
USERS: Tree = {b"path": b"user's"}

CASES = {
    "new": Case({}, NEW, install),
    "many new ones": Case({}, {**NEW, b"more": b"of it"}, install_many),
    "replace": Case(OLD, NEW, install),
    "replace and keep": Case(OLD, {**NEW, b"kept": b"old"}, install_and_keep),
    "replace by a symlink": Case(OLD, NEW, make_symlink),
    "replace by a directory": Case(OLD, {b"path": None}, make_directory),
    "remove": Case(OLD, {}, remove),
    "copy": Case({b"source": DATA}, {b"source": DATA, b"path": DATA}, copy),
    "raced replacement": Case(OLD, USERS, raced(aside, "exchange", install), raced=True),
    "raced removal": Case(OLD, USERS, raced(os, "rename", remove), raced=True),
}


@pytest.mark.parametrize("name", CASES)
def test_killed_at_any_line(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    number = 0
    outcomes = set()
    killed = True
    while killed:
        number += 1
        folder = Folder(tmp_path)
        killed = killed_before_line(number, case.prepare(folder))
        folder.installer.recover()
        tree = folder.tree()
        outcomes.add(outcome(case, tree))
        folder.temps.clean()
        assert folder.leftovers() == []
        assert folder.installer.recover() == []
        assert folder.tree() == tree
        for path in sorted(tree, reverse=True):
            remove_any(folder.root.fd, path)
        folder.close()
    assert outcomes >= {"before", "after"}
    assert number > 20


def outcome(case: Case, tree: Tree) -> str:
    if tree == case.before:
        return "before"
    if tree == case.after:
        return "after"
    # killed between the exchange and its undoing: both versions stay, the user's under a name of its own
    assert case.raced, f"neither the tree before nor the one after: {tree}"
    first, second = sorted(tree)
    assert second.startswith(b"path.rescued-")
    assert (first, tree[first], tree[second]) == (b"path", b"new", b"user's")
    return "rescued"


def left_by_a_crash(folder: Folder, data: bytes, mark: bytes) -> None:
    temporary = folder.path / ".syncer" / "tmp"
    (temporary / "aside-0123456789abcdef").write_bytes(data)
    (temporary / "aside-0123456789abcdef.mark").symlink_to(os.fsdecode(mark))


def test_recovery_puts_back_beside_what_has_come_since(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write(b"path", b"made since")
    left_by_a_crash(folder, b"removed", b"0:0:1:2:3:4:path")
    (put_back,) = folder.installer.recover()
    assert folder.tree() == {b"path": b"made since", put_back: b"removed"}
    assert folder.leftovers() == []
    folder.close()


def test_recovery_finds_a_place_when_the_directory_is_gone(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write(b"a/other", b"")
    left_by_a_crash(folder, b"removed", b"0:0:1:2:3:4:a/b/c:d/path")
    (put_back,) = folder.installer.recover()
    assert put_back.startswith(b"a/path.rescued-")
    assert folder.at(put_back).read_bytes() == b"removed"
    assert folder.leftovers() == []
    folder.close()


def test_what_has_lost_its_marker_is_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (folder.path / ".syncer" / "tmp" / "aside-0123456789abcdef").write_bytes(b"whose?")
    (put_back,) = folder.installer.recover()
    assert folder.tree() == {put_back: b"whose?"}
    folder.close()
