"""One-way delay along a link while something else loads it: the lab's prober, few small packets, every one timed."""

from __future__ import annotations

import secrets
import threading
import time
from pathlib import Path

from harness.errors import LonghaulError
from harness.lab.lab import Lab
from harness.lab.links import LinkKey
from harness.model.base import Value
from harness.plan.addressing import PROBE_PORT
from harness.plan.prober_protocol import observations, prober_plan
from harness.plan.probing import Session, Stream
from harness.wan.native_program import compiled

PROBER = "native/prober.c"
RATE_HZ = 40
_AHEAD_S = 0.5
_DRAIN_S = 1.0
_SLACK_S = 30.0


class DelaySample(Value):
    """One probe: when it left, by the monotonic clock, and how long it took one way."""

    at_s: float
    delay_us: float


class LoadProbe:
    """Probes along one link of a lab for a given time: ``start``, then ``result``. Both ends have this host's clock."""

    def __init__(self, lab: Lab, link: LinkKey, seconds: float) -> None:
        self._lab = lab
        self._link = link
        self._start_ns = 0
        self._answers: dict[str, str] = {}
        self._threads: list[threading.Thread] = []
        self.problem = ""
        source, destination = link
        packets = max(1, round(seconds * RATE_HZ))
        there = Stream(
            kind="light",
            source=source,
            destination=destination,
            packets=packets,
            interval_ns=round(1e9 / RATE_HZ),
        )
        self._session = Session(title="delay under load", streams=(there,), end_us=round((seconds + _DRAIN_S) * 1e6))

    @property
    def begin_s(self) -> float:
        """When the first probe leaves, by the monotonic clock."""
        return self._start_ns / 1e9

    def start(self) -> None:
        """Begin in half a second."""
        token = secrets.randbits(32)
        self._start_ns = time.monotonic_ns() + round(_AHEAD_S * 1e9)
        for site in self._link:
            thread = threading.Thread(target=self._probe, args=(site, token), name=f"probe-{site}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def result(self) -> list[DelaySample]:
        """Delays of the probes that arrived, by the time when they left. Waits for the end; nothing, and ``problem``
        says why, when a prober failed."""
        for thread in self._threads:
            thread.join()
        if len(self._answers) < 2:
            return []
        try:
            (found,) = observations(self._session, self._answers)
        except (ValueError, KeyError) as error:
            self.problem = f"the prober's answer cannot be read: {error}"
            return []
        if not found.common_clock:
            self.problem = "the two ends have no common clock"
            return []
        return [
            DelaySample(at_s=self.begin_s + sent / 1e6, delay_us=arrived - sent)
            for number in found.counted
            if (arrived := found.first_arrivals.get(number)) is not None and (sent := found.sent_us[number]) is not None
        ]

    def _probe(self, site: str, token: int) -> None:
        node = self._lab.nodes[site]
        reach = {name: self._lab.nodes[name].public_address for name in self._link}
        text = prober_plan(
            self._session,
            site,
            token=token,
            start_ns=self._start_ns,
            listen=(node.wan_address, PROBE_PORT),
            reach=reach,
        )
        program: Path = compiled(PROBER)
        try:
            done = node.remote.run([str(program)], stdin=text, timeout_s=self._session.end_us / 1e6 + _SLACK_S)
            self._answers[site] = done.stdout
        except LonghaulError as error:
            self.problem = error.message
