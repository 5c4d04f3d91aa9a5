"""How links are probed and judged: bounds on the load, honest links pass, wrong links do not."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss
from harness.model.measurement import ProbeCount
from harness.model.verdict import Verdict
from harness.plan.fidelity import (
    HEADERS_BYTES,
    expected_rtt_us,
    join_counts,
    judge,
    loss_interval,
    plan_probe,
    probe_again,
    variance_inflation,
)

CLEAN = Impairment(delay_us=40_000, rate_bps=100_000_000)
BURSTS = GilbertElliottLoss(good_to_bad=0.01, bad_to_good=0.2)
LINKS = st.builds(
    Impairment,
    delay_us=st.integers(0, 700_000),
    jitter_us=st.integers(0, 50_000),
    loss=st.one_of(st.none(), st.builds(IndependentLoss, probability=st.floats(0, 1)), st.just(BURSTS)),
    rate_bps=st.one_of(st.none(), st.integers(9600, 10**9)),
    blocked=st.booleans(),
)


@given(LINKS, LINKS, st.integers(1, 3))
def test_probes_and_echoes_take_a_tenth_of_the_rate_at_most(
    forward: Impairment, backward: Impairment, round_number: int
) -> None:
    plan = plan_probe(forward, backward, round_number)
    bits = 2 * (plan.payload_bytes + HEADERS_BYTES) * 8
    for link in (forward, backward):
        if link.rate_bps is not None:
            assert bits * 1e6 / plan.interval_us <= 0.1 * link.rate_bps
    assert plan.packets >= 20
    assert plan.drain_us > expected_rtt_us(forward, backward)


@given(LINKS, LINKS)
def test_a_later_round_sends_no_less(forward: Impairment, backward: Impairment) -> None:
    packets = [plan_probe(forward, backward, round_number).packets for round_number in (1, 2, 3)]
    assert packets == sorted(packets)


def test_a_usual_link_is_probed_within_three_seconds() -> None:
    for link in (CLEAN, Impairment(delay_us=100_000, rate_bps=200_000, loss=IndependentLoss(probability=0.01))):
        assert plan_probe(link, link).duration_us < 3_100_000


def test_a_lossy_link_gets_more_probes() -> None:
    lossy = CLEAN.model_copy(update={"loss": IndependentLoss(probability=0.02)})
    assert plan_probe(lossy, CLEAN).packets == 400
    assert plan_probe(CLEAN, CLEAN).packets == 120


def test_hardly_any_loss_does_not_ask_for_endless_probes() -> None:
    rare = CLEAN.model_copy(update={"loss": IndependentLoss(probability=5e-324)})
    assert plan_probe(rare, CLEAN).packets == 600


def test_rounds_count_from_one() -> None:
    with pytest.raises(ValueError, match="rounds"):
        plan_probe(CLEAN, CLEAN, 0)


def test_expected_rtt_adds_the_time_to_send_the_probe() -> None:
    slow = Impairment(delay_us=100_000, rate_bps=64_000)
    assert expected_rtt_us(slow, slow, 36) == pytest.approx(200_000 + 2 * 64 * 8 / 0.064)
    assert expected_rtt_us(Impairment(delay_us=1), Impairment(delay_us=2)) == 3


@pytest.mark.parametrize(("sent", "lost"), [(100, 10), (120, 1), (600, 599)])
def test_loss_interval_leaves_half_a_percent_in_each_tail(sent: int, lost: int) -> None:
    def at_most(most: int, probability: float) -> float:
        return sum(math.comb(sent, k) * probability**k * (1 - probability) ** (sent - k) for k in range(most + 1))

    low, high = loss_interval(sent, lost)
    assert 1 - at_most(lost - 1, low) == pytest.approx(0.005, rel=1e-6)
    assert at_most(lost, high) == pytest.approx(0.005, rel=1e-6)


def test_loss_interval_reaches_the_ends_when_none_or_all_is_lost() -> None:
    assert loss_interval(100, 0) == pytest.approx((0, 1 - 0.005 ** (1 / 100)))
    assert loss_interval(100, 100) == pytest.approx((0.005 ** (1 / 100), 1))


@given(st.integers(1, 2000).flatmap(lambda sent: st.tuples(st.just(sent), st.integers(0, sent))))
def test_loss_interval_holds_the_share_and_widens_with_correlation(counted: tuple[int, int]) -> None:
    sent, lost = counted
    low, high = loss_interval(sent, lost)
    wide_low, wide_high = loss_interval(sent, lost, 5.0)
    assert 0 <= wide_low <= low <= lost / sent <= high <= wide_high <= 1


@pytest.mark.parametrize(("sent", "lost"), [(0, 0), (3, 4), (3, -1)])
def test_loss_interval_refuses_the_impossible(sent: int, lost: int) -> None:
    with pytest.raises(ValueError, match="sent"):
        loss_interval(sent, lost)


def test_variance_inflation_is_what_a_simulated_chain_shows() -> None:
    chain, size, runs = random.Random(7), 1500, 300
    shares = []
    for _ in range(runs):
        bad = chain.random() < BURSTS.bad_share
        lost = 0
        for _ in range(size):
            lost += bad
            bad = chain.random() >= BURSTS.bad_to_good if bad else chain.random() < BURSTS.good_to_bad
        shares.append(lost / size)
    mean = sum(shares) / runs
    variance = sum((share - mean) ** 2 for share in shares) / (runs - 1)
    independent = BURSTS.mean * (1 - BURSTS.mean) / size
    assert variance / independent == pytest.approx(variance_inflation(Impairment(loss=BURSTS)), rel=0.3)


def test_independent_loss_and_blocked_links_are_not_inflated() -> None:
    assert variance_inflation(Impairment(loss=IndependentLoss(probability=0.3))) == 1
    assert variance_inflation(Impairment(loss=BURSTS, blocked=True)) == 1


def count(sent: int, received: int, *rtts: float) -> ProbeCount:
    return ProbeCount(source="a", destination="b", sent=sent, received=received, rtt_us=rtts)


def test_an_honest_link_passes() -> None:
    plan = plan_probe(CLEAN, CLEAN)
    verdict = judge(count(120, 120, *[80_400.0] * 120), CLEAN, CLEAN, plan)
    assert (verdict.verdict, verdict.reason) == (Verdict.PASS, "")
    assert verdict.rtt_tolerance_us == pytest.approx(1600, abs=1)
    assert not probe_again(verdict)


def test_a_few_late_packets_do_not_condemn_a_link() -> None:
    rtts = [80_200.0] * 100 + [130_000.0] * 20
    assert judge(count(120, 120, *rtts), CLEAN, CLEAN, plan_probe(CLEAN, CLEAN)).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (count(120, 120, *[82_500.0] * 120), "RTT 82.50 ms where 80.01"),
        (count(120, 119, *[80_000.0] * 119), "loss 1/120"),
        (count(120, 120), "no probe was echoed"),
        (count(0, 0), "no probe was sent"),
    ],
)
def test_a_wrong_link_is_invalid_and_says_why(measured: ProbeCount, said: str) -> None:
    verdict = judge(measured, CLEAN, CLEAN, plan_probe(CLEAN, CLEAN))
    assert verdict.verdict is Verdict.INVALID
    assert said in verdict.reason
    assert probe_again(verdict)
    assert not probe_again(verdict.model_copy(update={"rounds": 3}))


def test_a_blocked_link_must_pass_nothing_and_owes_no_rtt() -> None:
    blocked = CLEAN.model_copy(update={"blocked": True})
    plan = plan_probe(blocked, CLEAN)
    assert judge(count(120, 0), blocked, CLEAN, plan).verdict is Verdict.PASS
    assert judge(count(120, 1), blocked, CLEAN, plan).verdict is Verdict.INVALID
    assert judge(count(120, 120), CLEAN, blocked, plan).verdict is Verdict.PASS


def test_loss_that_was_asked_for_is_judged_by_its_interval() -> None:
    lossy = CLEAN.model_copy(update={"loss": IndependentLoss(probability=0.1)})
    plan, rtts = plan_probe(lossy, CLEAN), [80_000.0] * 100
    assert judge(count(120, 108, *rtts), lossy, CLEAN, plan).verdict is Verdict.PASS
    assert judge(count(120, 120, *rtts), lossy, CLEAN, plan).verdict is Verdict.INVALID


def report(site: str, bound_ns: int, *peers: dict[str, object]) -> dict[str, object]:
    return {"site": site, "start_ns": 10**9, "bound_ns": bound_ns, "peers": list(peers)}


def peer(site: str, sent: int, received: int) -> dict[str, object]:
    """One probe in every millisecond."""
    sent_at_us = [1000 * number for number in range(sent)]
    return {"site": site, "sent": sent, "received": received, "rtt_us": [1.5], "sent_at_us": sent_at_us}


def test_counts_are_joined_from_both_ends() -> None:
    reports = [report("a", 0, peer("b", 10, 7), peer("c", 5, 0)), report("b", 0, peer("a", 8, 9))]
    joined = {(one.source, one.destination): (one.sent, one.received) for one in join_counts(reports)}
    assert joined == {("a", "b"): (10, 9), ("b", "a"): (8, 7)}


def test_probes_sent_before_the_other_agent_listened_are_not_lost() -> None:
    late = report("b", 10**9 + 3_500_000, peer("a", 0, 6))
    (joined,) = join_counts([report("a", 0, peer("b", 10, 0)), late])
    assert (joined.sent, joined.received) == (6, 6)


def test_clocks_that_are_not_common_are_not_compared() -> None:
    (joined,) = join_counts([report("a", 0, peer("b", 10, 0)), report("b", 10**15, peer("a", 0, 9))])
    assert (joined.sent, joined.received) == (10, 9)
