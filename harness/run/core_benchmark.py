"""What this machine's WAN core carries and costs: packets, processor, the time of a change, labs of many sites.

Each figure is of a whole lab as anybody would build it, and stands beside plain forwarding between veth pairs, which
is what the kernel does without a WAN. Load is UDP from namespace to namespace, with offloads off.
"""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import LabError
from harness.lab.lab import Lab
from harness.model.base import Value
from harness.model.impairment import Impairment
from harness.model.topology import Topology
from harness.plan.mesh import mesh
from harness.wan.load import Flow, Load, idle_cores, offer
from harness.wan.machine import CORES_DIRECTORY, load_machine
from harness.wan.placement import host_report
from harness.wan.plain_router import plain_router
from harness.wan.vm_core import without_warm_cores

Placement = Literal["netns", "vm"]
Progress = Callable[[str], None]

TOLERATED_LOSS = 0.001
"""Of the highest rate that counts as carried: a busy host loses a packet in some thousand at any rate."""
LARGE, SMALL = 1500, 128
SITES = (4, 16, 64, 128)
_DELAY_US = 5000


@dataclass(frozen=True)
class Effort:
    """How long each figure is looked for."""

    trial_s: float = 1.0
    steps: int = 6
    changes: int = 400
    sites: tuple[int, ...] = SITES


QUICK = Effort(trial_s=0.4, steps=4, changes=80, sites=(4, 16))


class Throughput(Value):
    """One kind of load on one path. ``flood`` is what came through of all that could be sent, ``carried`` the highest
    rate with no more than 0.1% lost. Costs in CPU seconds for each Gbit at that rate: of the whole machine with
    the load generators, less what it did before; and of the core's own process where it is one."""

    path: str
    sites: int
    packet_bytes: int
    flows: int
    flood_packets_per_s: float
    carried_packets_per_s: float
    carried_gbit_s: float
    machine_cpu_s_per_gbit: float | None
    core_cpu_s_per_gbit: float | None


class ChangeTime(Value):
    """One change of one link, set and read back. Milliseconds."""

    path: str
    sites: int
    changes: int
    p50_ms: float
    p99_ms: float


class SetUp(Value):
    """A lab of that many sites from nothing to ready, and back. ``phases``: seconds of each step that the builder
    names. Memory in MiB: of the core's process, and what the machine has less while the lab is up."""

    path: str
    sites: int
    links: int
    warm: bool
    up_s: float
    down_s: float
    phases: dict[str, float]
    core_mib: float | None
    lab_mib: float


class Core(Value):
    """What carried a lab of that many sites. ``forward_us``: its own time for a packet, which delays are less by."""

    path: str
    sites: int
    kernel: str
    detail: str
    forward_us: int


class Host(Value):
    """The machine. ``busy_cores`` is what other work took when the benchmark began."""

    kernel: str
    processors: int
    processor: str
    busy_cores: float


class CoreBenchmark(Value):
    """All that was measured. A path is ``veth`` (plain forwarding), ``netns`` or ``vm``."""

    host: Host
    cores: tuple[Core, ...]
    throughput: tuple[Throughput, ...]
    changes: tuple[ChangeTime, ...]
    set_up: tuple[SetUp, ...]


def placements() -> tuple[Placement, ...]:
    """Where this machine can run a core. Raises LabError when nowhere."""
    report = host_report()
    lacks: dict[Placement, str] = {"netns": report.netns_core, "vm": report.vm_core}
    able = tuple(placement for placement, lack in lacks.items() if not lack)
    if not able:
        raise LabError(f"no WAN core can run here: {report.netns_core}; {report.vm_core}", hint="see longhaul doctor")
    return able


