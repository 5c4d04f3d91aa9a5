"""The shipped smoke suite on a real lab with a reference engine: it passes, and an engine that loses data fails it."""

# The folders' names are raw bytes, which pathlib cannot hold.
# ruff: noqa: PTH101, PTH103, PTH108, PTH113, PTH115, PTH118, PTH123, PTH211

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.config.shipped import find_topology
from harness.config.topology_file import load_topology
from harness.errors import ExitCode, SutError
from harness.model.run_record import RunRecord, TestRecord
from harness.model.topology import Topology
from harness.model.verdict import Verdict
from harness.nodes.port import Node, RemoteProcess
from harness.robotlib.acceptance import RunRequest, execute
from harness.robotlib.runner import find_suites, load_suites
from harness.run.directory import RunDirectory
from harness.run.sites import first_sites
from harness.run.workload import WorkloadOptions
from harness.suts.port import SutProcess

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(300)]

Item = tuple[str, str, int]
"""Kind, content (a digest, or a symlink's target), mode."""


class ReferenceSut:
    """A folder that is the same everywhere because this process merges all copies, whenever someone waits for it.

    Namespace nodes keep their files at the same path on the host, so the merge needs no network.
    """

    name = "reference"

    def check(self, topology: Topology) -> None:
        pass

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}
        self._beats: list[tuple[Node, RemoteProcess]] = []
        self._base: dict[bytes, Item] = {}

    def start(self, nodes: Mapping[str, Node], workspace: str) -> None:
        self._folders = {site: Path(node.data_dir) / workspace for site, node in nodes.items()}
        for folder in self._folders.values():
            folder.mkdir()
        self._base = {}
        # A run in which no packet meets a link, or a fault on it, says nothing about the WAN and is INVALID: as engines
        # do, each site keeps asking whether the others are there.
        for node in nodes.values():
            for other in nodes.values():
                if node is not other:
                    beat = node.remote.start(f"beat-{other.site}", ["ping", "-i", "0.2", other.wan_address])
                    self._beats.append((node, beat))

    def stop(self) -> None:
        for node, beat in self._beats:
            node.remote.signal(beat.pid, "KILL")
        self._beats = []
        self._folders = {}

    def revive(self, site: str) -> bool:
        return False

    def folder(self, site: str) -> str:
        return str(self._folders[site])

    def ignored(self, relative: bytes) -> bool:
        return False

    def conflict_original(self, relative: bytes) -> bytes | None:
        stem, mark, _ = relative.partition(b".conflict-")
        return stem if mark and stem != b"conflict" and not stem.endswith(b"/conflict") else None

    def settled(self, timeout_s: float) -> bool:
        trees = {site: scan(folder) for site, folder in self._folders.items()}
        merged: dict[bytes, tuple[Item, str]] = {}
        for path in set().union(self._base, *trees.values()):
            base = self._base.get(path)
            changed = {tree.get(path): site for site, tree in trees.items() if tree.get(path) != base}
            versions = sorted((item, site) for item, site in changed.items() if item is not None)
            if versions:
                merged[path] = versions[0]
                for item, site in self.losers(versions):
                    merged[path + b".conflict-" + item[1][:8].encode()] = item, site
            elif not changed and base is not None:
                merged[path] = base, next(iter(trees))
        for path in list(merged):
            for parent in parents(path):
                merged.setdefault(parent, (("directory", "", 0o755), ""))
        staging = {path: self.fetch(path, *entry) for path, entry in merged.items() if entry[0][0] == "file"}
        for folder in self._folders.values():
            install(folder, {path: item for path, (item, _) in merged.items()}, staging)
        self._base = {path: item for path, (item, _) in merged.items()}
        return True

    def losers(self, versions: list[tuple[Item, str]]) -> list[tuple[Item, str]]:
        return versions[1:]

    def fetch(self, path: bytes, item: Item, site: str) -> bytes:
        original = self.conflict_original(path) or path
        for candidate in (path, original):
            place = os.path.join(os.fsencode(self._folders[site]), candidate)
            if os.path.isfile(place) and digest(place) == item[1]:
                return Path(os.fsdecode(place)).read_bytes()
        raise AssertionError(path)

    def processes(self, site: str) -> tuple[SutProcess, ...]:
        return ()

    def versions(self) -> Mapping[str, str]:
        return {self.name: "1"}

    def collect_logs(self, directory: Path) -> None:
        (directory / "reference.log").parent.mkdir(parents=True, exist_ok=True)


