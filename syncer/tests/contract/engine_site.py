"""Whole engines on loopback addresses, for tests: real circusd, coordinators, movers, disks and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

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
        command = self.command(*arguments)
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=DEADLINE_S + 20)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "syncer.cli.main", *arguments, "--home", str(self.home)]

    def meet(self, other: EngineSite) -> None:
        card = other.card
        address = f"{card['address']}:{card['control_port']}"
        self.call("site", "add", other.name, "--address", address, "--key", card["public_key"])

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command("run"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

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


class MakeSites(Protocol):
    def __call__(self, count: int, *, start: bool = True) -> list[EngineSite]: ...


@pytest.fixture
def make_sites(tmp_path: Path) -> Iterator[MakeSites]:
    """Makes running sites that know one another; afterwards no process of theirs is left."""
    sites: list[EngineSite] = []

    def make(count: int, *, start: bool = True) -> list[EngineSite]:
        subnet = f"127.{os.getpid() % 200 + 20}.{next(_addresses)}"
        sites.extend(EngineSite(f"s{number}", tmp_path, f"{subnet}.{number + 1}") for number in range(count))
        for site in sites:
            for other in sites:
                if site is not other:
                    site.meet(other)
            if start:
                site.start()
        return sites

    yield make
    pids = {pid for site in sites for pid in site.pids().values()}
    for site in sites:
        site.stop()
    left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not left, f"processes are left: {left}"
