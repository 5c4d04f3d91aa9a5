"""What every WAN core must do, measured through it: the same cases on each placement that this host can run."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.errors import CoreError, ShapingError
from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss
from harness.model.measurement import LinkCounters
from harness.model.resource import Resource
from harness.model.topology import Link, Site, Topology
from harness.plan.addressing import LabPlan, plan_lab
from harness.plan.certificate import certify
from harness.plan.prober_protocol import Observation, observations, prober_plan
from harness.plan.probing import Session, plan_sessions
from harness.plan.shaping import realised
from harness.wan import machine as machine_module
from harness.wan import vm_core
from harness.wan.kernel import Kernel
from harness.wan.local_transport import in_netns
from harness.wan.native_program import compiled
from harness.wan.placement import end_warm_cores, host_report, open_core, place_core
from harness.wan.port import WanCore

pytestmark = [pytest.mark.root, pytest.mark.vm]

MTU = 1500
FULL_PAYLOAD = MTU - 28
QUIET_S = 1.0
PORT = 40405
SO_TIMESTAMPNS = 35
CLEAN = Impairment(delay_us=20_000)


@dataclass
class Notes:
    """A Recorder that a test can look into."""

    resources: list[Resource] = field(default_factory=list)

    def record(self, resource: Resource) -> None:
        self.resources.append(resource)

    def forget(self, resource: Resource) -> None:
        self.resources.remove(resource)


@dataclass
class Bench:
    """A core with a lab attached, and what the tests measure it with."""

    core: WanCore
    plan: LabPlan
    notes: Notes

    @property
    def netns(self) -> dict[str, str]:
        return {site.site: site.netns for site in self.plan.sites}

    def shape_all(self, impairment: Impairment) -> None:
        self.core.shape([(link.source, link.destination, impairment) for link in self.plan.topology.links])

    def endpoint(self, site: str) -> socket.socket:
        plan = self.plan.site(site)
        with in_netns(plan.netns):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        made.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
        made.bind((str(plan.wan_address), PORT))
        return made

    def stream(self, source: str, destination: str, packets: int, payload: int, gap_s: float = 0.0) -> list[int]:
        """Arrival times in ns, by the kernel, of UDP packets sent one after another; ends when it has been quiet."""
        with (
            contextlib.closing(self.endpoint(source)) as sender,
            contextlib.closing(self.endpoint(destination)) as sink,
        ):
            arrivals: list[int] = []
            target = sink.getsockname()
            begin = time.monotonic()
            for number in range(packets):
                due = begin + number * gap_s
                while gap_s and (left := due - time.monotonic()) > 0:
                    arrivals += receive(sink, left)
                sender.sendto(bytes(payload), target)
            while got := receive(sink, QUIET_S):
                arrivals += got
            return arrivals

    def one_way_ms(self, source: str, destination: str, packets: int = 20) -> float:
        """Delay of the faster packets (lower quartile): a busy host holds some up, which is not the core's doing."""
        with (
            contextlib.closing(self.endpoint(source)) as sender,
            contextlib.closing(self.endpoint(destination)) as sink,
        ):
            delays = []
            for _ in range(packets):
                started = time.time_ns()
                sender.sendto(b"x" * 36, sink.getsockname())
                delays += [(arrival - started) / 1e6 for arrival in receive(sink, QUIET_S)]
        return statistics.quantiles(delays, n=4)[0]

    def counters(self, source: str, destination: str) -> LinkCounters:
        return next(c for c in self.core.counters() if (c.source, c.destination) == (source, destination))


def receive(sink: socket.socket, timeout_s: float) -> list[int]:
    """The arrival time of the next packet, within the timeout."""
    sink.settimeout(max(0.0001, timeout_s))
    try:
        _, ancillary, _, _ = sink.recvmsg(2048, 64)
    except (TimeoutError, BlockingIOError):
        return []
    seconds, nanoseconds = struct.unpack("@qq", ancillary[0][2])
    return [seconds * 10**9 + nanoseconds]


def make_plan(lab_id: str, slot: int, sites: int) -> LabPlan:
    names = [f"s{index}" for index in range(sites)]
    links = [Link(source=a, destination=b, impairment=CLEAN) for a in names for b in names if a != b]
    topology = Topology(name="contract", mtu=MTU, sites=tuple(Site(name=name) for name in names), links=tuple(links))
    return plan_lab(topology, lab_id, slot)


@contextlib.contextmanager
def nodes(plan: LabPlan) -> Iterator[dict[str, str]]:
    made = []
    try:
        for site in plan.sites:
            subprocess.run(["ip", "netns", "add", site.netns], check=True)
            made.append(site.netns)
        yield {site.site: site.netns for site in plan.sites}
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture(scope="module")
def pool() -> Iterator[Path]:
    """A pool of machines for these tests alone. Not below pytest's directory: a socket's path has to be short."""
    directory = Path(f"/run/longhaul-test-{os.getpid()}")
    patch = pytest.MonkeyPatch()
    for module in (machine_module, vm_core):
        patch.setattr(module, "CORES_DIRECTORY", directory)
    patch.delenv("LONGHAUL_WARM_CORE", raising=False)
    yield directory
    end_warm_cores()
    left = list(directory.glob("*/core.json"))
    shutil.rmtree(directory, ignore_errors=True)
    patch.undo()
    assert not left, "a machine outlived its tests"


