"""What is the machine's fault is never judged as the system under test's."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config.shipped import find_topology
from harness.config.topology_file import load_topology
from harness.errors import LabError
from harness.run import node_agent
from harness.run.faults import RunFaults
from harness.run.recorder import Recorder
from harness.run.wan_control import WanControl


def test_a_full_disk_ends_the_agent_and_is_no_skipped_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, chunks: Iterable[bytes]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(node_agent, "write_all", full)
    operations = [{"do": "create", "path": "file", "seed": "s", "size": 100}]
    with pytest.raises(OSError, match="No space"):
        node_agent.operate({"root": str(tmp_path), "operations": operations})


def test_what_vanishes_from_a_directory_meanwhile_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "top" / name).mkdir(parents=True)
    true_delete = node_agent.Folder.delete

    def delete(folder: node_agent.Folder, path: str) -> Any:
        if path == "top/b":
            (tmp_path / path).rmdir()
        return true_delete(folder, path)

    monkeypatch.setattr(node_agent.Folder, "delete", delete)
    answer = node_agent.operate({"root": str(tmp_path), "operations": [{"do": "delete", "path": "top"}]})
    (result,) = answer["results"]
    assert [path for path, *_ in result["effects"]] == ["top/a", "top/c", "top"]


def test_a_history_that_cannot_be_written_breaks_the_run() -> None:
    with Recorder(Path("/dev/full")) as recorder, pytest.raises(LabError, match="/dev/full"):
        recorder.record("note", "lost")


def test_only_an_outage_that_is_over_says_what_it_dropped(tmp_path: Path) -> None:
    topology = load_topology(find_topology("four-sites"))
    lost = iter(range(7, 100))
    specified = {(link.source, link.destination): link.impairment for link in topology.links}

    def counters() -> list[Any]:
        count = next(lost)
        return [SimpleNamespace(source=a, destination=b, dropped_loss=count) for a, b in specified]

    lab: Any = SimpleNamespace(
        counters=counters,
        impairment=lambda *link: specified[link],
        on_change=None,
        epoch_s=0.0,
        state_dir=tmp_path,
    )
    with Recorder(tmp_path / "history") as recorder:
        wan = WanControl(lab, topology, recorder, RunFaults(lab, topology, recorder, None))
        site = topology.site_names[0]
        wan._count_dropped(site, "begin")
        assert wan.dropped_in_outage(site) == 0
        wan._count_dropped(site, "end")
        assert wan.dropped_in_outage(site) > 0
        wan.restore()
        assert wan.dropped_in_outage(site) == 0
