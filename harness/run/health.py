"""Watching a run: the host by a small process beside it, and each test's traffic by the core's own counters."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from harness.lab.lab import Lab
from harness.lab.links import TRACE_HOLDER, LinkState
from harness.model.health import HostWindow, PortLoss, RunHealth
from harness.model.impairment import Impairment
from harness.model.measurement import LinkCounters
from harness.model.run_record import WanChange
from harness.model.timeline import subject_of
from harness.model.topology import Topology
from harness.plan.health import judge_host, summarise_host
from harness.plan.vacuity import LinkKey, traffic_between, vacuous

_SAMPLER = Path(__file__).with_name("host_sampler.py")
_END_DEADLINE_S = 10.0
CrossPackets = Callable[[], Mapping[LinkKey, int]]
"""Packets of the declared cross traffic that were sent over each link so far."""


class HostWatch:
    """Samples the host from ``start`` until ``finish``; ``file`` keeps every second of it."""

    def __init__(self, lab: Lab, file: Path) -> None:
        self._lab = lab
        self._file = file
        self._sampler: subprocess.Popen[bytes] | None = None
        self._ports: Mapping[str, tuple[int, int]] = {}

    def start(self) -> None:
        """Begin."""
        from harness.lab.core_process import core_pid
        from harness.nodes.port_counters import sent_and_dropped

        self._ports = sent_and_dropped(self._lab.plan)
        spec = {"file": str(self._file), "core_pid": core_pid(self._lab.core.state())}
        self._sampler = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SAMPLER), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # Ctrl-C is for the run, which then ends the sampler.
            start_new_session=True,
        )

    def finish(self) -> RunHealth:
        """End the sampling and judge; an empty record when it was never started."""
        from harness.nodes.port_counters import sent_and_dropped

        if self._sampler is None:
            return RunHealth()
        assert self._sampler.stdin is not None
        self._sampler.stdin.close()
        try:
            self._sampler.wait(_END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._sampler.kill()
            self._sampler.wait()
        self._sampler = None
        now = sent_and_dropped(self._lab.plan)
        ports = [
            PortLoss(site=site, sent=now[site][0] - sent, dropped=now[site][1] - dropped)
            for site, (sent, dropped) in self._ports.items()
            if site in now
        ]
        return judge_host(summarise_host(read_windows(self._file), [port for port in ports if port.dropped > 0]))


def read_windows(file: Path) -> list[HostWindow]:
    """What a sampler wrote; lines that are not whole are passed over."""
    windows = []
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            windows.append(HostWindow.model_validate_json(line))
        except ValidationError:
            continue
    return windows


class TrafficWatch:
    """Holds what a test asked of the WAN against what the core then saw. ``begin`` before a test, ``reason`` after."""

    def __init__(self, lab: Lab, topology: Topology, cross_packets: CrossPackets | None = None) -> None:
        self._lab = lab
        self._ends = [(link.source, link.destination) for link in topology.links]
        self._cross_packets = cross_packets or dict
        self._before: Sequence[LinkCounters] = ()
        self._cross_before: Mapping[LinkKey, int] = {}
        self._in_force: Mapping[LinkKey, Impairment] = {}
        self._of_timeline = {f"{event.do} of {subject_of(event)}" for event in topology.timeline}

    def begin(self) -> None:
        """Note counters and impairments as they are now. Raises LabError."""
        states = self._lab.link_states()
        self._in_force = {ends: _steady(states[ends]) for ends in self._ends}
        self._cross_before = self._cross_packets()
        self._before = self._of_run(self._lab.counters())

    def reason(self, changes: Sequence[WanChange]) -> str:
        """Why the test that asked for these changes is vacuous; empty when it is not. Raises LabError."""
        after = self._of_run(self._lab.counters())
        cross = {ends: sent - self._cross_before.get(ends, 0) for ends, sent in self._cross_packets().items()}
        traffic = traffic_between(self._before, after, cross)
        states = self._lab.link_states()
        # What another process plays on a link, this one does not see: only its layer.
        steady = {ends: set_to for ends, set_to in self._in_force.items() if not states[ends].overlays}
        return vacuous(traffic, steady, changes, self._by_the_test)

    def _by_the_test(self, change: WanChange) -> bool:
        """Whether a change was the test's own; what the topology's timeline does, no test has declared."""
        return change.reason.removeprefix("end of ").removesuffix(": up") not in self._of_timeline

    def _of_run(self, counters: Sequence[LinkCounters]) -> list[LinkCounters]:
        wanted = set(self._ends)
        return [link for link in counters if (link.source, link.destination) in wanted]


def _steady(state: LinkState) -> Impairment:
    """What a link does by one model until somebody changes it: not the losses of a trace that plays on it."""
    moving = any(overlay.holder.startswith(TRACE_HOLDER) and "loss" in overlay.fields for overlay in state.overlays)
    return state.in_force.model_copy(update={"loss": None}) if moving else state.in_force
