"""Two looks at a lab, and what happened between them."""

from __future__ import annotations

import pytest

from harness.model.impairment import Impairment
from harness.model.measurement import LinkCounters
from harness.plan.live import LabLook, LabNow, busiest, compare

AB, BA = ("a", "b"), ("b", "a")
IN_FORCE = {
    AB: Impairment(delay_us=20_000, rate_bps=12_000_000),
    BA: Impairment(delay_us=30_000),
}


def counters(ends: tuple[str, str], packets: int = 0, lost: int = 0, queue: int = 0, inside: int = 0) -> LinkCounters:
    return LinkCounters(
        source=ends[0],
        destination=ends[1],
        packets=packets,
        bytes=packets * 1500,
        dropped_loss=lost,
        dropped_queue=queue,
        backlog_packets=inside,
    )


def now(after: LinkCounters, cpu: float = 0.0, in_force: dict[tuple[str, str], Impairment] = IN_FORCE) -> LabNow:
    before = LabLook(at_s=10.0, counters=(counters(AB), counters(BA)), node_cpu_s={"a": 1.0}, core_cpu_s=5.0)
    look = LabLook(at_s=12.0, counters=(after, counters(BA)), node_cpu_s={"a": 1.0 + cpu}, core_cpu_s=5.5)
    return compare(before, look, in_force)


def test_rates_are_per_second() -> None:
    seen = now(counters(AB, packets=2000, lost=20, queue=4), cpu=0.5)
    link = seen.links[0]
    assert (link.packets_per_s, link.bits_per_s, link.load) == (1000, 12e6, 1.0)
    assert (link.lost_per_s, link.overflow_per_s) == (10, 2)
    assert (seen.node_cpu, seen.core_cpu) == ({"a": 0.25}, 0.25)
    assert (seen.bits_per_s, seen.packets_per_s) == (12e6, 1000)


def test_what_is_not_in_flight_waits() -> None:
    # 1000 packets/s for 20 ms are 20 in flight; 10 more of 1500 B wait for 10 ms at 12 Mbit/s.
    link, back = now(counters(AB, packets=2000, inside=30)).links
    assert link.queue_us == pytest.approx(10_000)
    assert link.rtt_us == back.rtt_us == pytest.approx(60_000)
    assert now(counters(AB, packets=2000, inside=15)).links[0].queue_us == 0


def test_a_cut_either_way_has_no_round_trip() -> None:
    cut = {**IN_FORCE, BA: IN_FORCE[BA].model_copy(update={"blocked": True})}
    link, back = now(counters(AB), in_force=cut).links
    assert (link.rtt_us, back.rtt_us, link.blocked, back.blocked) == (None, None, False, True)


def test_counters_that_began_anew_and_processes_that_ended_are_no_negative_rates() -> None:
    before = LabLook(at_s=1, counters=(counters(AB, packets=9),), node_cpu_s={"a": 3.0})
    seen = compare(before, LabLook(at_s=2, counters=(counters(AB),), node_cpu_s={"a": 1.0}), IN_FORCE)
    assert (seen.links[0].packets_per_s, seen.node_cpu, seen.core_cpu) == (0, {"a": 0}, None)
    with pytest.raises(ValueError, match="later"):
        compare(before, before, IN_FORCE)


def test_the_busiest_stand_first_and_overflow_is_busiest() -> None:
    seen = now(counters(AB, queue=1)).links
    loud = seen[1].model_copy(update={"bits_per_s": 5.0})
    quiet = seen[1].model_copy(update={"source": "c"})
    assert busiest((quiet, loud, seen[0]), 2) == (seen[0], loud)