class ForgetfulSut(ReferenceSut):
    """The last writer wins: what the others wrote at the same time is gone."""

    def losers(self, versions: list[tuple[Item, str]]) -> list[tuple[Item, str]]:
        return []


class BrokenSut(ReferenceSut):
    """Does not start."""

    def start(self, nodes: Mapping[str, Node], workspace: str) -> None:
        raise SutError("it does not start", hint="its log ends here")


def digest(place: bytes) -> str:
    with open(place, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def parents(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[:count]) for count in range(1, len(parts))]


def scan(folder: Path) -> dict[bytes, Item]:
    root = os.fsencode(folder)
    found: dict[bytes, Item] = {}
    for directory, below, files in os.walk(root):
        for name in [*below, *files]:
            place = os.path.join(directory, name)
            status = os.lstat(place)
            path = os.path.relpath(place, root)
            if stat.S_ISLNK(status.st_mode):
                found[path] = "symlink", os.fsdecode(os.readlink(place)), 0
            elif stat.S_ISDIR(status.st_mode):
                found[path] = "directory", "", stat.S_IMODE(status.st_mode)
            else:
                found[path] = "file", digest(place), stat.S_IMODE(status.st_mode)
    return found


def install(folder: Path, wanted: dict[bytes, Item], staging: dict[bytes, bytes]) -> None:
    root = os.fsencode(folder)
    standing = scan(folder)
    for path in sorted(standing, reverse=True):
        if wanted.get(path) != standing[path]:
            place = os.path.join(root, path)
            keep = standing[path][0] == "directory" and wanted.get(path, ("",))[0] == "directory"
            if standing[path][0] != "directory":
                os.unlink(place)
            elif not keep:
                shutil.rmtree(place)
    for path in sorted(wanted):
        kind, content, mode = wanted[path]
        place = os.path.join(root, path)
        if kind == "directory":
            os.makedirs(place, exist_ok=True)
            os.chmod(place, mode)
        elif not os.path.lexists(place):
            if kind == "symlink":
                os.symlink(os.fsencode(content), place)
            else:
                Path(os.fsdecode(place)).write_bytes(staging[path])
                os.chmod(place, mode)


class Heard:
    """Collects what the run says."""

    def __init__(self) -> None:
        self.ended: list[TestRecord] = []
        self.failed: list[str] = []

    def test_began(self, suite: str, name: str) -> None: ...

    def test_ended(self, record: TestRecord) -> None:
        self.ended.append(record)

    def suite_failed(self, suite: str, message: str) -> None:
        self.failed.append(message)


def run(tmp_path: Path, sut: ReferenceSut, suite: str, tags: list[str]) -> tuple[RunRecord, Heard]:
    heard = Heard()
    request = RunRequest(
        suite=load_suites(find_suites([suite]), tags),
        topology=first_sites(load_topology(find_topology("four-sites")), 3),
        sut=sut,
        directory=RunDirectory.create(tmp_path / "run"),
        seed=7,
        options=WorkloadOptions(files=10, operations=12),
    )
    return execute(request, heard, lambda step: None), heard


def test_smoke_passes_on_an_engine_that_keeps_everything(tmp_path: Path) -> None:
    record, heard = run(tmp_path, ReferenceSut(), "smoke", ["ci"])
    assert (record.verdict, record.exit_code, record.reasons) == (Verdict.PASS, ExitCode.PASSED, ())
    assert len(record.tests) == 10
    assert record.tests == tuple(heard.ended)
    conflict = next(test for test in record.tests if test.name == "Concurrent Edits Are All Kept")
    assert {change.after.blocked for change in conflict.wan_changes} == {True, False}
    assert {"output.xml", "log.html", "report.html", "history.jsonl"} <= set(record.artifacts)


def test_an_engine_that_forgets_concurrent_versions_fails(tmp_path: Path) -> None:
    record, _ = run(tmp_path, ForgetfulSut(), "smoke", ["conflict"])
    failed = {test.name: test.message for test in record.tests if test.status == "FAIL"}
    assert record.exit_code == ExitCode.TEST_FAILED
    assert "Concurrent Edits Are All Kept" in failed
    assert "lost:" in failed["Concurrent Edits Are All Kept"]


def test_an_engine_that_does_not_start_fails_the_run_with_its_log(tmp_path: Path) -> None:
    record, heard = run(tmp_path, BrokenSut(), "smoke", ["ci"])
    assert (record.verdict, record.exit_code) == (Verdict.FAIL, ExitCode.TEST_FAILED)
    assert all("its log ends here" in test.message for test in record.tests)
    assert any("it does not start" in message for message in heard.failed)
