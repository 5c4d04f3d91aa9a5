"""The host's health: each limit warns, refuses, and is silent below."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.health import HostWindow, PortLoss
from harness.plan.health import FEWEST_WINDOWS, judge_host, summarise_host


def windows(count: int = 20, **more: Any) -> list[HostWindow]:
    usual = {"seconds": 1.0, "steal": 0.0, "busy": 0.5, "pressure": 0.1, "late_us": (100,) * 50}
    return [HostWindow(**{"at_s": float(second), **usual, **more}) for second in range(count)]


def found(taken: list[HostWindow], *ports: PortLoss) -> dict[str, str]:
    return {finding.subject: finding.severity for finding in judge_host(summarise_host(taken, ports)).findings}


def test_a_quiet_host_is_not_worth_a_word() -> None:
    assert found(windows(), PortLoss(site="a", sent=1000, dropped=0)) == {}


@pytest.mark.parametrize(
    ("subject", "below", "warned", "refused"),
    [
        ("CPU steal", {"steal": 0.019}, {"steal": 0.03}, {"steal": 0.21}),
        ("late timers", {"late_us": (10_000,)}, {"late_us": (10_001,)}, {"late_us": (100_001,)}),
    ],
)
def test_limits_of_every_second(
    subject: str, below: dict[str, Any], warned: dict[str, Any], refused: dict[str, Any]
) -> None:
    assert found(windows(120, **below)) == {}
    assert found(windows(120, **warned)) == {subject: "warning"}
    assert found(windows(120, **refused)) == {subject: "invalid"}


@pytest.mark.parametrize(("full", "severity"), [(2, None), (3, "warning"), (10, "warning"), (11, "invalid")])
def test_a_core_that_has_no_cpu_left(full: int, severity: str | None) -> None:
    taken = windows(20 - full) + windows(full, core_busiest=0.97)
    assert found(taken) == ({} if severity is None else {"WAN core's CPU": severity})


def test_packets_that_the_core_had_no_room_for() -> None:
    assert found(windows(), PortLoss(site="a", sent=999_999, dropped=1)) == {"line of a into the core": "warning"}
    assert found(windows(), PortLoss(site="a", sent=900, dropped=1)) == {"line of a into the core": "invalid"}
    assert found(windows(backlog_dropped=1)) == {"this host's input queues": "warning"}


def test_pressure_alone_never_refuses() -> None:
    assert found(windows(pressure=1.0)) == {"CPU pressure": "warning"}
    assert found(windows(pressure=None)) == {}


def test_one_late_timer_in_a_hundred_is_not_a_late_machine() -> None:
    taken = [*windows(19), *windows(1, late_us=(500_000,) * 5)]
    assert found(taken) == {}
    host = summarise_host(taken)
    assert host is not None
    assert (host.late_p50_us, host.late_max_us) == (100.0, 500_000.0)


def test_a_short_run_is_not_judged_by_shares_of_seconds() -> None:
    assert found(windows(FEWEST_WINDOWS - 1, steal=0.9, core_busiest=1.0, pressure=1.0)) == {}
    assert judge_host(summarise_host([])).host is None


shares = st.floats(0, 1)
any_window = st.builds(
    HostWindow,
    at_s=st.floats(0, 1e6),
    seconds=st.floats(0.01, 10),
    steal=shares,
    busy=shares,
    pressure=st.none() | shares,
    late_us=st.lists(st.integers(0, 10**7), max_size=60).map(tuple),
    core_cpu=st.floats(0, 64),
    core_busiest=shares,
)


@given(st.lists(any_window, min_size=1, max_size=30))
def test_means_lie_among_their_samples(taken: list[HostWindow]) -> None:
    host = summarise_host(taken)
    assert host is not None
    assert min(w.steal for w in taken) - 1e-9 <= host.steal <= host.steal_worst + 1e-9
    assert host.late_p50_us <= host.late_p99_us <= host.late_max_us
    assert 0 <= host.core_saturated <= 1
