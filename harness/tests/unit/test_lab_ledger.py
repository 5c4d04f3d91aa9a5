"""The ledger's pure part, and its file."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import LabError
from harness.lab.ledger import Ledger, forget_line, record_line, replay
from harness.lab.state import LabPaths, read_state
from harness.lab.status import describe_labs
from harness.model.resource import Resource

RESOURCES = st.builds(
    Resource,
    kind=st.sampled_from(["netns", "link", "process", "mount", "directory", "file", "route"]),
    name=st.text(min_size=1, max_size=6),
    start_ticks=st.none() | st.integers(0, 3),
    note=st.text(max_size=4),
)
OPERATIONS = st.lists(st.tuples(st.sampled_from(["record", "forget"]), RESOURCES), max_size=20)
Operation = tuple[Literal["record", "forget"], Resource]


def lines_of(operations: list[Operation]) -> list[bytes]:
    return [record_line(one) if operation == "record" else forget_line(one) for operation, one in operations]


@given(st.lists(RESOURCES, max_size=20))
def test_what_is_recorded_is_outstanding_in_order(resources: list[Resource]) -> None:
    text = b"".join(record_line(resource) for resource in resources)
    assert replay(text).outstanding == tuple(resources)


@given(OPERATIONS)
def test_nothing_is_outstanding_that_was_never_recorded(operations: list[Operation]) -> None:
    outstanding = list(replay(b"".join(lines_of(operations))).outstanding)
    for operation, resource in operations:
        if operation == "record" and resource in outstanding:
            outstanding.remove(resource)
    assert outstanding == []


@given(st.lists(RESOURCES, max_size=20), st.data())
def test_forgetting_everything_in_any_order_leaves_nothing(resources: list[Resource], data: st.DataObject) -> None:
    order = data.draw(st.permutations(resources))
    text = b"".join([record_line(one) for one in resources] + [forget_line(one) for one in order])
    left = replay(text).outstanding
    # Without start ticks, a forget takes the last of the same kind and name: only their number can be promised.
    assert len(left) <= sum(one.start_ticks is not None for one in resources)
    if all(one.start_ticks is None for one in resources):
        assert left == ()


@given(OPERATIONS, st.data())
def test_a_line_that_a_crash_cut_short_is_no_line(operations: list[Operation], data: st.DataObject) -> None:
    lines = lines_of(operations)
    text = b"".join(lines)
    cut = data.draw(st.integers(0, len(text)))
    whole = 0
    while whole < len(lines) and len(b"".join(lines[: whole + 1])) - 1 <= cut:
        whole += 1
    assert replay(text[:cut]) == replay(b"".join(lines[:whole]))


@given(st.binary(max_size=200))
def test_no_content_breaks_it(text: bytes) -> None:
    replay(text)


def test_what_a_later_version_notes_beside_a_resource_does_not_hide_it() -> None:
    noted = Resource(kind="directory", name="/run/x", note="WAN core")
    entry = json.loads(record_line(noted))
    entry["resource"]["of_a_later_version"] = 1
    assert replay(json.dumps(entry).encode() + b"\n").outstanding == (noted,)


def test_a_ledger_is_begun_once_and_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lab1" / "ledger.jsonl"
    path.parent.mkdir()
    resource = Resource(kind="link", name="lhlab1m0")
    ledger = Ledger.create(path)
    ledger.record(resource)
    with pytest.raises(FileExistsError):
        Ledger.create(path)
    with pytest.raises(LabError, match="lab lab1 is being built or taken down"):
        Ledger.open(path)
    ledger.close()
    again = Ledger.open(path)
    assert again.content().outstanding == (resource,)
    assert again.content().boot
    again.close()


def test_a_torn_line_does_not_swallow_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger.create(path).close()
    with path.open("ab") as stream:
        stream.write(b'{"op": "record", "resource": {"kind": "li')
    resource = Resource(kind="link", name="x")
    ledger = Ledger.open(path)
    ledger.record(resource)
    assert ledger.content().outstanding == (resource,)
    ledger.close()


def test_a_line_that_a_full_disk_cut_short_is_an_error_and_swallows_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.create(tmp_path / "ledger.jsonl")
    true_write, room = os.write, [10]

    def write(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = true_write(descriptor, bytes(data)[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        ledger.record(Resource(kind="netns", name="one"))
    room[0] = 10_000
    ledger.record(Resource(kind="netns", name="other"))
    assert [one.name for one in ledger.content().outstanding] == ["other"]
    ledger.close()


def test_a_lab_of_another_version_is_no_traceback(tmp_path: Path) -> None:
    paths = LabPaths(state_root=tmp_path, lab_id="old")
    paths.directory.mkdir(parents=True)
    paths.state.write_text('{"plan": 7}')
    with pytest.raises(LabError, match="another version"):
        read_state(paths)
    assert [lab["state"] for lab in describe_labs(tmp_path)] == ["unfinished"]
