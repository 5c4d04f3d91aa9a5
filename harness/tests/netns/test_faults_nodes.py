"""Faults of a real lab's nodes and links: each one's effect and its undo as software on the node sees them."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from harness.errors import InputError
from harness.lab.by_hand import carry_out, events_since
from harness.lab.fault_desk import FaultDesk
from harness.lab.injector import Injector
from harness.lab.lab import Lab
from harness.model import timeline as model
from harness.model.timeline import LinkChoice, Target
from harness.tests.lab_topologies import two_sites

pytestmark = [pytest.mark.root, pytest.mark.vm]

DEADLINE_S = 15.0
THERE = LinkChoice(pairs=(("east", "west"),))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two sites; east has a disk of its own and a clock that can be moved."""
    topology = two_sites()
    east, west = topology.sites
    east = east.model_copy(update={"disk_bytes": 32_000_000, "adjustable_clock": True})
    built = Lab.up(
        topology.model_copy(update={"sites": (east, west)}),
        lab_id="t" + secrets.token_hex(2),
        state_root=tmp_path_factory.mktemp("state"),
    )
    yield built
    built.down()


@pytest.fixture
def desk(lab: Lab) -> Iterator[FaultDesk]:
    desk = FaultDesk(lab, origin="test")
    yield desk
    healed = desk.heal_everything()
    assert all(one.problem is None for one in healed), healed


