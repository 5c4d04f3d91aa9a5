"""A WAN core with a lab attached, on each placement that this host can run, and what tests measure it with."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.model.impairment import Impairment
from harness.model.measurement import LinkCounters
from harness.model.resource import Resource
from harness.model.topology import Link, Site, Topology
from harness.plan.addressing import LabPlan, plan_lab
from harness.wan import machine as machine_module
from harness.wan import vm_core
from harness.wan.local_transport import in_netns
from harness.wan.placement import end_warm_cores, host_report, place_core
from harness.wan.port import WanCore

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
