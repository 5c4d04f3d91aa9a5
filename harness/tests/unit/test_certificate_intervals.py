"""Confidence intervals hold the truth as often as they say."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.impairment import FourStateLoss, GilbertElliottLoss, Impairment, IndependentLoss, Loss
from harness.plan import intervals
from harness.plan.intervals import distance, distance_radius, mean_run, proportion, quantile, quantile_interval
from harness.plan.judge_loss import runs
from harness.plan.loss_process import variance_inflation
from harness.tests.simulated_link import losses

BURSTS = GilbertElliottLoss(good_to_bad=0.01, bad_to_good=0.25)
LEAKY = GilbertElliottLoss(good_to_bad=0.01, bad_to_good=0.2, loss_in_bad=0.7, loss_in_good=0.002)
FOUR = FourStateLoss(p13=0.01, p31=0.2, p32=0.3, p23=0.5, p14=0.002)
RANDOM = IndependentLoss(probability=0.02)
RUNS = 400
MOST_MISSES = 12
"""Of RUNS intervals at 99%, 4 miss on average; more than 12 in one of 2,000 tests."""


def misses(trial: Callable[[random.Random], bool]) -> int:
    dice = random.Random(20)
    return sum(not trial(dice) for _ in range(RUNS))


@pytest.mark.parametrize("loss", [RANDOM, BURSTS, LEAKY, FOUR], ids=["random", "bursts", "leaky", "four-state"])
def test_99_in_100_loss_and_burst_intervals_hold_the_truth(loss: Loss) -> None:
    impairment = Impairment(loss=loss)
    inflation = variance_inflation(impairment)
    missed_loss = missed_burst = 0
    dice = random.Random(20)
    for _ in range(RUNS):
        fate = losses(impairment, dice)
        lost = [next(fate) for _ in range(2500)]
        low, high = proportion(len(lost), sum(lost), inflation)
        missed_loss += not low <= loss.mean <= high
        lengths = runs(lost)
        low, high = mean_run(sum(lengths), len(lengths))
        missed_burst += not low <= loss.mean_burst <= high
    assert missed_loss <= MOST_MISSES
    assert missed_burst <= MOST_MISSES


def test_without_the_inflation_bursts_would_be_condemned() -> None:
    def holds(dice: random.Random) -> bool:
        fate = losses(Impairment(loss=BURSTS), dice)
        low, high = proportion(1500, sum(next(fate) for _ in range(1500)))
        return low <= BURSTS.mean <= high

    assert misses(holds) > 5 * MOST_MISSES


@pytest.mark.parametrize("loss", [BURSTS, LEAKY, FOUR], ids=["bursts", "leaky", "four-state"])
def test_variance_inflation_is_what_a_simulated_chain_shows(loss: Loss) -> None:
    dice, size, count = random.Random(7), 1500, 300
    shares = []
    for _ in range(count):
        fate = losses(Impairment(loss=loss), dice)
        shares.append(sum(next(fate) for _ in range(size)) / size)
    mean = sum(shares) / count
    variance = sum((share - mean) ** 2 for share in shares) / (count - 1)
    assert variance * size / (loss.mean * (1 - loss.mean)) == pytest.approx(
        variance_inflation(Impairment(loss=loss)), rel=0.3
    )


def test_independent_loss_and_blocked_links_are_not_inflated() -> None:
    assert variance_inflation(Impairment(loss=RANDOM)) == 1
    assert variance_inflation(Impairment(loss=BURSTS, blocked=True)) == 1


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_99_in_100_quantile_intervals_hold_the_truth(share: float) -> None:
    truth = -math.log(1 - share)

    def holds(dice: random.Random) -> bool:
        low, high = quantile_interval(sorted(dice.expovariate(1) for _ in range(120)), share)
        return low <= truth <= high

    assert misses(holds) <= MOST_MISSES


def test_99_in_100_distances_stay_within_the_radius() -> None:
    def holds(dice: random.Random) -> bool:
        sample = sorted(dice.random() for _ in range(80))
        return distance(sample, lambda value: min(1.0, max(0.0, value))) <= distance_radius(80)

    assert misses(holds) <= MOST_MISSES


def test_99_in_100_means_of_batches_hold_the_truth() -> None:
    def holds(dice: random.Random) -> bool:
        low, high = intervals.mean_of_batches([dice.gauss(5, 2) for _ in range(8)])
        return low <= 5 <= high

    assert misses(holds) <= MOST_MISSES


@pytest.mark.parametrize(("sent", "lost"), [(100, 10), (120, 1), (600, 599)])
def test_a_proportion_leaves_half_a_percent_in_each_tail(sent: int, lost: int) -> None:
    def at_most(most: int, probability: float) -> float:
        return sum(math.comb(sent, k) * probability**k * (1 - probability) ** (sent - k) for k in range(most + 1))

    low, high = proportion(sent, lost)
    assert 1 - at_most(lost - 1, low) == pytest.approx(0.005, rel=1e-6)
    assert at_most(lost, high) == pytest.approx(0.005, rel=1e-6)


def test_a_proportion_reaches_the_ends_when_none_or_all_is_lost() -> None:
    assert proportion(100, 0) == pytest.approx((0, 1 - 0.005 ** (1 / 100)))
    assert proportion(100, 100) == pytest.approx((0.005 ** (1 / 100), 1))


@given(st.integers(1, 2000).flatmap(lambda sent: st.tuples(st.just(sent), st.integers(0, sent))))
def test_a_proportion_holds_the_share_and_widens_with_correlation(counted: tuple[int, int]) -> None:
    sent, lost = counted
    low, high = proportion(sent, lost)
    wide_low, wide_high = proportion(sent, lost, 5.0)
    assert 0 <= wide_low <= low <= lost / sent <= high <= wide_high <= 1


@pytest.mark.parametrize(("sent", "lost"), [(0, 0), (3, 4), (3, -1)])
def test_a_proportion_refuses_the_impossible(sent: int, lost: int) -> None:
    with pytest.raises(ValueError, match="of"):
        proportion(sent, lost)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.floats(0.05, 0.95))
def test_a_quantile_lies_in_its_interval(values: list[float], share: float) -> None:
    ordered = sorted(values)
    low, high = quantile_interval(ordered, share)
    assert low <= quantile(ordered, share) <= high


def test_few_values_bound_nothing() -> None:
    assert quantile_interval([1.0, 2.0, 3.0], 0.5) == (-math.inf, math.inf)
    assert mean_run(0, 0) == (1, math.inf)


@given(st.lists(st.floats(0, 1e3), min_size=2, max_size=50), st.floats(-10, 1010))
def test_a_step_function_is_a_distribution_function(values: list[float], at: float) -> None:
    ordered = sorted(values)
    function = intervals.step_function(ordered)
    assert 0 <= function(at) <= function(at + 1) <= 1
    assert (function(ordered[0] - 1), function(ordered[-1])) == (0, 1)
