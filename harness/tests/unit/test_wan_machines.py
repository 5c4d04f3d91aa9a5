"""A machine is found by its command line: whatever a crash left out of the records, its QEMU can be ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.lab.ledger import LedgerContent
from harness.lab.undo import undo
from harness.model.resource import Resource
from harness.nodes.host_processes import boot_id
from harness.wan import machine, vm_core
from harness.wan.guest_transport import GuestTransport
from harness.wan.kernel import Kernel
from harness.wan.machine import CORE_NOTE, end_machines, start_ticks
from harness.wan.qemu_command import QEMU
from harness.wan.vm_core import end_warm_cores

Start = Callable[..., "subprocess.Popen[bytes]"]

pytestmark = pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"{QEMU} is not installed")


@pytest.fixture
def cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cores"
    for module in (machine, vm_core):
        monkeypatch.setattr(module, "CORES_DIRECTORY", directory)
    return directory


@pytest.fixture
def start(cores: Path) -> Iterator[Start]:
    """Starts a QEMU that boots nothing, with the parts of its command line by which a machine is known."""
    started: list[subprocess.Popen[bytes]] = []

    def start_one(identity: str, *wrapper: str) -> subprocess.Popen[bytes]:
        (cores / identity).mkdir(parents=True)
        console = cores / identity / "console.log"
        command = [QEMU, "-S", "-M", "q35", "-nodefaults", "-display", "none", "-name", f"longhaul-{identity}"]
        process = subprocess.Popen([*wrapper, *command, "-serial", f"file:{console}"], stdin=subprocess.DEVNULL)
        started.append(process)
        deadline = time.monotonic() + 20
        while not console.exists():
            assert time.monotonic() < deadline, "QEMU does not come up"
            time.sleep(0.005)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.wait()


def made_by(cores: Path, identity: str, pid: int, ticks: int | None) -> None:
    (cores / identity / "maker").write_text(f"{pid} {ticks}")


def test_what_runs_for_a_directory_is_ended_and_nothing_else(cores: Path, start: Start) -> None:
    one, other = start("0000aa"), start("0000bb")
    assert end_machines([cores / "0000aa"]) == 1
    one.wait(timeout=5)
    assert other.poll() is None


def test_a_machine_is_given_no_file_of_its_maker(tmp_path: Path) -> None:
    # Under `flock LOCK longhaul ...` the lock would else be held for as long as the machine stays warm.
    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        pid = machine._spawn(["sleep", "60"], tmp_path / "log")
        try:
            held = []
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                # What the loader of the program has open comes and goes.
                with contextlib.suppress(FileNotFoundError):
                    held.append(entry.readlink())
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert tmp_path / "log" in held
    assert tmp_path / "lock" not in held


def test_a_start_that_was_killed_before_its_pid_was_noted_is_undone(cores: Path, start: Start) -> None:
    process = start("0000aa")
    noted = Resource(kind="directory", name=str(cores / "0000aa"), note=CORE_NOTE)
    assert undo(LedgerContent(boot=boot_id(), outstanding=(noted,))) == ()
    process.wait(timeout=5)
    assert not (cores / "0000aa").exists()


def test_machines_of_nobody_are_ended(cores: Path, start: Start) -> None:
    mine, dead, homeless, leased = start("0000aa"), start("0000bb"), start("0000cc"), start("0000dd")
    maker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        for identity, process in (("0000aa", mine), ("0000bb", dead), ("0000dd", leased)):
            record = machine.Machine(identity, process.pid, start_ticks(process.pid) or 0, 4, "tcg", "6.1")
            record.save()
        made_by(cores, "0000aa", maker.pid, start_ticks(maker.pid))
        made_by(cores, "0000bb", maker.pid, 1)
        shutil.rmtree(cores / "0000cc")
        assert end_warm_cores(lambda: {"0000dd"}) == 2
        assert [process.poll() is None for process in (mine, dead, homeless, leased)] == [True, False, False, True]
        assert sorted(path.name for path in cores.iterdir()) == ["0000aa", "0000dd"]
    finally:
        maker.kill()
        maker.communicate()


def test_a_machine_of_another_version_is_left_alone_while_it_runs(cores: Path, start: Start) -> None:
    process = start("0000aa")
    ticks = start_ticks(process.pid) or 0
    machine.Machine("0000aa", process.pid, ticks, 4, "tcg", "6.1").save()
    record = cores / "0000aa" / "core.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "of_a_later_version": 1}))
    assert end_warm_cores() == 0
    assert process.poll() is None
    assert record.exists()
    process.kill()
    process.wait()
    assert end_warm_cores() == 0
    assert not cores.exists()


class Noting:
    """A recorder that keeps whether the machine was in the pool at each call."""

    def __init__(self, one: machine.Machine) -> None:
        self.one = one
        self.warm: list[tuple[str, bool]] = []

    def record(self, resource: Resource) -> None:
        self.warm.append(("record", machine.is_warm(self.one)))

    def forget(self, resource: Resource) -> None:
        self.warm.append(("forget", machine.is_warm(self.one)))


def test_a_machine_in_the_pool_stands_on_no_labs_record(
    cores: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start("0000aa")
    one = machine.Machine("0000aa", process.pid, start_ticks(process.pid) or 0, 4, "tcg", "6.1", "tap", "image")
    one.save()
    machine.make_warm(one)
    noting = Noting(one)
    assert vm_core._claim(4, "image", noting) == one
    assert set(noting.warm) == {("record", False)}
    noting.warm.clear()
    transport = object.__new__(GuestTransport)
    monkeypatch.setattr(transport, "lease", lambda _: None, raising=False)
    kernel = object.__new__(Kernel)
    kernel.transport = transport
    vm_core.MachineCabling(one, kernel, noting)._make_warm(kernel)
    assert set(noting.warm) == {("forget", False)}
    assert machine.is_warm(one)


@pytest.mark.root
def test_a_containers_machine_of_the_same_name_is_left_alone(cores: Path, start: Start) -> None:
    inside = start("0000aa", "unshare", "--mount")
    deadline = time.monotonic() + 10
    while not Path(f"/proc/{inside.pid}/cmdline").read_text().startswith(QEMU):
        assert time.monotonic() < deadline
    shutil.rmtree(cores / "0000aa")
    assert end_machines([cores / "0000aa"]) == 0
    assert end_warm_cores(frozenset) == 0
    assert inside.poll() is None


def test_the_pool_leaves_no_directory_behind(cores: Path) -> None:
    assert end_warm_cores(frozenset) == 0
    assert not cores.exists()
