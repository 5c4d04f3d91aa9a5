"""What a probe measured on one directed link, beside what was asked for."""

from __future__ import annotations

from harness.model.base import Value
from harness.model.verdict import Verdict


class ProbeCount(Value):
    """Raw result of one probe stream over one directed link. RTTs are of echoed packets, in microseconds."""

    source: str
    destination: str
    sent: int
    received: int
    rtt_us: tuple[float, ...] = ()


class LinkMeasurement(Value):
    """One directed link: requested against measured. RTT is of the pair, loss is one way.

    ``rtt_requested_us`` includes the probe packet's serialisation time at the link's rates.
    ``loss_low`` and ``loss_high`` bound the 99% confidence interval of the measured loss.
    ``rounds`` counts how many times the link was probed before the verdict.
    """

    source: str
    destination: str
    rtt_requested_us: float
    rtt_measured_us: float | None
    rtt_tolerance_us: float
    rtt_min_us: float | None = None
    rtt_p99_us: float | None = None
    loss_requested: float
    loss_measured: float | None
    loss_low: float | None
    loss_high: float | None
    sent: int
    received: int
    rounds: int = 1
    verdict: Verdict
    reason: str = ""


class LinkCounters(Value):
    """The core's own counters for one directed link since it was shaped."""

    source: str
    destination: str
    packets: int
    bytes: int
    dropped_loss: int
    dropped_queue: int
    backlog_packets: int = 0
