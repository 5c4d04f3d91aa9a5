"""Building that is cut short anywhere leaves nothing: killed (then taken down from the ledger) or interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.lab.ledger import replay
from harness.lab.state import LabPaths
from harness.lab.teardown import take_all_down
from harness.nodes.host_processes import start_ticks
from harness.nodes.network_settings import ALLOWED_CONGESTION_CONTROLS, read_setting
from harness.wan.machine import CORE_NOTE, end_machines

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.slow]

CORES = Path("/run/longhaul/cores")
DEADLINE_S = 30.0
TOPOLOGY = """\
version: 1
name: two-sites
sites:
  east: {}
  west: {more_nodes: [db], nat: true}
links:
  - between: [east, west]
    rtt: 20 ms
"""


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition of another process; fails after the deadline."""
    end, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE_S:g} s: {what}"
        pause.wait(0.001)


@contextmanager
def building(tmp_path: Path, lab_id: str) -> Iterator[subprocess.Popen[str]]:
    """``longhaul up`` in a process of its own, with its state below ``tmp_path``."""
    topology = tmp_path / "two-sites.yaml"
    topology.write_text(TOPOLOGY)
    environment = {**os.environ, "LONGHAUL_STATE": str(tmp_path / "state")}
    process = subprocess.Popen(
        # A test run in the background of a shell ignores SIGINT, and so would its children.
        [
            *("env", "--default-signal=INT", sys.executable, "-m", "harness.cli.main"),
            *("up", str(topology), "--lab", lab_id, "--json"),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ledger_lines(paths: LabPaths) -> int:
    try:
        return paths.ledger.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def traces(tmp_path: Path, lab_id: str) -> list[str]:
    """Everything on this host that bears the lab's id or lies below its state root."""
    found = [f"netns {path.name}" for path in Path("/run/netns").glob(f"lh*-{lab_id}-*")]
    found += [f"link {path.name}" for path in Path("/sys/class/net").glob(f"lh{lab_id}*")]
    found += [
        f"mount {line}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if f"-{lab_id}-" in line or str(tmp_path) in line
    ]
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes()
            mounts = (directory / "mountinfo").read_text()
        except OSError:
            continue
        if str(tmp_path / "state") in mounts:
            found.append(f"process {directory.name} {command!r}")
    found += [f"file {path}" for path in tmp_path.rglob("*") if path.name != "two-sites.yaml"]
    for claim in Path("/run/longhaul/slots").glob("*"):
        if lab_id in claim.read_text():
            found.append(f"claim {claim}")
    return found


def processes_of(paths: LabPaths) -> list[tuple[int, int | None]]:
    resources = replay(paths.ledger.read_bytes()).outstanding
    return [(int(one.name), one.start_ticks) for one in resources if one.kind == "process"]


def machines_of(paths: LabPaths) -> list[Path]:
    resources = replay(paths.ledger.read_bytes()).outstanding
    return [Path(one.name) for one in resources if one.note == CORE_NOTE and one.kind == "directory"]


@pytest.mark.parametrize("lines", [1, 5, 6, 8, 10, 13, 14, 15])
def test_nothing_is_left_after_a_kill_in_the_middle_of_up(tmp_path: Path, fresh_lab_id: str, lines: int) -> None:
    """SIGKILL as soon as the ledger has so many lines."""
    allowed = read_setting(ALLOWED_CONGESTION_CONTROLS)
    paths = LabPaths(state_root=tmp_path / "state", lab_id=fresh_lab_id)
    with building(tmp_path, fresh_lab_id) as process:
        until(lambda: ledger_lines(paths) >= lines or process.poll() is not None, f"{lines} lines in the ledger")
        process.kill()
    processes, machines = processes_of(paths), machines_of(paths)
    assert traces(tmp_path, fresh_lab_id), "nothing had been made yet: this test would prove nothing"
    seconds, errors = take_all_down(paths.state_root)
    assert errors == []
    assert list(seconds) == [fresh_lab_id]
    until(lambda: traces(tmp_path, fresh_lab_id) == [], "everything gone")
    assert [pid for pid, ticks in processes if ticks is not None and start_ticks(pid) == ticks] == []
    assert end_machines(machines) == 0
    assert read_setting(ALLOWED_CONGESTION_CONTROLS) == allowed


@pytest.mark.parametrize(("number", "lines"), [(signal.SIGINT, 1), (signal.SIGTERM, 5), (signal.SIGINT, 13)])
def test_an_interrupted_up_cleans_up_after_itself(
    tmp_path: Path, fresh_lab_id: str, number: signal.Signals, lines: int
) -> None:
    paths = LabPaths(state_root=tmp_path / "state", lab_id=fresh_lab_id)
    with building(tmp_path, fresh_lab_id) as process:
        until(lambda: ledger_lines(paths) >= lines or process.poll() is not None, f"{lines} lines in the ledger")
        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE_S)
    try:
        assert process.returncode == 130, errors
        until(lambda: traces(tmp_path, fresh_lab_id) == [], "everything gone")
    finally:
        take_all_down(paths.state_root)


def test_down_all_after_a_kill_by_the_command_line(tmp_path: Path, fresh_lab_id: str) -> None:
    """A lab that came up, its builder long gone, and one that was cut short: one command for both."""
    environment = {**os.environ, "LONGHAUL_STATE": str(tmp_path / "state")}
    whole, cut = fresh_lab_id, fresh_lab_id[::-1]
    with building(tmp_path, whole) as process:
        output, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, errors
        assert json.loads(output)["lab"] == whole
    paths = LabPaths(state_root=tmp_path / "state", lab_id=cut)
    with building(tmp_path, cut) as process:
        until(lambda: ledger_lines(paths) >= 8, "8 lines in the ledger")
        process.kill()
    down = [sys.executable, "-m", "harness.cli.main", "down", "--all", "--json"]
    done = subprocess.run(down, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert set(json.loads(done.stdout)["down"]) == {whole, cut}
    for lab_id in (whole, cut):
        until(lambda lab_id=lab_id: traces(tmp_path, lab_id) == [], "everything gone")
    again = subprocess.run(down, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert json.loads(again.stdout)["down"] == {}