def run_benchmark(chosen: Sequence[Placement], effort: Effort, tell: Progress) -> CoreBenchmark:
    """Measure everything. Labs are built one after another, each taken down before the next. Raises LabError."""
    tell("looking at this machine")
    host = Host(
        kernel=platform.release(),
        processors=len(os.sched_getaffinity(0)),
        processor=_processor_name(),
        busy_cores=round(idle_cores(effort.trial_s), 2),
    )
    throughput = list(_plain(effort, tell))
    cores, changes, set_up = [], [], []
    for placement in chosen:
        for sites in effort.sites:
            for warm in (False, True):
                tell(f"{placement}: building {sites} sites" + (" on a warm core" if warm else ""))
                with _lab(_topology(sites), placement, tell, warm=warm) as (lab, built):
                    if warm or placement == "netns":
                        cores.append(_core(lab, placement))
                        loads = _loads(lab, placement, effort, tell, thorough=sites == effort.sites[0])
                        throughput += loads
                        tell(f"{placement}: changing a link of {sites} sites")
                        changes.append(_time_changes(lab, placement, effort.changes))
                set_up.append(built.result())
                if placement == "netns":
                    break
    return CoreBenchmark(
        host=host, cores=tuple(cores), throughput=tuple(throughput), changes=tuple(changes), set_up=tuple(set_up)
    )


def _topology(sites: int) -> Topology:
    """A mesh that shapes nothing but a short delay: what is measured is the core's ceiling."""
    plain = mesh(sites, rate_bps=None)
    links = tuple(link.model_copy(update={"impairment": Impairment(delay_us=_DELAY_US)}) for link in plain.links)
    return plain.model_copy(update={"links": links})


def _plain(effort: Effort, tell: Progress) -> Iterator[Throughput]:
    with plain_router() as flows:
        for size, several in _cases(thorough=True):
            tell(f"veth: {_words(size, several)}")
            used = flows if several else flows[:1]
            yield _ceiling("veth", 2, used, size, effort, watch=0)


def _cases(*, thorough: bool) -> tuple[tuple[int, bool], ...]:
    """Packet size, and whether both ways at a time."""
    return ((LARGE, False), (LARGE, True), (SMALL, True)) if thorough else ((LARGE, True),)


def _words(size: int, several: bool) -> str:
    return f"packets of {size} bytes, {'both ways' if several else 'one way'}"


def _loads(lab: Lab, placement: Placement, effort: Effort, tell: Progress, *, thorough: bool) -> list[Throughput]:
    one, other = lab.plan.sites[:2]
    there = Flow(one.netns, other.netns, str(other.wan_address))
    back = Flow(other.netns, one.netns, str(one.wan_address))
    found = []
    for size, several in _cases(thorough=thorough):
        tell(f"{placement}, {len(lab.plan.sites)} sites: {_words(size, several)}")
        flows = (there, back) if several else (there,)
        found.append(_ceiling(placement, len(lab.plan.sites), flows, size, effort, watch=_core_pid(lab) or 0))
    return found


def _ceiling(path: str, sites: int, flows: Sequence[Flow], size: int, effort: Effort, watch: int) -> Throughput:
    """The highest rate that is carried, by halving the distance between one that is and one that is not."""
    busy = idle_cores(effort.trial_s / 2)
    flood = offer(flows, size, 0, effort.trial_s, watch)
    best: Load | None = None
    low, high = 0.0, flood.packets_per_s * 1.2
    for _ in range(effort.steps):
        rate = (low + high) / 2
        # Other work of the machine may have been the cause: a rate is given up when it fails twice.
        for _attempt in range(2):
            load = offer(flows, size, rate, effort.trial_s, watch)
            if carried := load.loss <= TOLERATED_LOSS:
                break
        if carried and (best is None or load.packets_per_s > best.packets_per_s):
            best = load
        low, high = (rate, high) if carried else (low, rate)
    if flood.loss <= TOLERATED_LOSS and (best is None or flood.packets_per_s > best.packets_per_s):
        best = flood
    return Throughput(
        path=path,
        sites=sites,
        packet_bytes=size,
        flows=len(flows),
        flood_packets_per_s=round(flood.packets_per_s),
        carried_packets_per_s=round(best.packets_per_s) if best else 0,
        carried_gbit_s=round(best.gigabits / best.seconds, 4) if best else 0,
        machine_cpu_s_per_gbit=_per_gigabit(best, best.machine_cpu_s - busy * best.seconds) if best else None,
        core_cpu_s_per_gbit=_per_gigabit(best, best.process_cpu_s) if best and watch else None,
    )


