"""Whether the machine could carry the WAN that it played, from samples of the host taken during a run. Pure.

The limits are this project's own choice, by one thought: what is allowed must be small beside the tolerances of the
fidelity certificate (RTT within 1 ms or 2%, loss within its 99% interval), and what is refused must be large beside
them.

| what | warning from | INVALID from |
|---|---|---|
| CPU time that the hypervisor gave to others (steal), mean | 2% | 20% |
| lateness of a 50 Hz timer, 99th percentile | 10 ms | 100 ms |
| share of seconds in which the core's busiest thread used 95% of a CPU | 10% | 50% |
| packets that the way into the core dropped unasked | any | 0.1% of a site's |
| packets that the host's input queues dropped unasked | any | - |
| share of time in which a task waited for a CPU (PSI) | 75% | never alone |

A run shorter than ``FEWEST_WINDOWS`` seconds is not judged by shares of seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from harness.model.health import HealthFinding, HostHealth, HostWindow, PortLoss, RunHealth, Severity
from harness.model.units import brief_duration, brief_number, brief_share

STEAL = (0.02, 0.20)
LATE_P99_US = (10_000.0, 100_000.0)
SATURATED_SECONDS = (0.10, 0.50)
SATURATED_AT = 0.95
UNASKED_DROPS = (0.0, 0.001)
PRESSURE_WARNING = 0.75
FEWEST_WINDOWS = 10
FEWEST_TIMERS = 100


def summarise_host(windows: Sequence[HostWindow], ports: Iterable[PortLoss] = ()) -> HostHealth | None:
    """The run in figures; None without a sample."""
    if not windows:
        return None
    late = sorted(lateness for window in windows for lateness in window.late_us)
    pressures = [(window.pressure, window.seconds) for window in windows if window.pressure is not None]
    full = [(float(window.core_busiest >= SATURATED_AT), window.seconds) for window in windows]
    return HostHealth(
        seconds=round(sum(window.seconds for window in windows), 3),
        windows=len(windows),
        steal=_mean([(window.steal, window.seconds) for window in windows]) or 0.0,
        steal_worst=max(window.steal for window in windows),
        busy=_mean([(window.busy, window.seconds) for window in windows]) or 0.0,
        pressure=_mean(pressures),
        timer_samples=len(late),
        late_p50_us=_quantile(late, 0.5),
        late_p99_us=_quantile(late, 0.99),
        late_max_us=_quantile(late, 1.0),
        core_cpu=_mean([(window.core_cpu, window.seconds) for window in windows]) or 0.0,
        core_saturated=_mean(full) or 0.0,
        backlog_dropped=sum(window.backlog_dropped for window in windows),
        ports=tuple(ports),
    )


def judge_host(host: HostHealth | None) -> RunHealth:
    """Every limit that the run passed, by name."""
    if host is None:
        return RunHealth()
    findings = [*_steal(host), *_timers(host), *_core(host), *_ports(host), *_backlog(host), *_pressure(host)]
    return RunHealth(host=host, findings=tuple(findings))


def _steal(host: HostHealth) -> Iterator[HealthFinding]:
    severity = _grade(host.steal, STEAL)
    if severity is not None and host.windows >= FEWEST_WINDOWS:
        yield HealthFinding(
            severity=severity,
            subject="CPU steal",
            measured=f"{brief_share(host.steal)} of all CPU time, {brief_share(host.steal_worst)} in the worst second",
            limit=_limits(STEAL, brief_share),
            meaning="the hypervisor gave this machine's CPUs to others: packets waited for a CPU, not for the WAN",
        )


def _timers(host: HostHealth) -> Iterator[HealthFinding]:
    severity = _grade(host.late_p99_us, LATE_P99_US)
    if severity is not None and host.timer_samples >= FEWEST_TIMERS:
        yield HealthFinding(
            severity=severity,
            subject="late timers",
            measured=f"1 in 100 was more than {brief_duration(host.late_p99_us)} late, the worst "
            f"{brief_duration(host.late_max_us)}",
            limit=_limits(LATE_P99_US, brief_duration),
            meaning="delays, changes of links and the software under test were late by as much",
        )


def _core(host: HostHealth) -> Iterator[HealthFinding]:
    severity = _grade(host.core_saturated, SATURATED_SECONDS)
    if severity is not None and host.windows >= FEWEST_WINDOWS:
        yield HealthFinding(
            severity=severity,
            subject="WAN core's CPU",
            measured=f"a thread of it was full in {brief_share(host.core_saturated)} of the time, all together used "
            f"{brief_number(host.core_cpu)} CPUs on average",
            limit=_limits(SATURATED_SECONDS, brief_share),
            meaning="the core itself was a bottleneck that no topology asked for: use lower rates or fewer sites",
        )


def _ports(host: HostHealth) -> Iterator[HealthFinding]:
    for port in host.ports:
        offered = port.sent + port.dropped
        share = port.dropped / offered if offered else 0.0
        severity = _grade(share, UNASKED_DROPS)
        if severity is not None:
            yield HealthFinding(
                severity=severity,
                subject=f"line of {port.site} into the core",
                measured=f"{port.dropped} of {offered} packets dropped",
                limit=_limits(UNASKED_DROPS, brief_share),
                meaning="the core could not take them in: a loss that no topology asked for",
            )


def _backlog(host: HostHealth) -> Iterator[HealthFinding]:
    if host.backlog_dropped:
        yield HealthFinding(
            severity="warning",
            subject="this host's input queues",
            measured=f"{host.backlog_dropped} packets dropped",
            limit="warning above 0",
            meaning="a loss that no topology asked for, in a lab or elsewhere: raise net.core.netdev_max_backlog",
        )


def _pressure(host: HostHealth) -> Iterator[HealthFinding]:
    if host.pressure is not None and host.pressure >= PRESSURE_WARNING and host.windows >= FEWEST_WINDOWS:
        yield HealthFinding(
            severity="warning",
            subject="CPU pressure",
            measured=f"in {brief_share(host.pressure)} of the time some task waited for a CPU",
            limit=f"warning {brief_share(PRESSURE_WARNING)}",
            meaning="speeds that were measured are those of a busy machine",
        )


def _grade(value: float, limits: tuple[float, float]) -> Severity | None:
    """Above the first limit a warning, above the second INVALID."""
    warning, invalid = limits
    return "invalid" if value > invalid else "warning" if value > warning else None


def _limits(limits: tuple[float, float], show: Callable[[float], str]) -> str:
    return f"warning above {show(limits[0])}, INVALID above {show(limits[1])}"


def _mean(weighted: Sequence[tuple[float, float]]) -> float | None:
    total = sum(weight for _, weight in weighted)
    return sum(value * weight for value, weight in weighted) / total if total else None


def _quantile(ordered: Sequence[int], share: float) -> float:
    """The smallest of a sorted list that at least this share does not exceed; 0 of an empty one."""
    return float(ordered[max(0, math.ceil(share * len(ordered)) - 1)]) if ordered else 0.0
