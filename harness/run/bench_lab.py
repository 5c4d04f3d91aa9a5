"""The lab of a benchmark: two sites that stay up for the whole run, whose links take on one cell after another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.config.trace_file import find_trace, load_trace
from harness.errors import FidelityError, LabError
from harness.lab.core_process import core_pid
from harness.lab.cross_traffic import CrossTraffic
from harness.lab.lab import Lab
from harness.lab.live import node_cpu_seconds_in_all
from harness.lab.player import Player
from harness.model.base import Value
from harness.model.bench import Ceiling, Cell, Moved
from harness.model.measurement import LinkCounters
from harness.model.trace import Trace
from harness.plan.bench_cell import (
    BACKWARD,
    DESTINATION,
    FORWARD,
    SOURCE,
    impairment_of,
    topology_of,
    traffic_of,
)
from harness.plan.bench_figures import counters_of
from harness.plan.bench_grid import base, fastest_rate
from harness.plan.shaping import realised
from harness.suts.peers.port import Ends
from harness.wan.load import Flow, offer, process_cpu_s

_TICKS = os.sysconf("SC_CLK_TCK")
_DRAIN_S = 30.0
_LOOK_S = 0.1
_TOLERATED_LOSS = 0.001
_CEILING_STEPS, _CEILING_TRIAL_S = 5, 0.5
_ASSUMED_PACKETS_PER_S = 60_000.0


class Reading(Value):
    """All counters at one time; ``cpu_s``: of the source's processes, the destination's, the core's, and all."""

    at_s: float
    source: Mapping[str, int]
    destination: Mapping[str, int]
    link: LinkCounters
    cpu_s: tuple[float, float, float, float]


