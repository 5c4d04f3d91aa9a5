"""More sites than the micro-VM has devices: what a trunk must do that a device for each site gives for nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.model.impairment import Impairment
from harness.model.measurement import LinkCounters
from harness.model.topology import Link, Site, Topology
from harness.plan.addressing import LabPlan, plan_lab
from harness.tests.wan_bench import Notes
from harness.wan import machine as machine_module
from harness.wan import vm_core
from harness.wan.kernel import Kernel
from harness.wan.local_transport import LocalTransport, in_netns
from harness.wan.placement import end_warm_cores, host_report, place_core
from harness.wan.port import WanCore
from harness.wan.router import port_name

pytestmark = [pytest.mark.root, pytest.mark.vm]

SITES = 20
MTU = 9000
DELAY_US = 20_000
TCP_BYTES = 400_000
PORT = 40406
SO_TIMESTAMPNS = 35
PATIENCE_S = 10.0
# On the same trunk, on different ones, and between the first and the last.
PAIRS = (("s0", "s2"), ("s3", "s8"), ("s19", "s0"))


@dataclass
class Lab:
    core: WanCore
    plan: LabPlan
    notes: Notes

    @property
    def netns(self) -> dict[str, str]:
        return {site.site: site.netns for site in self.plan.sites}

    @property
    def pid(self) -> int:
        return next(int(resource.name) for resource in self.notes.resources if resource.kind == "process")

    def attach(self) -> None:
        self.core.attach(self.plan, self.netns)
        self.core.shape([(link.source, link.destination, link.impairment) for link in self.plan.topology.links])

    def socket(self, site: str, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
        plan = self.plan.site(site)
        with in_netns(plan.netns):
            made = socket.socket(socket.AF_INET, kind)
        made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.settimeout(PATIENCE_S)
        made.bind((str(plan.wan_address), PORT if kind == socket.SOCK_DGRAM else 0))
        return made

    def counters(self, source: str, destination: str) -> LinkCounters:
        return next(c for c in self.core.counters() if (c.source, c.destination) == (source, destination))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if host_report().vm_core:
        pytest.skip(host_report().vm_core)
    patch = pytest.MonkeyPatch()
    directory = Path(f"/run/longhaul-trunk-{os.getpid()}")
    for module in (machine_module, vm_core):
        patch.setattr(module, "CORES_DIRECTORY", directory)
    patch.delenv("LONGHAUL_WARM_CORE", raising=False)
    names = [f"s{index}" for index in range(SITES)]
    clean = Impairment(delay_us=DELAY_US)
    links = tuple(Link(source=a, destination=b, impairment=clean) for a in names for b in names if a != b)
    topology = Topology(name="trunk", mtu=MTU, sites=tuple(Site(name=name) for name in names), links=links)
    plan, notes = plan_lab(topology, "ctrt", 11), Notes()
    try:
        for site in plan.sites:
            subprocess.run(["ip", "netns", "add", site.netns], check=True)
        core = place_core("vm", SITES, notes, tmp_path_factory.mktemp("core"), 5)
        lab = Lab(core, plan, notes)
        try:
            lab.attach()
            yield lab
        finally:
            lab.core.detach()
    finally:
        for site in plan.sites:
            subprocess.run(["ip", "netns", "delete", site.netns], check=False)
        end_warm_cores(frozenset)
        left = list(directory.glob("*/core.json"))
        shutil.rmtree(directory, ignore_errors=True)
        patch.undo()
    assert notes.resources == [], "a resource was never given back"
    assert not left, "a machine outlived its tests"


@pytest.mark.parametrize(("source", "destination"), PAIRS)
def test_a_packet_of_the_whole_mtu_arrives_when_it_should(lab: Lab, source: str, destination: str) -> None:
    with contextlib.closing(lab.socket(source)) as sender, contextlib.closing(lab.socket(destination)) as sink:
        delays = []
        for _ in range(20):
            started = time.time_ns()
            sender.sendto(bytes(MTU - 28), sink.getsockname())
            payload, ancillary, _, _ = sink.recvmsg(1 << 16, 64)
            seconds, nanoseconds = struct.unpack("@qq", ancillary[0][2])
            delays.append((seconds * 10**9 + nanoseconds - started) / 1000)
            assert len(payload) == MTU - 28
    assert statistics.quantiles(delays, n=4)[0] == pytest.approx(DELAY_US, abs=1500)


def test_one_packet_is_one_packet(lab: Lab) -> None:
    """TCP would send 64 KiB at a time if a device on the way let it."""
    before = lab.counters("s1", "s4")
    with (
        contextlib.closing(lab.socket("s4", socket.SOCK_STREAM)) as listener,
        contextlib.closing(lab.socket("s1", socket.SOCK_STREAM)) as sender,
    ):
        listener.listen(1)
        reader = threading.Thread(target=drain, args=(listener,))
        reader.start()
        sender.connect(listener.getsockname())
        sender.sendall(bytes(TCP_BYTES))
        sender.shutdown(socket.SHUT_WR)
        reader.join(PATIENCE_S)
        assert not reader.is_alive()
    after = lab.counters("s1", "s4")
    packets, size = after.packets - before.packets, after.bytes - before.bytes
    assert size >= TCP_BYTES
    assert packets >= TCP_BYTES / (MTU - 40)
    assert size / packets <= MTU + 14


def drain(listener: socket.socket) -> None:
    with contextlib.closing(listener.accept()[0]) as stream:
        while stream.recv(1 << 16):
            pass


def test_only_the_labs_own_packets_cross(lab: Lab) -> None:
    """What a trunk's devices would say of themselves, such as IPv6 solicitations, would be on every site's WAN."""
    with contextlib.closing(lab.socket("s5")) as sender, contextlib.closing(lab.socket("s6")) as sink:
        first = {link.source: link.packets for link in lab.core.counters() if link.destination == "s6"}
        for _ in range(100):
            sender.sendto(b"x", sink.getsockname())
        for _ in range(100):
            sink.recv(64)
        last = {link.source: link.packets for link in lab.core.counters() if link.destination == "s6"}
    assert {source: last[source] - first[source] for source in last if last[source] != first[source]} == {"s5": 100}


def test_a_warm_core_keeps_nothing_of_the_lab(lab: Lab, tmp_path: Path) -> None:
    machine = lab.core.state()["machine"]
    lab.core.detach()
    assert lab.notes.resources == []
    for netns in lab.netns.values():
        with contextlib.closing(Kernel(LocalTransport(netns))) as site:
            assert set(site.links()) == {"lo"}
    lab.core = place_core("vm", SITES, lab.notes, tmp_path, 5)
    assert lab.core.state()["machine"] == machine
    warm = machine_module.load_machine(machine_module.CORES_DIRECTORY / machine)
    assert warm is not None
    with contextlib.closing(Kernel(warm.connect(PATIENCE_S))) as kernel:
        assert not [name for name in kernel.links() if name.startswith(port_name(0)[:-1])]
    lab.attach()
    test_a_packet_of_the_whole_mtu_arrives_when_it_should(lab, *PAIRS[1])


def test_nothing_is_left_of_a_machine_that_was_killed(lab: Lab, tmp_path: Path) -> None:
    descriptor = os.pidfd_open(lab.pid)
    with os.fdopen(descriptor, closefd=True):
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.closing(Kernel(LocalTransport(lab.netns["s7"]))) as site:
        while set(site.links()) != {"lo"}:
            assert time.monotonic() < deadline, "its cables are still there"
    lab.core.detach()
    assert lab.notes.resources == []
    lab.core = place_core("vm", SITES, lab.notes, tmp_path, 5)
