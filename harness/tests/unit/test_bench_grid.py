"""Which trials a benchmark takes, what a cell means for a link, and what a filter leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.bench import Cell, Workload
from harness.model.impairment import GilbertElliottLoss, IndependentLoss
from harness.model.trace import Course, Trace
from harness.plan.bench_cell import (
    BACKWARD,
    FORWARD,
    SMALLEST_BUFFER,
    delay_us_at,
    impairment_of,
    large_file,
    loss_of,
    offered_bps,
    thinned,
    topology_of,
    traffic_of,
)
from harness.plan.bench_grid import (
    BURST,
    GOALS,
    LOSSES,
    RTTS_US,
    Size,
    base,
    expected_seconds,
    fastest_rate,
    goal_of,
    sync_trials,
    transport_trials,
)
from harness.suts.peers.registry import SYNC_PEERS, TRANSPORT_PEERS

SIZES: tuple[Size, ...] = ("quick", "default", "full")
FASTEST = 300_000_000


@pytest.mark.parametrize("size", SIZES)
def test_every_trial_has_a_name_of_its_own(size: Size) -> None:
    for trials in (transport_trials(size, seconds=15, repeats=2), sync_trials(size, seconds=15, repeats=2)):
        assert len({trial.key for trial in trials}) == len(trials) > 0


def test_each_size_holds_the_smaller_one() -> None:
    quick, default, full = (
        {(trial.cell, trial.peers) for trial in transport_trials(size, seconds=15, repeats=1)} for size in SIZES
    )
    assert quick < default
    # A default run looks at bursts and traffic at one point only, which the full grid has as well.
    assert default < full
    assert expected_seconds(transport_trials("quick", seconds=8, repeats=1)) < 300


def test_every_cell_with_a_goal_is_looked_at_by_ours() -> None:
    alone = {trial.cell for trial in transport_trials("default", seconds=15, repeats=1) if trial.peers == ("longhaul",)}
    engine = {trial.cell for trial in sync_trials("default", seconds=15, repeats=1) if trial.peers == ("syncer",)}
    goals = {cell for cell, _ in GOALS}
    assert goals <= alone
    assert goals <= engine
    assert [goal_of(cell) for cell, _ in GOALS] == [share for _, share in GOALS]
    assert goal_of(base(10_000)) is None
    assert goal_of(base(rate_bps=20_000_000)) == goal_of(base())


def test_the_star_can_be_drawn_round_another_rate() -> None:
    standard = transport_trials("full", seconds=15, repeats=1)
    slower = transport_trials("full", seconds=15, repeats=1, rate_bps=100_000_000)
    assert len(slower) == len(standard)
    for one, other in zip(standard, slower, strict=True):
        assert one.peers == other.peers
        exchanged = {200_000_000: 100_000_000, 100_000_000: 200_000_000}
        assert other.cell.rate_bps == exchanged.get(one.cell.rate_bps or 0, one.cell.rate_bps)


def test_plain_udp_runs_alone_where_one_rate_fills_the_link() -> None:
    for trial in transport_trials("full", seconds=15, repeats=1):
        if "udp" in trial.peers:
            assert trial.peers == ("udp",)
            assert trial.cell.trace is None
            assert trial.cell.traffic is None


def test_the_full_grid_crosses_round_trip_times_with_losses_and_bursts() -> None:
    trials = transport_trials("full", seconds=15, repeats=1, peers=["bbr"])
    crossed = {(one.cell.rtt_us, one.cell.loss, one.cell.burst) for one in trials if one.cell == _plain(one.cell)}
    assert {(rtt, loss, 1.0) for rtt in RTTS_US for loss in LOSSES} <= crossed
    assert {(rtt, 0.01, BURST) for rtt in RTTS_US} <= crossed


def _plain(cell: Cell) -> Cell:
    return base(cell.rtt_us, cell.loss, burst=cell.burst)


def test_the_full_grid_has_two_flows_and_everything_beside() -> None:
    trials = transport_trials("full", seconds=15, repeats=1)
    pairs = {trial.peers for trial in trials if len(trial.peers) > 1}
    assert {("longhaul", "longhaul"), ("longhaul", "cubic"), ("longhaul", "bbr"), ("cubic", "cubic")} <= pairs
    assert {trial.cell.traffic for trial in trials} == {None, "udp-30%", "on-off-50%", "tcp-cubic"}
    assert {trial.cell.rate_bps for trial in trials} == {20_000_000, 100_000_000, 200_000_000, None}
    assert {trial.cell.buffer_bdp for trial in trials} == {0.1, 1.0, 5.0}
    assert {trial.peers[0] for trial in trials} <= set(TRANSPORT_PEERS)


def test_traces_and_pairs_last_longer() -> None:
    trials = transport_trials("full", seconds=8, repeats=1)
    assert {trial.seconds for trial in trials if trial.cell.trace} == {30.0}
    alone = [trial for trial in trials if len(trial.peers) == 1 and not trial.cell.trace]
    assert {trial.seconds for trial in trials if len(trial.peers) > 1} == {20.0}
    assert {trial.seconds for trial in alone if trial.cell.traffic} == {20.0}
    assert {trial.seconds for trial in alone if not trial.cell.traffic} == {8.0}


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("rtt=80ms,loss=1%,burst=1,rate=200Mbit/s,buffer=1,flows=1", {"rtt=80ms loss=1% rate=200Mbit"}),
        ("trace=lte-driving", {"trace=lte-driving"}),
        ("rate=fastest, loss=0%", {"rtt=80ms loss=0% rate=fastest"}),
        ("buffer=0.1bdp,loss=1%", {"rtt=80ms loss=1% rate=200Mbit buffer=0.1bdp"}),
        ("traffic=tcp-cubic", {"rtt=80ms loss=0% rate=200Mbit traffic=tcp-cubic"}),
        ("rtt=300ms,loss=5%", {"rtt=300ms loss=5% rate=200Mbit"}),
        ("burst=8,rtt=10ms", {"rtt=10ms loss=1% burst=8 rate=200Mbit"}),
    ],
)
def test_a_filter_leaves_the_cells_that_it_names(text: str, cells: set[str]) -> None:
    trials = transport_trials("full", seconds=15, repeats=1, cells=[text])
    assert {trial.cell.key for trial in trials} == cells


def test_several_filters_leave_what_any_of_them_names() -> None:
    trials = transport_trials("full", seconds=15, repeats=1, peers=["bbr"], cells=["rtt=300ms", "trace=5g-driving"])
    assert {trial.cell.key.split()[0] for trial in trials} == {"rtt=300ms", "trace=5g-driving"}
    assert {trial.peers for trial in trials} == {("bbr",)}


@pytest.mark.parametrize("text", ["loss", "colour=red", "rtt=80", "rate=quick", "loss=1", "flows=two"])
def test_a_filter_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        transport_trials("full", seconds=15, repeats=1, cells=[text])


def test_peers_are_those_asked_for_variants_included() -> None:
    trials = transport_trials("quick", seconds=8, repeats=1, peers=["longhaul-fixed", "uftp", "bbr"])
    # The quick grid has no file tools; two flows are of the standard peers alone.
    assert {trial.peers for trial in trials} == {("longhaul-fixed",), ("bbr",)}
    goals = transport_trials("default", seconds=8, repeats=1, peers=["uftp"])
    assert {(trial.peers, trial.workload.kind) for trial in goals} == {(("uftp",), "large")}


def test_sync_has_a_large_file_and_many_small_ones() -> None:
    trials = sync_trials("default", seconds=15, repeats=1)
    assert {trial.peers[0] for trial in trials} == set(SYNC_PEERS)
    small = [trial for trial in trials if trial.workload.kind == "small"]
    assert {trial.workload for trial in small} == {Workload(kind="small", files=10_000, bytes=10_000)}
    assert {trial.cell.rtt_us for trial in small} == {100_000}
    assert {trial.peers[0] for trial in sync_trials("quick", seconds=8, repeats=1)} == {"syncer", "syncthing", "rsync"}


def test_repeats_come_last() -> None:
    trials = transport_trials("quick", seconds=8, repeats=3)
    assert [trial.repeat for trial in trials] == sorted(trial.repeat for trial in trials)


@given(st.floats(1_000, 5_000_000))
def test_the_fastest_rate_leaves_room(packets_per_s: float) -> None:
    rate = fastest_rate(packets_per_s)
    assert rate % 10_000_000 == 0
    assert rate == 10_000_000 or rate / 12_000 * 1.5 <= packets_per_s * 0.7


def test_a_cell_is_the_same_both_ways_with_its_buffer_and_loss() -> None:
    cell = base(80_000, 0.01, buffer_bdp=0.1)
    impairment = impairment_of(cell, FASTEST)
    assert (impairment.delay_us, impairment.rate_bps, impairment.buffer_bytes) == (40_000, 200_000_000, 200_000)
    assert impairment.loss == IndependentLoss(probability=0.01)
    links = topology_of(cell, FASTEST).links_by_ends[1]
    assert links[FORWARD].impairment == links[BACKWARD].impairment == impairment
    assert impairment_of(base(rate_bps=None), FASTEST).rate_bps == FASTEST
    assert impairment_of(base(10_000, rate_bps=20_000_000, buffer_bdp=0.1), FASTEST).buffer_bytes == SMALLEST_BUFFER


def test_under_a_trace_a_link_is_its_delay_alone() -> None:
    impairment = impairment_of(base(trace="lte-driving"), FASTEST)
    assert impairment.rate_bps is None
    assert impairment.buffer_bytes is None
    assert impairment.delay_us == 40_000


@given(st.floats(0.001, 0.2), st.floats(1.5, 30))
def test_bursts_have_the_mean_loss_and_the_mean_length(mean: float, burst: float) -> None:
    loss = loss_of(mean, burst)
    assert isinstance(loss, GilbertElliottLoss)
    assert loss.mean == pytest.approx(mean)
    assert loss.mean_burst == pytest.approx(burst)
    assert loss_of(0.0, burst) is None


def test_cross_traffic_goes_with_the_data() -> None:
    assert traffic_of(base(), FASTEST) is None
    for traffic, pattern, rate in (
        ("udp-30%", "constant", 60_000_000),
        ("on-off-50%", "on-off", 100_000_000),
        ("tcp-cubic", "tcp", None),
    ):
        stream = traffic_of(base(traffic=traffic), FASTEST)
        assert stream is not None
        assert (stream.source, stream.destination) == FORWARD
        assert (stream.pattern, stream.rate_bps) == (pattern, rate)


def test_a_large_file_outlasts_its_trial() -> None:
    grown = large_file(Workload(kind="large"), 200e6, 15)
    assert grown.bytes * 8 / 200e6 >= 18
    assert large_file(grown, 1e6, 5) == grown
    small = Workload(kind="small", files=3, bytes=10)
    assert large_file(small, 200e6, 15) == small


def test_what_a_trace_offers_counts_its_outages_and_begins_again() -> None:
    course = Course(at_us=(0, 1_000_000), rate_bps=(8_000_000, 2_000_000), delay_us=(30_000, 50_000))
    trace = Trace(name="t", duration_us=2_000_000, down=course)
    assert offered_bps(trace, 0, 2) == pytest.approx(5_000_000)
    assert offered_bps(trace, 0.5, 1.5) == pytest.approx(5_000_000)
    assert offered_bps(trace, 1.5, 3.0) == pytest.approx((0.5 * 2 + 1 * 8) / 1.5 * 1e6)
    cell = base(trace="t")
    assert delay_us_at(cell, trace, 0.2) == 30_000
    assert delay_us_at(cell, trace, 3.7) == 50_000
    assert delay_us_at(cell, trace, -1) == 40_000
    assert delay_us_at(base(), None, 9) == 40_000
    blocked = Course(at_us=(0, 1_000_000), rate_bps=(8_000_000, 8_000_000), blocked=(False, True))
    assert offered_bps(Trace(name="b", duration_us=2_000_000, down=blocked), 0, 2) == pytest.approx(4_000_000)


def test_a_long_series_is_thinned() -> None:
    series = [(number / 40, float(number)) for number in range(4000)]
    assert len(thinned(series)) <= 300
    assert thinned(series[:5]) == tuple(series[:5])
