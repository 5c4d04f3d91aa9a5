"""Fits find the parameters that made the data, and choose no more of a model than the data ask for."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.impairment import GilbertElliottLoss, IndependentLoss
from harness.model.path_sample import PathSample, PathStream
from harness.plan.fit import fit_path, reordered_share
from harness.plan.fit_delay import fit_delay, fitted_quantiles, quantiles
from harness.plan.fit_loss import fit_loss


def gilbert_elliott(seed: int, packets: int, p: float, r: float, h: float = 1.0) -> list[bool]:
    dice, bad, lost = random.Random(seed), False, []
    for _ in range(packets):
        lost.append(bad and dice.random() < h)
        bad = dice.random() >= r if bad else dice.random() < p
    return lost


def test_independent_loss_is_found_and_no_bursts_are_invented() -> None:
    dice = random.Random(1)
    fit = fit_loss([dice.random() < 0.02 for _ in range(20_000)])
    assert fit.kind == "independent"
    assert isinstance(fit.model, IndependentLoss)
    assert fit.mean.low < 0.02 < fit.mean.high


@pytest.mark.parametrize("seed", range(4))
def test_gilberts_parameters_are_recovered(seed: int) -> None:
    fit = fit_loss(gilbert_elliott(seed, 30_000, p=0.005, r=0.2))
    assert fit.kind == "gilbert"
    assert isinstance(fit.model, GilbertElliottLoss)
    # 95% intervals of four seeds: a miss by half a width more is allowed.
    for name, truth in (("good_to_bad", 0.005), ("bad_to_good", 0.2)):
        estimate = fit.estimates[name]
        slack = (estimate.high - estimate.low) / 2
        assert estimate.low - slack < truth < estimate.high + slack
    assert fit.mean_burst == pytest.approx(5, rel=0.3)


@pytest.mark.parametrize("seed", range(2))
def test_gilbert_and_elliotts_parameters_are_recovered(seed: int) -> None:
    fit = fit_loss(gilbert_elliott(seed, 60_000, p=0.002, r=0.02, h=0.4))
    assert fit.kind == "gilbert-elliott"
    for name, truth in (("good_to_bad", 0.002), ("bad_to_good", 0.02), ("loss_in_bad", 0.4)):
        estimate = fit.estimates[name]
        slack = (estimate.high - estimate.low) / 2
        assert estimate.low - slack < truth < estimate.high + slack


@pytest.mark.parametrize(("lost", "kind"), [(0, "none"), (50, "none"), (1, "independent")])
def test_the_edges(lost: int, kind: str) -> None:
    fit = fit_loss([True] * lost + [False] * (50 - lost))
    assert (fit.kind, fit.lost, fit.packets) == (kind, lost, 50)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=120))
def test_any_sequence_is_fitted_and_the_smallest_bic_wins(lost: list[bool]) -> None:
    fit = fit_loss(lost)
    assert fit.mean.low <= fit.mean.value <= fit.mean.high
    if fit.candidates:
        assert min(fit.candidates, key=lambda one: one.bic).kind == fit.kind
        # A larger model with a smaller one inside it is never less likely, but for where its search stops.
        by_kind = {one.kind: one.log_likelihood for one in fit.candidates}
        if {"gilbert", "gilbert-elliott"} <= set(by_kind):
            assert by_kind["gilbert-elliott"] >= by_kind["gilbert"] - 0.1


def test_shapes_are_told_apart() -> None:
    dice = random.Random(3)
    uniform = fit_delay([dice.uniform(40_000, 60_000) for _ in range(3000)])
    normal = fit_delay([dice.gauss(50_000, 4_000) for _ in range(3000)])
    pareto = fit_delay([20_000 + 1000 * dice.paretovariate(3) for _ in range(3000)])
    assert (uniform.shape, normal.shape) == ("uniform", "normal")
    assert uniform.jitter_us == pytest.approx(10_000, rel=0.05)
    assert normal.jitter_us == pytest.approx(4_000, rel=0.05)
    assert pareto.candidates[0].shape == "pareto"
    assert all(fit.good for fit in (uniform, normal))
    for fit in (uniform, normal, pareto.model_copy(update={"shape": "pareto"})):
        drawn = fit_delay(fitted_quantiles(fit, 2000))
        assert (drawn.candidates[0].shape, drawn.delay_us) == (fit.shape, pytest.approx(fit.delay_us, rel=0.01))


def test_a_shape_that_has_no_name_is_taken_as_it_is() -> None:
    dice = random.Random(5)
    two_humps = [dice.gauss(20_000 if dice.random() < 0.5 else 40_000, 500) for _ in range(1000)]
    fit = fit_delay(two_humps)
    assert fit.shape == "samples"
    assert fit.delay_us == pytest.approx(30_000, rel=0.05)
    assert fit.good
    assert quantiles(two_humps, 3)[0] == min(two_humps)


def test_a_path_that_changed_while_it_was_measured_is_no_good_fit() -> None:
    dice = random.Random(6)
    moved = [dice.gauss(20_000, 500) for _ in range(500)] + [dice.gauss(40_000, 500) for _ in range(500)]
    assert not fit_delay(moved).good


def test_a_still_path_has_no_jitter() -> None:
    fit = fit_delay([10_000 + offset % 7 for offset in range(100)])
    assert (fit.shape, fit.jitter_us, round(fit.delay_us)) == ("none", 0.0, 10_003)
    with pytest.raises(ValueError, match="at least 20"):
        fit_delay([1.0] * 19)


def stream(delays: list[float | None], arrivals: tuple[int, ...] = ()) -> PathStream:
    return PathStream(delays_us=tuple(delays), arrivals=arrivals)


def test_what_a_round_trip_cannot_tell_apart_stands_in_the_uplink() -> None:
    dice = random.Random(9)
    delays: list[float | None] = [80_000 + dice.uniform(0, 8_000) for _ in range(500)]
    delays[10] = None
    fit = fit_path(PathSample(source="ping", round_trip=stream(delays)))
    assert fit.from_round_trips
    assert fit.downlink.jitter_us == 0
    assert fit.downlink.delay_us == pytest.approx(40_000, abs=50)
    assert fit.uplink.delay_us + fit.downlink.delay_us == pytest.approx(84_000, abs=300)
    assert fit.uplink.loss is not None
    assert fit.uplink.loss.lost == 1


def test_two_clocks_still_tell_each_directions_variation() -> None:
    dice = random.Random(11)
    ahead = 5e9
    up = stream([ahead + 30_000 + dice.uniform(0, 6_000) for _ in range(500)])
    down = stream([-ahead + 30_000.0 + dice.uniform(0, 10) for _ in range(500)])
    fit = fit_path(PathSample(source="irtt", uplink=up, downlink=down))
    assert fit.uplink.delay_us == pytest.approx(33_000, abs=300)
    assert fit.downlink.delay_us == pytest.approx(30_000, abs=50)
    assert (fit.downlink.jitter_us, math.isclose(fit.uplink.jitter_us, 3000, rel_tol=0.1)) == (0, True)


@given(st.permutations(range(12)))
def test_order_is_judged_as_in_rfc_4737(order: list[int]) -> None:
    late = sum(any(later > number for later in order[:place]) for place, number in enumerate(order))
    assert reordered_share(stream([1.0] * 12, tuple(order))) == pytest.approx(late / 12)
    assert reordered_share(stream([1.0] * 12, (*range(12), 3, 3))) == 0