def _per_gigabit(load: Load, cpu_s: float) -> float | None:
    return round(max(0.0, cpu_s) / load.gigabits, 3) if load.gigabits else None


def _time_changes(lab: Lab, placement: Placement, count: int) -> ChangeTime:
    link = lab.topology.links[0]
    times = []
    for number in range(count):
        impairment = Impairment(delay_us=_DELAY_US + 1000 * (number % 7), rate_bps=50_000_000)
        begin = time.perf_counter()
        lab.core.shape([(link.source, link.destination, impairment)])
        times.append((time.perf_counter() - begin) * 1000)
    lab.core.shape([(link.source, link.destination, link.impairment)])
    ranked = statistics.quantiles(times, n=100, method="inclusive")
    return ChangeTime(
        path=placement,
        sites=len(lab.plan.sites),
        changes=count,
        p50_ms=round(ranked[49], 3),
        p99_ms=round(ranked[98], 3),
    )


class _Built:
    """Gathers the figures of one lab's set-up while it is built, used and taken down."""

    def __init__(self, placement: Placement, sites: int) -> None:
        self.placement = placement
        self.sites = sites
        self.warm = False
        self.phases: dict[str, float] = {}
        self.up_s = self.down_s = self.lab_mib = 0.0
        self.core_mib: float | None = None
        self._phase = ""
        self._since = time.monotonic()

    def enter(self, phase: str) -> None:
        """The builder begins a step; the one before it has ended."""
        now = time.monotonic()
        if self._phase:
            self.phases[self._phase] = round(self.phases.get(self._phase, 0.0) + now - self._since, 3)
        self._phase, self._since = phase, now

    def result(self) -> SetUp:
        return SetUp(
            path=self.placement,
            sites=self.sites,
            links=self.sites * (self.sites - 1),
            warm=self.warm,
            up_s=round(self.up_s, 3),
            down_s=round(self.down_s, 3),
            phases=self.phases,
            core_mib=self.core_mib,
            lab_mib=round(self.lab_mib, 1),
        )


@contextmanager
def _lab(topology: Topology, placement: Placement, tell: Progress, *, warm: bool) -> Iterator[tuple[Lab, _Built]]:
    built = _Built(placement, len(topology.sites))
    pool = {entry.parent.name for entry in CORES_DIRECTORY.glob("*/warm")}
    free = _available_mib()
    begin = time.monotonic()

    def progress(phase: str) -> None:
        built.enter(phase)
        tell(f"{placement}, {len(topology.sites)} sites: {phase}")

    with contextlib.nullcontext() if warm else without_warm_cores():
        lab = Lab.up(topology, wan=placement, progress=progress)
    try:
        built.up_s = time.monotonic() - begin
        built.enter("")
        built.warm = lab.core.state().get("machine") in pool
        built.lab_mib = free - _available_mib()
        pid = _core_pid(lab)
        built.core_mib = _resident_mib(pid) if pid else None
        yield lab, built
    finally:
        begin = time.monotonic()
        lab.down()
        built.down_s = time.monotonic() - begin


def _core(lab: Lab, placement: Placement) -> Core:
    return Core(
        path=placement,
        sites=len(lab.plan.sites),
        kernel=lab.core.kernel_release,
        detail=lab.core.detail,
        forward_us=lab.core.state()["core_delay_us"],
    )


def _core_pid(lab: Lab) -> int | None:
    identity = lab.core.state().get("machine")
    machine = load_machine(CORES_DIRECTORY / identity) if identity else None
    return machine.pid if machine else None


def _resident_mib(pid: int) -> float:
    return _kib_of(f"/proc/{pid}/status", "VmRSS:") / 1024


def _available_mib() -> float:
    return _kib_of("/proc/meminfo", "MemAvailable:") / 1024


def _kib_of(path: str, field: str) -> int:
    with Path(path).open() as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _processor_name() -> str:
    with Path("/proc/cpuinfo").open() as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
