"""The workload's plan, and its execution by the node agent on a real directory."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.run import node_agent
from harness.run.recorder import Recorder
from harness.run.workload import ODD_NAMES, Operation, Workload, created_files


def ask(request: dict[str, Any]) -> Any:
    done = subprocess.run(
        [sys.executable, node_agent.__file__],
        input=json.dumps(request),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=30,
    )
    return json.loads(done.stdout)


def operate(root: Path, operations: list[Operation]) -> list[Any]:
    return ask({"do": "operate", "root": str(root), "operations": operations})["results"]


def snapshot(root: Path) -> dict[str, list[Any]]:
    return {path: entry for path, *entry in ask({"do": "snapshot", "root": str(root)})["tree"]}


def replay(results: list[Any]) -> dict[str, list[Any]]:
    tree: dict[str, list[Any]] = {}
    for result in results:
        for path, before, after, visible in result["effects"]:
            assert visible
            assert tree.get(path) == before
            tree.pop(path, None)
            if after is not None:
                tree[path] = after
    return tree


@given(st.integers(0, 2**32))
def test_the_same_seed_plans_the_same(seed: int) -> None:
    def plan() -> list[Any]:
        workload = Workload(seed)
        directory = workload.new_directory("d")
        files = workload.create_files(directory, 9)
        return [files, workload.mixed(("tokyo", "oregon"), created_files(files), 20), workload.odd_names(directory)]

    assert plan() == plan()


def test_no_two_writes_have_the_same_content() -> None:
    workload = Workload(1)
    files = workload.create_files("d", 50)
    plans = workload.mixed(("tokyo", "oregon", "ireland"), created_files(files), 200)
    operations = [*files, *(operation for plan in plans.values() for operation in plan)]
    seeds = [operation["seed"] for operation in operations if "seed" in operation]
    assert len(seeds) == len(set(seeds)) > 200


def test_effects_replayed_give_the_tree_that_stands(tmp_path: Path) -> None:
    workload = Workload(7)
    files = workload.create_files("d", 12)
    mixed = workload.mixed(("tokyo",), created_files(files), 120)["tokyo"]
    results = operate(tmp_path, [*files, *workload.odd_names("odd"), *workload.special_entries("special"), *mixed])
    assert replay(results) == snapshot(tmp_path)
    assert {operation["do"] for operation, result in zip(mixed, results[-120:], strict=True) if result["effects"]} > {
        "append",
        "change",
        "chmod",
        "create",
        "delete",
        "rename",
        "save",
        "symlink",
    }


def test_odd_names_arrive_as_raw_bytes(tmp_path: Path) -> None:
    operate(tmp_path, Workload(1).odd_names("d"))
    names = {os.fsencode(path.name) for path in (tmp_path / "d").iterdir()}
    assert {os.fsencode(name) for name in ODD_NAMES} < names
    assert b"bytes \xff\xfe\x80" in names


def test_directories_are_renamed_and_deleted_with_all_that_is_in_them(tmp_path: Path) -> None:
    make: list[Operation] = [
        {"do": "mkdir", "path": "a"},
        {"do": "mkdir", "path": "a/b"},
        {"do": "create", "path": "a/b/c", "seed": "1", "size": 30},
    ]
    results = operate(tmp_path, [*make, {"do": "rename", "path": "a", "to": "z"}])
    assert set(replay(results)) == {"z", "z/b", "z/b/c"}
    removal = operate(tmp_path, [{"do": "delete", "path": "z"}])
    assert [effect[0] for effect in removal[0]["effects"]] == ["z/b/c", "z/b", "z"]
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize(
    "operation",
    [
        {"do": "change", "path": "none", "seed": "1", "size": 30},
        {"do": "delete", "path": "none"},
        {"do": "rename", "path": "none", "to": "other"},
        {"do": "mkdir", "path": "none/below"},
        {"do": "chmod", "path": "none", "mode": 0o600},
    ],
)
def test_an_operation_on_nothing_is_skipped_and_says_so(tmp_path: Path, operation: Operation) -> None:
    assert operate(tmp_path, [operation]) == [{"effects": [], "skipped": "FileNotFoundError"}]


def test_a_write_through_a_replaced_path_is_not_called_visible(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with node_agent.opened(os.fsencode(path), os.O_RDWR) as descriptor:
        assert node_agent.stands(descriptor, os.fsencode(path))
        (tmp_path / "g").write_bytes(b"the engine's")
        (tmp_path / "g").replace(path)
        assert not node_agent.stands(descriptor, os.fsencode(path))


def test_a_symlink_is_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("safe")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside)
    results = operate(root, [{"do": "change", "path": "link", "seed": "1", "size": 30}])
    assert results[0]["skipped"]
    assert outside.read_text() == "safe"


def test_unpack_keeps_modes_links_and_raw_names(tmp_path: Path) -> None:
    archive = tmp_path / "data.tar"
    with tarfile.open(archive, "w", errors="surrogateescape") as members:
        member = tarfile.TarInfo("caf\udce9")
        member.mode, member.size = 0o640, 3
        members.addfile(member, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "caf\udce9"
        members.addfile(link)
    root = tmp_path / "root"
    root.mkdir()
    answer = ask({"do": "unpack", "root": str(root), "archive": str(archive), "path": "data"})
    assert replay([answer]) == snapshot(root)
    assert snapshot(root)["data/caf\udce9"][2] == 0o640


def test_waiting_for_a_tree_sees_it_arrive_and_gives_up_at_the_deadline(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x" * 10)
    request = {"do": "await-tree", "root": str(tmp_path), "path": "d", "bytes": 10, "timeout_s": 0.1}
    assert ask(request | {"files": 1})["reached"]
    assert not ask(request | {"files": 2})["reached"]


def test_usage_counts_what_the_file_system_gave(tmp_path: Path) -> None:
    before = ask({"do": "usage", "root": str(tmp_path)})["bytes"]
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    request = {"do": "await-usage", "root": str(tmp_path), "bytes": before + 100_000, "timeout_s": 5}
    assert ask(request)["reached"]


def test_recorder_writes_each_tree_once(tmp_path: Path) -> None:
    from harness.model.tree import TreeEntry

    with Recorder(tmp_path / "history.jsonl") as recorder:
        tree = {b"caf\xe9": TreeEntry("file", "00", 0o644, 1)}
        recorder.record_tree("tokyo", tree)
        recorder.record_tree("oregon", tree)
    first, second = (json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines())
    assert first["data"]["rows"] == [[r"caf\xe9", "file", "00", 0o644, 1]]
    assert "rows" not in second["data"]
    assert first["data"]["tree"] == second["data"]["tree"]
