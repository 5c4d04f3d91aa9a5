"""Whole engines on loopback addresses: real circusd, coordinators, movers, disks and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DEADLINE_S = 40.0


class EngineSite:
    """One site with its processes."""

    def __init__(self, name: str, base: Path, address: str) -> None:
        self.name, self.address = name, address
        self.home, self.folder = base / f"{name}.home", base / name
        self.process: subprocess.Popen[str] | None = None
        init = self.call("init", "--site", name, "--folder", str(self.folder), "--address", address, "--json")
        self.card: dict[str, Any] = json.loads(init.stdout)

    def call(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "syncer.cli.main", *arguments, "--home", str(self.home)]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=DEADLINE_S + 20)

    def meet(self, other: EngineSite) -> None:
        card = other.card
        address = f"{card['address']}:{card['control_port']}"
        self.call("site", "add", other.name, "--address", address, "--key", card["public_key"])

    def start(self) -> None:
        command = [sys.executable, "-m", "syncer.cli.main", "run", "--home", str(self.home)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def stop(self) -> None:
        if self.process is not None:
            for pid in self.pids().values():
                os.kill(pid, signal.SIGCONT)
            self.process.terminate()
            self.process.communicate(timeout=DEADLINE_S)
            self.process = None

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.call("status", "--json").stdout)
        return answer

    def pids(self) -> dict[str, int]:
        answer = self.call("status", "--json", check=False)
        if answer.returncode:
            return {}
        return {row["role"]: row["pid"] for row in json.loads(answer.stdout)["processes"]}

    def wait(self, timeout_s: float = DEADLINE_S) -> None:
        done = self.call("wait", "--in-sync", "--timeout", str(timeout_s), check=False)
        assert done.returncode == 0, f"{self.name}: {done.stderr}\n{self.logs()}"

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text()[-2000:]}" for path in sorted((self.home / "log").glob("*"))
        )

    def tree(self) -> dict[bytes, tuple[object, ...]]:
        """Path to (kind and permissions, content, mtime of files)."""
        found: dict[bytes, tuple[object, ...]] = {}
        top = os.fsencode(self.folder)
        for directory, names, files in os.walk(top):
            if directory == top:
                names.remove(b".syncer")
            for name in (*names, *files):
                path = os.path.join(directory, name)  # noqa: PTH118
                status = os.lstat(path)
                content: object = None
                if os.path.islink(path):  # noqa: PTH114
                    content = os.readlink(path)  # noqa: PTH115
                elif not os.path.isdir(path):  # noqa: PTH112
                    content = Path(os.fsdecode(path)).read_bytes(), status.st_mtime_ns
                found[os.path.relpath(path, top)] = (status.st_mode, content)
        return found


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)


def agree(*sites: EngineSite) -> dict[bytes, tuple[object, ...]]:
    """Wait at every site; then all trees are the same. Returns the tree."""
    for site in sites:
        site.wait()
    trees = [site.tree() for site in sites]
    for site, tree in zip(sites, trees, strict=True):
        assert tree == trees[0], f"{site.name} differs: {set(tree) ^ set(trees[0])}\n{site.logs()}"
    return trees[0]


_addresses = iter(range(10, 250))


@pytest.fixture
def make_sites(tmp_path: Path) -> Iterator[Callable[[int], list[EngineSite]]]:
    """Makes running sites that know one another; afterwards no process of theirs is left."""
    sites: list[EngineSite] = []

    def make(count: int) -> list[EngineSite]:
        subnet = f"127.{os.getpid() % 200 + 20}.{next(_addresses)}"
        sites.extend(EngineSite(f"s{number}", tmp_path, f"{subnet}.{number + 1}") for number in range(count))
        for site in sites:
            for other in sites:
                if site is not other:
                    site.meet(other)
            site.start()
        return sites

    yield make
    pids = {pid for site in sites for pid in site.pids().values()}
    for site in sites:
        site.stop()
    left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not left, f"processes are left: {left}"


MakeSites = Callable[[int], list[EngineSite]]


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