@pytest.fixture(scope="module", params=["netns", "vm"])
def placement(request: pytest.FixtureRequest) -> str:
    report = host_report()
    reason = {"netns": report.netns_core, "vm": report.vm_core}[request.param]
    if reason and report.netns_core and report.vm_core:
        pytest.fail(f"no placement runs here: {report.netns_core}; {report.vm_core}")
    if reason:
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(scope="module")
def bench(placement: str, pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    plan, notes = make_plan("ctra", 15, 3), Notes()
    with nodes(plan) as netns:
        core = place_core(placement, 3, notes, tmp_path_factory.mktemp("core"), 11)  # type: ignore[arg-type]
        try:
            core.attach(plan, netns)
            yield Bench(core, plan, notes)
        finally:
            core.detach()
    assert notes.resources == [], "a resource was never given back"


def test_delay_is_as_asked(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=25_000))
    assert bench.one_way_ms("s0", "s1") == pytest.approx(25, abs=1.5)


def test_directions_differ(bench: Bench) -> None:
    bench.core.shape([("s0", "s1", Impairment(delay_us=10_000)), ("s1", "s0", Impairment(delay_us=60_000))])
    assert bench.one_way_ms("s0", "s1") == pytest.approx(10, abs=1.5)
    assert bench.one_way_ms("s1", "s0") == pytest.approx(60, abs=1.5)


def test_probers_and_certificate_agree_with_the_plan(bench: Bench) -> None:
    impairment = Impairment(delay_us=15_000, rate_bps=10_000_000, buffer_bytes=60_000)
    bench.shape_all(impairment)
    wanted = {(link.source, link.destination): impairment for link in bench.plan.topology.links}
    mtu = dict.fromkeys(wanted, MTU)
    (session,) = plan_sessions(wanted, list(wanted), "quick", mtu)
    seen = run_probers(bench, session)
    for link in wanted:
        own = [one for one in seen if one.stream.link == link]
        made = certify(own, (), impairment, impairment, depth="quick", mtu=MTU)
        assert "loss" not in made.reason and made.sent == made.received == 100
        assert made.delay_quantiles_us[0] == pytest.approx(15_000, abs=2000)
        slower = Impairment(delay_us=60_000)
        assert certify(own, (), slower, slower, depth="quick", mtu=MTU).reason.startswith("one-way delay")


def run_probers(bench: Bench, session: Session) -> list[Observation]:
    program = compiled("native/prober.c")
    start_ns = time.monotonic_ns() + 500_000_000
    reach = {site.site: str(site.wan_address) for site in bench.plan.sites}
    probers = {}
    for site in bench.plan.sites:
        listen = (str(site.wan_address), PORT)
        text = prober_plan(session, site.site, token=7, start_ns=start_ns, listen=listen, reach=reach)
        command = ["ip", "netns", "exec", site.netns, str(program)]
        prober = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert prober.stdin is not None
        prober.stdin.write(text)
        prober.stdin.close()
        prober.stdin = None
        probers[site.site] = prober
    return observations(session, {site: prober.communicate(timeout=30)[0] for site, prober in probers.items()})


def test_independent_loss_is_counted(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=1000, loss=IndependentLoss(probability=0.2)))
    before = bench.counters("s0", "s1")
    arrived = len(bench.stream("s0", "s1", 2000, 100, gap_s=0.0003))
    after = bench.counters("s0", "s1")
    assert 300 < 2000 - arrived < 500  # 400 ± 18; five and a half standard deviations
    assert after.dropped_loss - before.dropped_loss == 2000 - arrived
    assert after.packets - before.packets == arrived
    assert after.dropped_queue == before.dropped_queue


def test_burst_loss_has_its_mean_and_comes_in_bursts(bench: Bench) -> None:
    loss = GilbertElliottLoss(good_to_bad=0.02, bad_to_good=0.2)
    bench.shape_all(Impairment(delay_us=1000, loss=loss))
    before = bench.counters("s0", "s1")
    arrived = len(bench.stream("s0", "s1", 4000, 100, gap_s=0.0003))
    assert 0.05 < 1 - arrived / 4000 < 0.14  # 9.1%; bursts of five packets
    assert bench.counters("s0", "s1").dropped_loss - before.dropped_loss == 4000 - arrived


def test_rate_counts_ip_bytes(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=5000, rate_bps=8_000_000, buffer_bytes=300_000))
    arrivals = bench.stream("s0", "s1", 200, FULL_PAYLOAD)
    assert len(arrivals) == 200
    assert 169 * MTU * 8 / ((arrivals[-1] - arrivals[30]) / 1e9) == pytest.approx(8_000_000, rel=0.05)


def test_small_packets_do_not_overtake_the_rate(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=5000, rate_bps=1_000_000, buffer_bytes=600 * MTU))
    arrivals = bench.stream("s0", "s1", 600, 100)
    assert len(arrivals) == 600
    assert 569 * 128 * 8 / ((arrivals[-1] - arrivals[30]) / 1e9) == pytest.approx(1_000_000, rel=0.1)


