"""How the host was while a run went on, and what of it may have falsified the WAN."""

from __future__ import annotations

from typing import Literal

from harness.model.base import Value

Severity = Literal["note", "warning", "invalid"]


class HealthFinding(Value):
    """One thing that may have falsified the run. ``invalid``: it did, so the run says nothing."""

    severity: Severity
    subject: str
    measured: str
    limit: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.measured} (limit: {self.limit}): {self.meaning}"


class HostWindow(Value):
    """One second or so of the host, as its own process saw it.

    ``at_s`` is on the host's monotonic clock. Shares are of all CPUs' time, 0 to 1; ``pressure`` is the share of time
    in which some task waited for a CPU (None: the kernel does not say). ``late_us`` are the latenesses of a timer that
    ought to fire 50 times a second. ``core_cpu`` is how many CPUs the WAN core used and ``core_busiest`` the share that
    its busiest thread used of one: QEMU's threads, or the soft interrupts of each CPU. ``backlog_dropped``: packets
    that the host's own input queues dropped.
    """

    at_s: float
    seconds: float
    steal: float
    busy: float
    pressure: float | None = None
    late_us: tuple[int, ...] = ()
    core_cpu: float = 0.0
    core_busiest: float = 0.0
    backlog_dropped: int = 0


class PortLoss(Value):
    """Packets that the way into the core dropped although no impairment asked for it, on one site's line."""

    site: str
    sent: int
    dropped: int


class HostHealth(Value):
    """The whole run in figures; meanings as in HostWindow. ``core_saturated``: share of the time in which the core's
    busiest thread had no CPU time left."""

    seconds: float
    windows: int
    steal: float
    steal_worst: float
    busy: float
    pressure: float | None
    timer_samples: int
    late_p50_us: float
    late_p99_us: float
    late_max_us: float
    core_cpu: float
    core_saturated: float
    backlog_dropped: int = 0
    ports: tuple[PortLoss, ...] = ()


class RunHealth(Value):
    """What the record of a run says about its host and core."""

    host: HostHealth | None = None
    findings: tuple[HealthFinding, ...] = ()
