"""From receivers, counters and probes to the figures of a benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.bench import FlowResult, Interval, Moved, Trial, TrialResult, Workload
from harness.plan.bench_figures import (
    as_claimed,
    counters_of,
    fairness,
    from_samples,
    goodput_bps,
    jain,
    lines,
    quantiles,
    spread,
)
from harness.plan.bench_grid import base

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "bench"
SECOND = 1_000_000


def steady(seconds: int, size: int = SECOND) -> list[Interval]:
    return [Interval(begin_s=at, end_s=at + 1, bytes=size) for at in range(seconds)]


def test_the_first_seconds_do_not_count() -> None:
    ramp = [Interval(begin_s=0, end_s=3, bytes=0), *(one for one in steady(8) if one.begin_s >= 3)]
    assert goodput_bps(ramp) == pytest.approx(SECOND * 8)
    assert goodput_bps(ramp, after_s=0) == pytest.approx(SECOND * 8 * 5 / 8)


def test_an_interval_across_an_edge_counts_in_proportion() -> None:
    across = [Interval(begin_s=2, end_s=4, bytes=2 * SECOND), Interval(begin_s=4, end_s=6, bytes=0)]
    assert goodput_bps(across, until_s=5) == pytest.approx(SECOND * 8 / 2)


def test_what_ends_too_soon_has_no_figure() -> None:
    assert goodput_bps(steady(3)) is None
    assert goodput_bps([]) is None
    assert goodput_bps(steady(9), until_s=3.2) is None


@given(st.lists(st.integers(0, 10**9), min_size=4, max_size=40))
def test_goodput_lies_between_the_slowest_and_the_fastest_interval(sizes: list[int]) -> None:
    found = [Interval(begin_s=at, end_s=at + 1, bytes=size) for at, size in enumerate(sizes)]
    goodput = goodput_bps(found)
    assert goodput is not None
    assert min(sizes) * 8 * 0.999 <= goodput <= max(sizes) * 8 * 1.001


def test_samples_become_intervals_from_the_first_byte_on() -> None:
    samples = [(10.0, 50, 0), (10.25, 50, 0), (10.5, 150, 0), (10.75, 120, 0), (11.0, 400, 1)]
    found = from_samples(samples)
    assert [(one.begin_s, one.end_s, one.bytes, one.files) for one in found] == [
        (0.0, 0.25, 100, 0),
        # A temporary file went; what is counted again later is not counted twice.
        (0.25, 0.5, 0, 0),
        (0.5, 0.75, 250, 1),
    ]
    assert from_samples([]) == from_samples(samples[:2]) == ()


MOVED = Moved(
    udp_sent=100_000,
    udp_received=99_000,
    tcp_segments_sent=50,
    tcp_segments_received=60,
    link_packets=100_000,
    link_bytes=150_000_000,
    dropped_loss=1_000,
    dropped_queue=0,
)
PAYLOAD = 140_000_000


def but(**changes: int) -> Moved:
    return MOVED.model_copy(update=changes)


@pytest.mark.parametrize(
    ("transport", "moved", "verdict"),
    [
        ("udp", MOVED, True),
        # The kernel counts a datagram that it splits into many packets once.
        ("udp", but(udp_sent=2_500, udp_received=2_400), True),
        ("udp", but(udp_sent=0, udp_received=0), False),
        ("udp", but(tcp_segments_sent=100_000), False),
        ("udp", but(link_packets=50_000), False),
        ("tcp", MOVED, False),
        ("tcp", but(tcp_segments_sent=100_000, udp_sent=0, udp_received=0), True),
        ("any", but(udp_sent=0, udp_received=0), None),
    ],
)
def test_counters_must_agree_with_the_claim(transport: str, moved: Moved, verdict: bool | None) -> None:
    found, why = as_claimed(transport, PAYLOAD, moved)  # type: ignore[arg-type]
    assert found is verdict
    assert bool(why) == (verdict is False)
    assert as_claimed("udp", 0, moved) == (None, "")


def test_beside_tcp_nobody_can_say_that_tcp_sent_nothing() -> None:
    busy = but(tcp_segments_sent=100_000)
    assert as_claimed("udp", PAYLOAD, busy, beside_tcp=True) == (True, "")
    assert as_claimed("udp", PAYLOAD, but(udp_sent=0, tcp_segments_sent=100_000), beside_tcp=True)[0] is False


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=8))
def test_jains_index_is_between_one_over_n_and_one(shares: list[float]) -> None:
    assert 1 / len(shares) - 1e-9 <= jain(shares) <= 1 + 1e-9


def test_jains_index_of_known_shares() -> None:
    assert jain([5, 5, 5]) == pytest.approx(1)
    assert jain([1, 0]) == pytest.approx(0.5)
    assert jain([2, 1]) == pytest.approx(0.9)
    with pytest.raises(ValueError):
        jain([])


def test_quantiles_need_a_handful() -> None:
    assert quantiles([1, 2, 3, 4]) is None
    assert quantiles(list(range(100))) == (49.5, 95)


def test_the_kernels_counters_are_read_as_it_writes_them() -> None:
    found = counters_of((GOLDEN / "snmp.txt").read_text())
    assert {"Udp.OutDatagrams", "Udp.InDatagrams", "Tcp.OutSegs", "Tcp.InSegs", "Tcp.RetransSegs"} <= set(found)
    assert all(value >= -1 for value in found.values())
    with pytest.raises(ValueError):
        counters_of("Udp: InDatagrams\nTcp: 5\n")


def result(rate: float, repeat: int, *peers: str, claimed: bool | None = True) -> TrialResult:
    trial = Trial(cell=base(), peers=peers, workload=Workload(kind="stream"), seconds=15, repeat=repeat)
    flows = tuple(
        FlowResult(peer=name, transport="udp", goodput_bps=rate / (1 + place), share=rate / 200e6, as_claimed=claimed)
        for place, name in enumerate(peers)
    )
    return TrialResult(trial=trial, at="2026-01-01T00:00:00+00:00", rate_bps=200e6, flows=flows)


def test_repeats_become_a_median_with_its_spread() -> None:
    (line,) = lines([result(rate, repeat, "bbr") for repeat, rate in enumerate((3e6, 1e6, 2e6))])
    assert (line.peer, line.repeats, line.jain) == ("bbr", 3, None)
    assert line.goodput_bps == spread([1e6, 2e6, 3e6])
    assert (line.goodput_bps.median, line.goodput_bps.low, line.goodput_bps.high) == (2e6, 1e6, 3e6)


def test_what_is_not_as_claimed_has_no_figure_in_the_table() -> None:
    (line,) = lines([result(3e6, 0, "bbr", claimed=False)])
    assert line.goodput_bps is None
    assert line.share is None


def test_two_flows_have_a_line_each_and_an_index() -> None:
    pair = lines([result(100e6, 0, "longhaul", "cubic")])
    assert [line.peer for line in pair] == ["longhaul", "cubic"]
    assert pair[0].jain == spread([0.9])
    assert fairness(result(100e6, 0, "bbr")) is None


def test_a_trial_without_flows_leaves_a_line_that_says_why() -> None:
    failed = result(1e6, 0, "bbr").model_copy(update={"flows": (), "problem": "the node is gone"})
    (line,) = lines([failed])
    assert line.goodput_bps is None
    assert line.note == "the node is gone"