def run(lab: Lab, script: str, node: str = "east") -> str:
    """What a shell on the node says, in one line for each."""
    return lab.nodes[node].remote.run(["sh", "-c", script], check=False).stdout.strip()


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def reaches(lab: Lab, source: str, destination: str) -> bool:
    """Whether one datagram of ours arrives, whatever the way back does."""
    address = lab.nodes[destination].wan_address
    listener = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        f"s.bind(({address!r}, 4242)); print('ready', flush=True); s.settimeout(1.0); print(s.recv(9))"
    )
    sender = (
        "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"for _ in range(20): s.sendto(b'hello', ({address!r}, 4242)); time.sleep(0.05)"
    )
    enter = ["ip", "netns", "exec"]
    with subprocess.Popen(
        [*enter, lab.nodes[destination].netns, sys.executable, "-c", listener],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        subprocess.run([*enter, lab.nodes[source].netns, sys.executable, "-c", sender], check=True)
        return "hello" in process.stdout.read()


def clock_offset(lab: Lab) -> float:
    return float(run(lab, "date +%s.%N")) - time.time()


def disk_takes(lab: Lab) -> bool:
    """Whether the disk of east takes another 64 KiB."""
    return run(lab, "dd if=/dev/zero of=more bs=64k count=1 2>/dev/null && echo yes; rm -f more") == "yes"


def ticker(lab: Lab) -> int:
    """A process that appends to ``ticks`` without end; its pid on the node."""
    script = "import time\nwhile True:\n  open('ticks', 'a').write('x')\n  time.sleep(0.01)"
    return lab.nodes["east"].remote.start("ticker", ["python3", "-c", script]).pid


def ticks(lab: Lab) -> int:
    return int(run(lab, "cat ticks 2>/dev/null | wc -c"))


def test_a_one_way_partition_stops_one_way(lab: Lab, desk: FaultDesk) -> None:
    fault = desk.begin(model.Partition(groups=(("east",), ("west",)), one_way=True))
    assert not reaches(lab, "east", "west")
    assert reaches(lab, "west", "east")
    desk.end(fault)
    assert reaches(lab, "east", "west")


def test_faults_of_links_compose_and_come_apart(lab: Lab, desk: FaultDesk) -> None:
    before = lab.in_force("east", "west")
    cut = desk.begin(model.BlackHole(links=THERE))
    slow = desk.begin(model.Change(links=THERE, fields={"delay_us": 70_000, "rate_bps": 1_000_000}))
    slower = desk.begin(model.Change(links=THERE, fields={"delay_us": 90_000}))
    desk.end(slow)
    assert lab.read_back()["east", "west"].blocked
    desk.end(cut)
    found = lab.read_back()["east", "west"]
    assert (found.delay_us, found.rate_bps, found.blocked) == (90_000, None, False)
    desk.end(slower)
    assert lab.read_back()["east", "west"] == before == lab.in_force("east", "west")


def test_a_ramp_arrives_and_a_flap_opens_again(lab: Lab, desk: FaultDesk) -> None:
    ramp = model.Ramp(links=THERE, fields={"delay_us": 30_000}, over_s=0.3, step_s=0.1)
    fault = carry_out(desk, ramp, time.sleep)
    assert lab.read_back()["east", "west"].delay_us == 30_000
    seen = []
    flap = model.Flap(links=THERE, down_s=0.05, up_s=0.05, flaps=2)

    def look(seconds: float) -> None:
        seen.append(lab.in_force("east", "west").blocked)
        time.sleep(seconds)

    carry_out(desk, flap, look)
    assert seen == [False, True, False, True]
    assert not lab.in_force("east", "west").blocked
    desk.end(fault)
    assert lab.read_back()["east", "west"].delay_us == 10_000


def test_paused_processes_stand_still_until_the_last_pause_ends(lab: Lab, desk: FaultDesk) -> None:
    ticker(lab)
    await_true(lambda: ticks(lab) > 0)
    every = desk.begin(model.Pause(node="east"))
    one = desk.begin(model.Pause(node="east", target=Target(command="ticks")))
    desk.end(every)
    still = ticks(lab)
    assert ticks(lab) == still
    desk.end(one)
    await_true(lambda: ticks(lab) > still)
    desk.begin(model.Kill(node="east", target=Target(command="ticks")))
    assert not run(lab, "pgrep -f [t]icks")


def test_a_restarted_service_runs_as_it_did(lab: Lab, desk: FaultDesk) -> None:
    pid = ticker(lab)
    await_true(lambda: ticks(lab) > 0)
    fault = desk.begin(model.Restart(node="east", target=Target(command="ticks")))
    assert run(lab, f"kill -0 {pid} && echo alive") == ""
    before = ticks(lab)
    desk.end(fault)
    await_true(lambda: ticks(lab) > before)
    desk.begin(model.Kill(node="east", target=Target(command="ticks")))
    with pytest.raises(InputError, match="runs no"):
        desk.begin(model.Kill(node="east", target=Target(command="ticks")))


def test_a_node_that_boots_loses_its_processes_and_keeps_its_files(lab: Lab, desk: FaultDesk) -> None:
    ticker(lab)
    run(lab, "echo kept >kept")
    fault = desk.begin(model.Reboot(node="east"))
    assert lab.in_force("west", "east").blocked
    desk.end(fault)
    assert run(lab, "cat kept") == "kept"
    assert not run(lab, "pgrep -f [t]icks")
    assert not lab.in_force("west", "east").blocked


def test_a_full_disk_refuses_until_the_last_fault_ends(lab: Lab, desk: FaultDesk) -> None:
    assert disk_takes(lab)
    first = desk.begin(model.DiskFull(node="east"))
    second = desk.begin(model.DiskFull(node="east", free_bytes=16_000))
    assert "No space left" in run(lab, "dd if=/dev/zero of=more bs=1 count=1 2>&1; rm -f more")
    desk.end(first)
    assert not disk_takes(lab)
    desk.end(second)
    assert disk_takes(lab)


def test_only_a_disk_of_its_own_is_filled(lab: Lab, desk: FaultDesk) -> None:
    with pytest.raises(InputError, match="no disk of its own"):
        desk.begin(model.DiskFull(node="west"))
    assert desk.in_force() == ()


def test_a_slow_disk_takes_the_time_that_its_rate_says(lab: Lab, desk: FaultDesk) -> None:
    write = "dd if=/dev/zero of=more bs=64k count=4 conv=fsync 2>/dev/null; rm -f more"
    fault = desk.begin(model.DiskSlow(node="east", bytes_per_s=256_000))
    began = time.monotonic()
    run(lab, write)
    slow_s = time.monotonic() - began
    desk.end(fault)
    began = time.monotonic()
    run(lab, write)
    assert slow_s > 0.8
    assert time.monotonic() - began < slow_s / 2


def test_clocks_jump_and_drift_and_add_up(lab: Lab, desk: FaultDesk) -> None:
    jump = desk.begin(model.ClockJump(node="east", offset_s=-3600))
    skew = desk.begin(model.ClockSkew(node="east", rate=5))
    assert clock_offset(lab) > -3600
    await_true(lambda: clock_offset(lab) > -3598)
    desk.end(jump)
    assert clock_offset(lab) > 1
    desk.end(skew)
    assert abs(clock_offset(lab)) < 0.5
    with pytest.raises(InputError, match="cannot be moved"):
        desk.begin(model.ClockJump(node="west", offset_s=1))


def test_a_corrupt_file_is_put_back_where_nobody_wrote_over_it(lab: Lab, desk: FaultDesk) -> None:
    run(lab, "mkdir -p tree; seq 5000 >tree/file; sha1sum tree/file >sum; stat -c %Y tree/file >time")
    fault = desk.begin(model.CorruptFile(node="east", path="tree/*", bytes=5, seed=1))
    again = desk.begin(model.CorruptFile(node="east", path="tree/*", bytes=5, seed=2))
    assert "FAILED" in run(lab, "sha1sum -c sum 2>/dev/null")
    desk.end(fault)
    assert "FAILED" in run(lab, "sha1sum -c sum 2>/dev/null")
    desk.end(again)
    assert "OK" in run(lab, "sha1sum -c sum")
    assert run(lab, "stat -c %Y tree/file | diff - time") == ""
    fault = desk.begin(model.CorruptFile(node="east", path="tree/*", bytes=5, seed=1))
    run(lab, "echo new >tree/file")
    desk.end(fault)
    assert run(lab, "cat tree/file") == "new"


def test_a_process_out_of_descriptors_opens_again_afterwards(lab: Lab, desk: FaultDesk) -> None:
    script = (
        "import time\nwhile True:\n  try:\n    with open('/dev/null'): said = 'opened'\n  except OSError as error:\n"
        "    said = str(error.errno)\n  import os; os.write(1, said.encode() + b'\\n'); time.sleep(0.01)"
    )
    process = lab.nodes["east"].remote.start("opener", ["python3", "-c", script])
    await_true(lambda: run(lab, f"tail -1 {process.log}") == "opened")
    fault = desk.begin(model.Descriptors(node="east", target=Target(command="opened")))
    await_true(lambda: run(lab, f"tail -1 {process.log}") == "24")
    desk.end(fault)
    await_true(lambda: run(lab, f"tail -1 {process.log}") == "opened")
    desk.begin(model.Kill(node="east", target=Target(command="opened")))


DYING = """
import sys, time
from pathlib import Path
from harness.lab.injector import Injector
from harness.lab.lab import Lab
from harness.model import timeline as model
links = model.LinkChoice(all=True)
events = [
    model.BlackHole(links=links),
    model.Ramp(links=links, fields={"delay_us": 200_000}, over_s=60, step_s=0.05),
    model.DiskFull(node="east"),
    model.ClockJump(node="east", offset_s=500),
    model.DiskSlow(node="east", bytes_per_s=100_000_000),
    model.Pause(node="east", target=model.Target(command="ticks")),
]
lab = Lab.open(sys.argv[1], state_root=Path(sys.argv[2]))
begun = []
injector = Injector(lab, timeline=events, on_fault=lambda *fault: begun.append(fault))
injector.start()
while len(begun) < len(events) or not lab.link_states()["east", "west"].overlays:
    time.sleep(0.01)
print("broken", flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_broke_is_healed_by_another(lab: Lab, desk: FaultDesk) -> None:
    ticker(lab)
    await_true(lambda: ticks(lab) > 0)
    argv = [sys.executable, "-c", DYING, lab.lab_id, str(lab.paths.state_root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as dying:
        assert dying.stdout is not None
        assert dying.stdout.readline() == "broken\n"
        os.kill(dying.pid, signal.SIGKILL)
    assert len(desk.in_force()) == 6
    assert not disk_takes(lab)
    healed = desk.heal_everything()
    assert [one.problem for one in healed] == [None] * 7
    assert desk.in_force() == ()
    assert (
        lab.in_force("east", "west") == lab.read_back()["east", "west"] == lab.topology.link("east", "west").impairment
    )
    assert disk_takes(lab)
    assert abs(clock_offset(lab)) < 0.5
    before = ticks(lab)
    await_true(lambda: ticks(lab) > before)
    desk.begin(model.Kill(node="east", target=Target(command="ticks")))


def test_what_was_done_by_hand_is_done_again_at_the_same_times(lab: Lab, desk: FaultDesk) -> None:
    began_s = time.monotonic()
    cut = desk.begin(model.BlackHole(links=THERE))
    lab.change({("west", "east"): lab.impairment("west", "east").model_copy(update={"delay_us": 44_000})}, "by hand")
    desk.end(cut)
    lab.restore()
    ended_s = time.monotonic()
    events = events_since(lab, desk, began_s, ended_s)
    assert [event.do for event in events] == ["black-hole", "change"]
    told: list[tuple[str, str, float]] = []
    mark_s = time.monotonic()
    injector = Injector(
        lab, timeline=events, on_fault=lambda what, fault, _, at_s: told.append((what, fault.event.do, at_s))
    )
    injector.start()
    assert injector.wait(DEADLINE_S)
    injector.stop()
    # What a timeline does is its own, and no hand's.
    assert events_since(lab, desk, mark_s, time.monotonic()) == ()
    planned = sorted(
        [(event.at_s, event.do) for event in events]
        + [(event.at_s + (event.duration_s or 0), event.do) for event in events]
    )
    assert [do for _, do in planned] == [do for _, do, _ in told]
    for (planned_s, _), (_, _, actual_s) in zip(planned, told, strict=True):
        assert -0.001 <= actual_s - (mark_s - lab.epoch_s) - planned_s < 0.5