def test_buffer_depth_is_apart_from_what_is_in_flight(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=50_000, rate_bps=2_000_000, buffer_bytes=20 * MTU))
    before = bench.counters("s0", "s1")
    arrived = len(bench.stream("s0", "s1", 60, FULL_PAYLOAD))
    after = bench.counters("s0", "s1")
    # 20 waiting, one being sent, and what was sent while the burst came in.
    assert 21 <= arrived <= 26
    assert after.dropped_queue - before.dropped_queue == 60 - arrived
    assert after.dropped_loss == before.dropped_loss


def test_jitter_spreads_and_keeps_order(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=30_000, jitter_us=8000))
    with bench.endpoint("s0") as sender, bench.endpoint("s1") as sink:
        sink.settimeout(QUIET_S)
        for number in range(400):
            sender.sendto(number.to_bytes(2, "big"), sink.getsockname())
        numbers = [int.from_bytes(sink.recv(16), "big") for _ in range(400)]
        delays = []
        for _ in range(60):
            started = time.time_ns()
            sender.sendto(b"x", sink.getsockname())
            delays += [(arrival - started) / 1e6 for arrival in receive(sink, QUIET_S)]
    assert numbers == sorted(numbers)
    assert statistics.fmean(delays) == pytest.approx(30, abs=3)
    assert 3 < statistics.pstdev(delays) < 7  # uniform over 16 ms: 4.6


def test_blocked_link_passes_nothing_and_opens_again(bench: Bench) -> None:
    bench.shape_all(CLEAN)
    bench.core.shape([("s0", "s1", CLEAN.model_copy(update={"blocked": True}))])
    assert bench.stream("s0", "s1", 20, 100) == []
    assert len(bench.stream("s1", "s0", 20, 100)) == 20
    bench.core.shape([("s0", "s1", CLEAN)])
    assert len(bench.stream("s0", "s1", 20, 100)) == 20


def test_a_change_leaves_nothing_of_before(bench: Bench) -> None:
    everything = Impairment(
        delay_us=40_000,
        jitter_us=3000,
        loss=GilbertElliottLoss(good_to_bad=0.3, bad_to_good=0.3, loss_in_good=0.1),
        rate_bps=1_000_000,
        buffer_bytes=30_000,
    )
    bench.core.shape([("s0", "s1", everything)])
    assert bench.core.read_back()["s0", "s1"] == realised(everything, MTU)
    bench.core.shape([("s0", "s1", CLEAN)])
    assert bench.core.read_back()["s0", "s1"] == CLEAN
    assert len(bench.stream("s0", "s1", 200, FULL_PAYLOAD)) == 200
    assert bench.one_way_ms("s0", "s1") == pytest.approx(20, abs=1.5)


@pytest.mark.parametrize(
    "impairment",
    [
        Impairment(),
        Impairment(delay_us=1),
        Impairment(delay_us=700),
        Impairment(delay_us=650_000, rate_bps=20_000, loss=IndependentLoss(probability=0.02)),
        Impairment(delay_us=270_000, rate_bps=40_000_000_000, buffer_bytes=1_000_000),
        Impairment(loss=GilbertElliottLoss(good_to_bad=0.001, bad_to_good=0.125, loss_in_bad=0.9, loss_in_good=0.0005)),
        Impairment(delay_us=50_000, jitter_us=10_000, blocked=True),
    ],
)
def test_what_is_read_back_is_what_was_asked(bench: Bench, impairment: Impairment) -> None:
    bench.core.shape([("s2", "s0", impairment)])
    assert bench.core.read_back()["s2", "s0"] == realised(impairment, MTU)


def test_unknown_link_and_impossible_impairment_are_refused(bench: Bench) -> None:
    with pytest.raises(ShapingError, match="no link s0>mars"):
        bench.core.shape([("s0", "mars", CLEAN)])
    with pytest.raises(ShapingError, match="needs a rate"):
        bench.core.shape([("s0", "s1", Impairment(buffer_bytes=1000))])


def test_packets_on_the_wan_are_one_mtu(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=1000))
    before = bench.counters("s0", "s1")
    send_by_tcp(bench, 400_000)
    after = bench.counters("s0", "s1")
    average = (after.bytes - before.bytes) / (after.packets - before.packets)
    assert average <= MTU + 14
    assert after.bytes - before.bytes > 400_000


def send_by_tcp(bench: Bench, size: int) -> None:
    with in_netns(bench.netns["s1"]):
        listener = socket.create_server((str(bench.plan.site("s1").wan_address), PORT))
    with in_netns(bench.netns["s0"]):
        client = socket.create_connection((str(bench.plan.site("s1").wan_address), PORT), timeout=10)
    server, _ = listener.accept()
    server.settimeout(10)
    with listener, client, server:
        client.setblocking(False)
        sent = got = 0
        while got < size:
            with contextlib.suppress(BlockingIOError):
                sent += client.send(bytes(min(65536, size - sent))) if sent < size else 0
            got += len(server.recv(1 << 20))


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
