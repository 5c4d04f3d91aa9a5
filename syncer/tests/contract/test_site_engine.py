"""Whole engines on loopback addresses: real circusd, coordinators, movers, disks and signals."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from syncer.tests.contract.engine_site import EngineSite, MakeSites, agree, make_sites, until

__all__ = ["make_sites"]


def test_every_kind_of_change_reaches_the_other_site(make_sites: MakeSites) -> None:
    one, two = make_sites(2)
    (one.folder / "d" / "empty").mkdir(parents=True)
    (one.folder / "d" / "text").write_text("hello")
    (one.folder / "d" / "text").chmod(0o640)
    os.utime(one.folder / "d" / "text", ns=(1, 1_234_567_890_123_456_789))
    (one.folder / "link").symlink_to("d/nowhere")
    (one.folder / "zero").touch()
    Path(os.fsdecode(os.fsencode(one.folder) + b"/\xff\xfe.bin")).write_bytes(bytes(range(256)) * 2000)
    (two.folder / "from two").write_text("other way")
    tree = agree(one, two)
    assert len(tree) == 7
    assert tree[b"d/text"] == (0o100640, (b"hello", 1_234_567_890_123_456_789))

    (two.folder / "d" / "text").write_text("changed")
    (two.folder / "from two").rename(two.folder / "d" / "moved")
    (two.folder / "link").unlink()
    (two.folder / "d" / "empty").rmdir()
    (two.folder / "zero").chmod(0o755)
    tree = agree(two, one)
    assert set(tree) == {b"d", b"d/text", b"d/moved", b"zero", b"\xff\xfe.bin"}
    assert tree[b"d/text"][1][0] == b"changed"  # type: ignore[index]
    assert tree[b"zero"][0] == 0o100755


def test_concurrent_edits_keep_both_versions_the_same_way_everywhere(make_sites: MakeSites) -> None:
    sites = make_sites(3)
    (sites[0].folder / "a.txt").write_text("base")
    agree(*sites)
    movers = [site.pids()["coordinator"] for site in sites]
    for pid in movers:
        os.kill(pid, signal.SIGSTOP)
    for site in sites:
        (site.folder / "a.txt").write_text(f"edit at {site.name}")
    (sites[1].folder / "new").write_text("made while apart")
    for pid in movers:
        os.kill(pid, signal.SIGCONT)
    tree = agree(*sites)
    assert {value[1][0] for value in tree.values()} >= {b"edit at s0", b"edit at s1", b"edit at s2"}  # type: ignore[index]
    copies = [path for path in tree if b".conflict-" in path]
    assert len(copies) == 2
    assert all(path.startswith(b"a.conflict-s") and path.endswith(b".txt") for path in copies)


def test_an_edit_wins_over_a_deletion_made_while_apart(make_sites: MakeSites) -> None:
    one, two = make_sites(2)
    (one.folder / "d").mkdir()
    (one.folder / "d" / "f").write_text("base")
    agree(one, two)
    two.stop()
    (one.folder / "d" / "f").unlink()
    (one.folder / "d").rmdir()
    (two.folder / "d" / "f").write_text("edited")
    two.start()
    assert set(agree(two, one)) == {b"d", b"d/f"}


@pytest.mark.parametrize("role", ["coordinator", "mover-udt", "mover-tcp", "circusd"])
def test_a_killed_process_loses_nothing(make_sites: MakeSites, role: str) -> None:
    one, two = make_sites(2)
    agree(one, two)
    victims = [site.pids()[role] for site in (one, two)]
    for number in range(300):
        (one.folder / f"small {number}").write_bytes(os.urandom(3000))
    (one.folder / "big").write_bytes(os.urandom(60 << 20))
    until(lambda: any(two.folder.glob("small *")), "the transfer begins")
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert len(agree(one, two)) == 301
    assert one.pids()[role] != victims[0]
    assert len(one.status()["processes"]) == 5


def test_a_lost_index_deletes_nothing(make_sites: MakeSites) -> None:
    one, two = make_sites(2)
    for name in ("kept", "gone here"):
        (one.folder / name).write_text(name)
    agree(one, two)
    one.stop()
    for path in one.home.glob("index.sqlite*"):
        path.unlink()
    (one.folder / "gone here").unlink()
    (one.folder / "kept").write_text("changed while the index was lost")
    one.start()
    tree = agree(one, two)
    assert {value[1][0] for value in tree.values()} == {  # type: ignore[index]
        b"gone here",
        b"kept",
        b"changed while the index was lost",
    }


def test_a_missing_folder_is_not_a_mass_delete(make_sites: MakeSites) -> None:
    one, two = make_sites(2)
    (one.folder / "f").write_text("f")
    agree(one, two)
    hidden = one.folder.with_name("unmounted")
    one.folder.rename(hidden)
    one.folder.mkdir()
    waited = two.call("wait", "--timeout", "2", check=False)
    assert waited.returncode == 4
    assert "s0" in waited.stderr
    assert (two.folder / "f").exists()
    one.folder.rmdir()
    hidden.rename(one.folder)
    assert set(agree(two, one)) == {b"f"}


def test_an_unknown_key_is_refused_and_a_site_is_taken_up_live(make_sites: MakeSites, tmp_path: Path) -> None:
    one, two = make_sites(2)
    agree(one, two)
    three = EngineSite("s9", tmp_path, one.address.rpartition(".")[0] + ".9")
    three.meet(one)
    three.start()
    try:
        until(lambda: "unknown key" in one.logs(), "the stranger is refused")
        assert not three.status()["peers"][0]["connected"]
        one.meet(three)
        (three.folder / "hi").write_text("from three")
        three.wait()
        assert (one.folder / "hi").read_text() == "from three"
        one.call("site", "remove", "s9")
        until(lambda: not three.status()["peers"][0]["connected"], "the removed site is let go")
    finally:
        three.stop()


def test_a_second_engine_in_one_home_is_refused(make_sites: MakeSites) -> None:
    (one,) = make_sites(1)
    one.wait()
    second = one.call("run", check=False)
    assert second.returncode == 2
    assert "already" in second.stderr


def test_status_without_an_engine_says_how_to_start_it(tmp_path: Path) -> None:
    site = EngineSite("s0", tmp_path, "127.0.0.1")
    answer = site.call("wait", "--timeout", "0.2", check=False)
    assert answer.returncode == 3
    assert "syncer run" in answer.stderr
    assert "Traceback" not in answer.stderr