class BenchLab:
    """A lab and the cell that it is set to."""

    def __init__(self, lab: Lab, fastest_bps: int | None = None) -> None:
        self.lab = lab
        self.fastest_bps = fastest_bps or fastest_rate(_ASSUMED_PACKETS_PER_S)
        self.ends = Ends(source=lab.nodes[SOURCE], destination=lab.nodes[DESTINATION])
        self._player = Player(lab)
        self._traces: dict[str, Trace] = {}
        self._cell: Cell | None = None

    def measure_ceiling(self, tell: Callable[[str], None]) -> Ceiling:
        """What the core carries one way over links without a rate; the fastest rate follows from it."""
        tell("measuring what the core carries")
        plain = impairment_of(base(10_000, trace="-"), 1)
        self.lab.change({FORWARD: plain, BACKWARD: plain}, "ceiling")
        self._cell = None
        source, destination = self.lab.nodes[SOURCE], self.lab.nodes[DESTINATION]
        flow = Flow(source.netns, destination.netns, destination.wan_address)
        flood = offer([flow], 1500, 0, _CEILING_TRIAL_S)
        low, high, best = 0.0, flood.packets_per_s * 1.2, 0.0
        for _ in range(_CEILING_STEPS):
            rate = (low + high) / 2
            load = offer([flow], 1500, rate, _CEILING_TRIAL_S)
            if load.loss > _TOLERATED_LOSS:
                load = offer([flow], 1500, rate, _CEILING_TRIAL_S)
            if load.loss <= _TOLERATED_LOSS:
                low, best = rate, max(best, load.packets_per_s)
            else:
                high = rate
        if not best:
            raise LabError("the core carries no rate without loss", hint="Is something else using this machine?")
        self.fastest_bps = fastest_rate(best)
        return Ceiling(packets_per_s=round(best), bits_per_s=round(best * 1500 * 8))

    def set_to(self, cell: Cell) -> None:
        """Shape both links, and hold what the core's kernel then says against it. Waits until no queue stands from
        before. Raises FidelityError when the kernel has something else, LabError when a queue does not drain."""
        wanted = impairment_of(cell, self.fastest_bps)
        if cell != self._cell:
            self.lab.change({FORWARD: wanted, BACKWARD: wanted}, cell.key)
            self._cell = cell
        has = self.lab.read_back()
        for link in (FORWARD, BACKWARD):
            if has[link] != realised(self.lab.in_force(*link), self.lab.topology.mtu):
                raise FidelityError(f"{cell.key}: the core does something else on {'>'.join(link)}: {has[link]}")
        self._await_drained()

    def read(self) -> Reading:
        """All counters now."""
        pids = {name: node.state.pid for name, node in self.lab.nodes.items()}
        cpu = node_cpu_seconds_in_all(pids)
        core = core_pid(self.lab.core.state())
        link = next(one for one in self.lab.counters() if (one.source, one.destination) == FORWARD)
        source, destination = (
            counters_of(node.remote.run(["cat", "/proc/net/snmp"]).stdout)
            for node in (self.ends.source, self.ends.destination)
        )
        return Reading(
            at_s=time.monotonic(),
            source=source,
            destination=destination,
            link=link,
            cpu_s=(cpu[SOURCE], cpu[DESTINATION], process_cpu_s(core) if core else 0.0, _machine_cpu_s()),
        )

    def trace_of(self, cell: Cell) -> Trace | None:
        """The trace of a cell that has one. Raises InputError when there is no such trace."""
        if cell.trace is None:
            return None
        if cell.trace not in self._traces:
            self._traces[cell.trace] = load_trace(find_trace(cell.trace))
        return self._traces[cell.trace]

    @contextmanager
    def playing(self, cell: Cell) -> Iterator[float]:
        """Within, the cell's trace plays, if it has one. Yields when it began, by the monotonic clock."""
        if cell.trace is None:
            yield time.monotonic()
            return
        self._player.start()
        began_s = time.monotonic() + 0.2
        # Of two opposite links the first one goes "up": the destination is the subscriber.
        playback = self._player.play(cell.trace, [BACKWARD, FORWARD], loop=True, begin_s=began_s)
        try:
            yield began_s
        finally:
            self._player.stop(playback)

    @contextmanager
    def beside(self, cell: Cell, seed: int) -> Iterator[list[float]]:
        """Within, the cell's cross traffic flows, if it has any. What arrived of it, in bit/s, is in the list
        afterwards."""
        stream = traffic_of(cell, self.fastest_bps)
        came: list[float] = []
        if stream is None:
            yield came
            return
        traffic = CrossTraffic(self.lab, [stream], seed=seed)
        traffic.start()
        try:
            yield came
        finally:
            came += [report.received_bps for report in traffic.stop()]

    def close(self) -> None:
        """End what plays. The lab stays."""
        self._player.close()

    def _await_drained(self) -> None:
        deadline = time.monotonic() + _DRAIN_S
        while any(one.backlog_packets for one in self.lab.counters()):
            if time.monotonic() > deadline:
                raise LabError(f"packets still wait on a link {_DRAIN_S:.0f} s after the transfer before")
            time.sleep(_LOOK_S)


@contextmanager
def bench_lab(
    *, congestion_control: str, tell: Callable[[str], None], state_root: Path | None = None
) -> Iterator[BenchLab]:
    """A lab of two sites that is gone afterwards, however this ends."""
    topology = topology_of(base(), 1)
    lab = Lab.up(topology, congestion_control=congestion_control, progress=tell, state_root=state_root)
    try:
        bench = BenchLab(lab)
        try:
            yield bench
        finally:
            bench.close()
    finally:
        lab.down()


def moved(before: Reading, after: Reading) -> Moved:
    """What counters say happened between two readings."""

    def of(end: str, name: str) -> int:
        first: Mapping[str, int] = getattr(before, end)
        last: Mapping[str, int] = getattr(after, end)
        return last[name] - first[name]

    return Moved(
        udp_sent=of("source", "Udp.OutDatagrams"),
        udp_received=of("destination", "Udp.InDatagrams"),
        tcp_segments_sent=of("source", "Tcp.OutSegs"),
        tcp_segments_received=of("destination", "Tcp.InSegs"),
        link_packets=after.link.packets - before.link.packets,
        link_bytes=after.link.bytes - before.link.bytes,
        dropped_loss=after.link.dropped_loss - before.link.dropped_loss,
        dropped_queue=after.link.dropped_queue - before.link.dropped_queue,
    )


def _machine_cpu_s() -> float:
    with Path("/proc/stat").open() as lines:
        user, nice, system, _idle, _wait, irq, softirq, *_ = (int(word) for word in lines.readline().split()[1:])
    return (user + nice + system + irq + softirq) / _TICKS
