"""How a WAN core lives: opened by several processes, given back, taken again, and left by those who died."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import CoreError
from harness.model.impairment import Impairment
from harness.tests.wan_bench import (
    CLEAN,
    Bench,
    Notes,
    bench,
    make_plan,
    nodes,
    placement,
    pool,
)
from harness.wan import machine as machine_module
from harness.wan import vm_core
from harness.wan.kernel import Kernel
from harness.wan.placement import open_core, place_core
from harness.wan.port import WanCore

pytestmark = [pytest.mark.root, pytest.mark.vm]

__all__ = ["bench", "placement", "pool"]


def test_another_handle_changes_the_same_core(bench: Bench) -> None:
    other = open_core(json.loads(json.dumps(bench.core.state())))
    with contextlib.closing(other):
        other.shape([("s0", "s1", Impairment(delay_us=33_000))])
    assert bench.core.read_back()["s0", "s1"].delay_us == 33_000


CLIENT = """
import json, sys
from pathlib import Path
from harness.model.impairment import Impairment
from harness.wan import machine, vm_core
machine.CORES_DIRECTORY = vm_core.CORES_DIRECTORY = Path(sys.argv[1])
from harness.wan.placement import open_core
core = open_core(json.loads(sys.stdin.readline()))
links = [(link.source, link.destination) for link in core._plan.topology.links]
print("ready", flush=True)
while True:
    core.shape([(a, b, Impairment(delay_us=20_000, rate_bps=1_000_000)) for a, b in links])
    core.read_back()
"""


def test_a_client_killed_in_mid_frame_harms_nobody(bench: Bench, pool: Path) -> None:
    """Killed at different moments of its traffic, so often that every control port has had a victim."""
    for round_number in range(6):
        command = [sys.executable, "-c", CLIENT, str(pool)]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert client.stdin is not None and client.stdout is not None
        with client.stdin, client.stdout:
            client.stdin.write(json.dumps(bench.core.state()) + "\n")
            client.stdin.flush()
            assert client.stdout.readline() == "ready\n"
            # Somewhere else in its loop each time: the delay is how long this process is busy with the core itself.
            for _ in range(round_number):
                bench.core.read_back()
            client.send_signal(signal.SIGKILL)
            client.wait(timeout=10)
        other = open_core(bench.core.state())
        with contextlib.closing(other):
            other.shape([("s1", "s2", Impairment(delay_us=1000 + round_number))])
            assert other.read_back()["s1", "s2"].delay_us == 1000 + round_number
        assert bench.core.read_back()["s1", "s2"].delay_us == 1000 + round_number


def test_frames_that_a_dead_client_left_are_dropped(bench: Bench, placement: str) -> None:
    """Cut short in the middle, or asked and never read: the next client on the same port sees neither."""
    if placement != "vm":
        pytest.skip("a namespace core has no frames")
    machine = machine_module.load_machine(machine_module.CORES_DIRECTORY / bench.core.state()["machine"])
    assert machine is not None
    for leftover in (b"", b"\xdb", b"x" * 70_000, b"x" * 300_000):
        victim = machine.connect(5)
        kernel = Kernel(victim)
        for _ in range(20):
            victim.send(dump_request())
        victim._socket.sendall(b"\xc0" + leftover)
        kernel.close()
        with contextlib.closing(Kernel(machine.connect(5))) as successor:
            assert "port0" in successor.links()


def dump_request() -> bytes:
    """RTM_GETQDISC of everything."""
    return struct.pack("=IHHII", 36, 38, 0x301, 99, 0) + bytes(20)


def test_two_cores_at_once_and_a_warm_one_serves_again(
    bench: Bench, placement: str, pool: Path, tmp_path: Path
) -> None:
    bench.shape_all(CLEAN)
    plan, notes = make_plan("ctrb", 14, 2), Notes()
    states = []
    for delay_us in (5000, 9000):
        started = time.monotonic()
        with nodes(plan) as netns, placed(placement, notes, tmp_path) as second:
            second.attach(plan, netns)
            other = Bench(second, plan, notes)
            other.shape_all(Impairment(delay_us=delay_us))
            elapsed = time.monotonic() - started
            states.append(second.state())
            assert notes.resources
            assert other.one_way_ms("s0", "s1") == pytest.approx(delay_us / 1000, abs=1.5)
            assert bench.one_way_ms("s0", "s1") == pytest.approx(20, abs=1.5)
        assert notes.resources == []
    if placement == "vm":
        assert states[0]["machine"] == states[1]["machine"]
        assert elapsed < 4


@contextlib.contextmanager
def placed(placement: str, notes: Notes, directory: Path) -> Iterator[WanCore]:
    core = place_core(placement, 2, notes, directory, None)  # type: ignore[arg-type]
    try:
        yield core
    finally:
        core.detach()


def test_a_machine_whose_interfaces_are_lost_is_not_kept(placement: str, pool: Path, tmp_path: Path) -> None:
    if placement != "vm":
        pytest.skip("a namespace core has nothing to lose")
    plan, notes = make_plan("ctrc", 13, 2), Notes()
    with nodes(plan) as netns:
        core = place_core("vm", 2, notes, tmp_path, None)
        core.attach(plan, netns)
        state = core.state()
    core.detach()
    assert notes.resources == []
    assert not (pool / state["machine"]).exists()
    with pytest.raises(CoreError, match="has ended"):
        open_core(state)


def test_a_machine_without_a_lease_ends_by_itself(
    placement: str, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if placement != "vm":
        pytest.skip("a namespace core costs nothing while it waits")
    monkeypatch.setattr(vm_core, "WARM_LEASE_S", 1)
    plan, notes = make_plan("ctrd", 12, 2), Notes()
    with nodes(plan) as netns:
        core = place_core("vm", 2, notes, tmp_path, None)
        core.attach(plan, netns)
        state = core.state()
        core.detach()
    machine = machine_module.load_machine(pool / state["machine"])
    assert machine is not None
    descriptor = os.pidfd_open(machine.pid)
    with os.fdopen(descriptor, closefd=True):
        assert select.select([descriptor], [], [], 20)[0], "it still runs"
    assert not machine.alive()
