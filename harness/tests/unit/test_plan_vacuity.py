"""A test whose impairment touched nothing is found out, and one that was touched is left alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.impairment import FourStateLoss, GilbertElliottLoss, Impairment, IndependentLoss, Loss
from harness.model.measurement import LinkCounters
from harness.model.run_record import WanChange
from harness.plan.vacuity import LinkTraffic, chance_of_none, traffic_between, vacuous

CLEAN = Impairment(delay_us=1000)
LOSSY = CLEAN.model_copy(update={"loss": IndependentLoss(probability=0.01)})
CUT = CLEAN.model_copy(update={"blocked": True})
SLOW = Impairment(delay_us=90_000)
AB, BA = ("a", "b"), ("b", "a")
BEFORE = {AB: CLEAN, BA: CLEAN}


def change(after: Impairment, ends: tuple[str, str] = AB, before: Impairment = CLEAN, reason: str = "why") -> WanChange:
    return WanChange(
        source=ends[0], destination=ends[1], planned_s=None, actual_s=1.0, before=before, after=after, reason=reason
    )


def traffic(offered: int, lost: int = 0) -> LinkTraffic:
    return LinkTraffic(offered=offered, lost=lost, overflowed=0)


def test_no_packet_came_to_what_was_changed() -> None:
    changes = [change(SLOW), change(CLEAN, before=SLOW)]
    assert "no packet came to any of the 1 links" in vacuous({AB: traffic(0), BA: traffic(9)}, BEFORE, changes)
    assert vacuous({AB: traffic(1), BA: traffic(0)}, BEFORE, changes) == ""


def test_a_cut_that_swallowed_nothing() -> None:
    changes = [change(CUT), change(CUT, BA), change(CLEAN, before=CUT), change(CLEAN, BA, before=CUT)]
    assert "swallowed no packet" in vacuous({AB: traffic(50), BA: traffic(50)}, BEFORE, changes)
    assert vacuous({AB: traffic(50, lost=1), BA: traffic(50)}, BEFORE, changes) == ""


def test_a_loss_that_took_nothing() -> None:
    assert "took none of 300 packets" in vacuous({AB: traffic(300)}, BEFORE, [change(LOSSY)])
    assert vacuous({AB: traffic(300, lost=1)}, BEFORE, [change(LOSSY)]) == ""


def test_marks_are_not_drops() -> None:
    marking = LOSSY.model_copy(update={"loss_marks": True})
    assert vacuous({AB: traffic(300)}, BEFORE, [change(marking)]) == ""


def test_a_trace_that_moves_a_link_to_and_fro_need_not_hit_each_time() -> None:
    moving = [change(CUT), change(SLOW, before=CUT), change(LOSSY, before=SLOW), change(CLEAN, before=LOSSY)]
    assert vacuous({AB: traffic(300)}, BEFORE, moving) == ""


def test_what_the_timeline_does_no_test_has_declared() -> None:
    cut = change(CUT, reason="outage of a")
    assert vacuous({AB: traffic(0)}, BEFORE, [cut], lambda one: not one.reason.startswith("outage")) == ""


def test_restoring_alone_asks_for_nothing() -> None:
    assert vacuous({AB: traffic(0)}, BEFORE, [change(CLEAN, before=SLOW)]) == ""


def test_dice_that_never_fell() -> None:
    lossy = {AB: LOSSY}
    assert "the loss was not in force" in vacuous({AB: traffic(5000)}, lossy, [])
    # (1 - 1%)^2000 is 2e-9: rare, and yet it may be chance.
    assert vacuous({AB: traffic(2000)}, lossy, []) == ""
    assert vacuous({AB: traffic(5000, lost=1)}, lossy, []) == ""
    assert vacuous({AB: traffic(5000)}, lossy, [change(CLEAN, before=LOSSY)]) == ""


def counters(packets: int, lost: int = 0, queue: int = 0) -> list[LinkCounters]:
    return [LinkCounters(source="a", destination="b", packets=packets, bytes=0, dropped_loss=lost, dropped_queue=queue)]


def test_cross_traffic_is_not_the_systems_own() -> None:
    seen = traffic_between(counters(10, 1, 2), counters(110, 4, 9), {AB: 60})
    assert seen == {AB: LinkTraffic(offered=100 + 3 + 7 - 60, lost=3, overflowed=7)}
    assert traffic_between(counters(0), counters(5), {AB: 9})[AB].offered == 0


shares = st.floats(0.001, 0.999)
losses: st.SearchStrategy[Loss] = (
    st.builds(IndependentLoss, probability=shares)
    | st.builds(GilbertElliottLoss, good_to_bad=shares, bad_to_good=shares, loss_in_bad=shares, loss_in_good=shares)
    | st.builds(FourStateLoss, p13=shares, p31=shares)
)


@given(losses, st.integers(0, 5000))
def test_the_chance_is_a_probability_and_falls_with_the_packets(loss: Loss, packets: int) -> None:
    now, more = chance_of_none(loss, packets), chance_of_none(loss, packets + 1)
    assert 0 <= more <= now * (1 + 1e-9) <= 1 + 1e-6
    assert chance_of_none(loss, 1) == pytest.approx(1 - loss.mean)


@given(shares)
def test_two_states_that_lose_alike_are_independent_loss(share: float) -> None:
    model = GilbertElliottLoss(good_to_bad=0.3, bad_to_good=0.2, loss_in_bad=share, loss_in_good=share)
    assert chance_of_none(model, 7) == pytest.approx((1 - share) ** 7)


def test_the_chance_of_bursts_is_what_a_simulation_finds() -> None:
    model = GilbertElliottLoss(good_to_bad=0.02, bad_to_good=0.3, loss_in_bad=0.8, loss_in_good=0.001)
    dice, packets, none, trials = random.Random(7), 40, 0, 20_000
    for _ in range(trials):
        bad = dice.random() < model.bad_share
        lost = False
        for _ in range(packets):
            lost = lost or dice.random() < (model.loss_in_bad if bad else model.loss_in_good)
            bad = (dice.random() >= model.bad_to_good) if bad else (dice.random() < model.good_to_bad)
        none += not lost
    assert none / trials == pytest.approx(chance_of_none(model, packets), abs=0.015)
