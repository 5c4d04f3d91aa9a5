"""One trial: a cell is set, its peers run at once, and what receivers, counters and probes saw becomes its result."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from harness.errors import LonghaulError
from harness.lab.load_probe import DelaySample, LoadProbe
from harness.model.bench import Delay, FlowResult, Moved, Trial, TrialResult
from harness.model.trace import Trace
from harness.plan.bench_cell import FORWARD, delay_us_at, large_file, offered_bps, thinned
from harness.plan.bench_figures import WARM_UP_S, as_claimed, goodput_bps, quantiles
from harness.run.bench_lab import BenchLab, Reading, moved
from harness.suts.peers.port import Job, Peer, Received

FIRST_PORT, PORTS_EACH = 41_000, 10
_PORT_SPAN = 400
"""Ports move on with each trial: what an earlier one left in the kernel must not be in the way."""

_IDLE_S = 1.0
_PROBE_SPARE_S = {"stream": 3.0, "large": 6.0}
"""Until the first byte of a transfer arrives: delays are those of the transfer."""

_TRACE_MEAN_S = 60.0


class _Running:
    """One peer's transfer in a thread of its own."""

    def __init__(self, peer: Peer, bench: BenchLab, job: Job) -> None:
        self.received: Received | None = None
        self.error = ""
        self.began_s = time.monotonic()
        self._peer, self._bench, self._job = peer, bench, job
        self._thread = threading.Thread(target=self._run, name=job.name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.received = self._peer.transfer(self._bench.ends, self._job)
        except LonghaulError as error:
            self.error = error.message
        # A trial that goes wrong in a new way is a result as well: the others go on.
        except (ValueError, KeyError, OSError, NotImplementedError) as error:
            self.error = f"{type(error).__name__}: {error}"

    @property
    def first_at_s(self) -> float:
        """When its first byte arrived, by the monotonic clock; when it began, if none did."""
        seen = self.received.first_at_s if self.received is not None else None
        return self.began_s if seen is None else seen

    def join(self) -> None:
        """Wait for it, so that an interrupt is heard."""
        while self._thread.is_alive():
            self._thread.join(0.2)


def carry_out(bench: BenchLab, trial: Trial, peers: Mapping[str, Peer], number: int) -> TrialResult:
    """Take one measurement. Raises LabError when the lab is broken; what a peer does wrong is in the result."""
    cell = trial.cell
    at = datetime.now(UTC).isoformat(timespec="seconds")
    bench.set_to(cell)
    trace = bench.trace_of(cell)
    rate = offered_bps(trace, 0, _TRACE_MEAN_S) if trace else float(cell.rate_bps or bench.fastest_bps)
    jobs = [_job(trial, name, place, rate, number) for place, name in enumerate(trial.peers)]
    for name, job in zip(trial.peers, jobs, strict=True):
        peers[name].prepare(bench.ends, job)
    spare_s = _PROBE_SPARE_S.get(trial.workload.kind)
    probe = LoadProbe(bench.lab, FORWARD, _IDLE_S + trial.seconds + (spare_s or 0.0))
    probing = spare_s is not None
    if probing:
        probe.start()
        time.sleep(max(0.0, probe.begin_s + _IDLE_S - time.monotonic()))
    before = bench.read()
    with bench.playing(cell) as played_s, bench.beside(cell, number) as traffic:
        running = [_Running(peers[name], bench, job) for name, job in zip(trial.peers, jobs, strict=True)]
        for one in running:
            one.join()
        after = bench.read()
    samples = probe.result() if probing else []
    counters = moved(before, after)
    flows = [
        _flow(peers[name], trial, one, rate, trace, played_s) for name, one in zip(trial.peers, running, strict=True)
    ]
    flows = _checked(flows, counters, tcp_flows=cell.traffic == "tcp-cubic")
    payload = sum(flow.bytes for flow in flows)
    seconds = after.at_s - before.at_s
    return TrialResult(
        trial=trial.model_copy(update={"workload": jobs[0].workload}),
        at=at,
        rate_bps=rate,
        flows=tuple(flows),
        moved=counters,
        delay=_delay(trial, running, samples, trace, played_s) if probing else None,
        source_cpu_s_per_gbit=_per_gbit(before, after, 0, payload),
        destination_cpu_s_per_gbit=_per_gbit(before, after, 1, payload),
        core_cpus=round((after.cpu_s[2] - before.cpu_s[2]) / seconds, 3) or None,
        busy_share=round((after.cpu_s[3] - before.cpu_s[3]) / seconds / len(os.sched_getaffinity(0)), 3),
        traffic_bps=traffic[0] if traffic else None,
        problem=probe.problem if probing else "",
    )


def _job(trial: Trial, peer: str, place: int, rate: float, number: int) -> Job:
    workload = large_file(trial.workload, rate, trial.seconds)
    return Job(
        name=f"{number:04d}-{peer}-{place}",
        workload=workload,
        seconds=trial.seconds,
        rate_bps=rate,
        window_bytes=round(rate * trial.cell.rtt_us / 8e6 * (1 + trial.cell.buffer_bdp)),
        port=FIRST_PORT + number * 2 * PORTS_EACH % (_PORT_SPAN * PORTS_EACH) + place * PORTS_EACH,
    )


def _flow(peer: Peer, trial: Trial, running: _Running, rate: float, trace: Trace | None, played_s: float) -> FlowResult:
    received = running.received
    if received is None:
        return FlowResult(peer=peer.name, transport=peer.transport, problem=running.error or "no result")
    size = sum(one.bytes for one in received.intervals)
    end = min([trial.seconds, *([received.finished_s] if received.finished_s is not None else [])])
    goodput = goodput_bps(received.intervals, until_s=end)
    if trace is not None:
        begin = running.first_at_s - played_s
        rate = offered_bps(trace, max(0.0, begin + WARM_UP_S), max(begin + end, begin + WARM_UP_S + 0.1))
    files = trial.workload.files if received.finished_s else sum(one.files for one in received.intervals)
    lasted = received.finished_s or max((one.end_s for one in received.intervals), default=0.0)
    small = trial.workload.kind == "small"
    problem = received.problem
    if not problem and goodput is None and not small:
        problem = f"nothing to count after the first {WARM_UP_S:g} s"
    return FlowResult(
        peer=peer.name,
        transport=peer.transport,
        intervals=received.intervals,
        bytes=size,
        goodput_bps=None if goodput is None else round(goodput),
        share=None if goodput is None else round(goodput / rate, 4),
        files_per_s=round(files / lasted, 1) if small and lasted else None,
        set_up_s=received.set_up_s,
        finished_s=received.finished_s,
        figures=dict(received.figures),
        problem=problem,
    )


def _checked(flows: Sequence[FlowResult], counters: Moved, *, tcp_flows: bool) -> list[FlowResult]:
    """Each flow with the counters' word on its transport. Flows that claim the same one are held against their sum."""
    payload = {kind: sum(flow.bytes for flow in flows if flow.transport == kind) for kind in ("udp", "tcp", "any")}
    found = []
    for flow in flows:
        beside_tcp = tcp_flows or any(one.transport == "tcp" for one in flows)
        said, why = as_claimed(flow.transport, payload[flow.transport], counters, beside_tcp=beside_tcp)
        problem = flow.problem or ("" if said is not False else f"not the transport that it claims: {why}")
        found.append(flow.model_copy(update={"as_claimed": said, "problem": problem}))
    return found


def _delay(
    trial: Trial,
    running: Sequence[_Running],
    samples: Sequence[DelaySample],
    trace: Trace | None,
    played_s: float,
) -> Delay | None:
    """Delay added to what the link is set to, while the transfer ran; before it, the idle delay."""
    first_s = min(one.began_s for one in running)
    idle = [one.delay_us for one in samples if one.at_s < first_s - 0.05]
    begin_s = max(one.first_at_s for one in running)
    if not idle:
        return None
    idle_us = quantiles(idle) or (min(idle), min(idle))
    # What the core itself adds is in the idle delay: half of it never is queueing.
    own_us = max(0.0, idle_us[0] - trial.cell.rtt_us / 2)
    series = [
        (one.at_s - begin_s, (one.delay_us - delay_us_at(trial.cell, trace, one.at_s - played_s) - own_us) / 1000)
        for one in samples
        if begin_s <= one.at_s <= begin_s + trial.seconds
    ]
    counted = quantiles([value for at, value in series if at >= WARM_UP_S])
    return Delay(
        idle_ms=round(idle_us[0] / 1000, 3),
        added_p50_ms=None if counted is None else round(counted[0], 2),
        added_p95_ms=None if counted is None else round(counted[1], 2),
        series=thinned(series),
    )


def _per_gbit(before: Reading, after: Reading, place: int, payload: int) -> float | None:
    used = after.cpu_s[place] - before.cpu_s[place]
    return round(used / (payload * 8 / 1e9), 3) if payload > 1_000_000 else None
