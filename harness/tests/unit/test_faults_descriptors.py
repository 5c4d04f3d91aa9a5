"""Overlapping limits on open files come apart in any order."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from harness.model.timeline import Descriptors, Target
from harness.nodes.host_processes import start_ticks
from harness.nodes.node_faults_process import DescriptorsFault

EVENT = Descriptors(node="east", target=Target(command="cat"))


@pytest.fixture
def node() -> Iterator[Any]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        one = SimpleNamespace(pid=process.pid, start_ticks=start_ticks(process.pid))
        yield SimpleNamespace(name="east", processes=lambda _: (one,), pid=process.pid)


def limit(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_the_last_one_to_end_gives_back_what_there_was_before_the_first(node: Any, first_to_end: int) -> None:
    fault, had = DescriptorsFault(), limit(node.pid)
    undos: list[dict[str, Any]] = []
    reached = []
    for event in (EVENT, EVENT.model_copy(update={"spare": 5})):
        undo = fault.prepare(node, event, undos)
        fault.make(node, event, undo, undos)
        undos.append(undo)
        reached.append(limit(node.pid))
    assert reached[1] == reached[0] < had
    early = undos.pop(first_to_end)
    fault.undo(node, EVENT, early, undos)
    assert limit(node.pid) < had
    (late,) = undos
    fault.undo(node, EVENT, late, [])
    assert limit(node.pid) == had
    assert fault.problem(node, EVENT, late, []) is None
