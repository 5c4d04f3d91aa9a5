"""Generators: determined by their seed, means in their ranges, handovers when they should be; the shipped library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.config.trace_file import load_trace, shipped_traces, trace_text
from harness.model.trace import Course, Trace
from harness.model.trace_facts import CourseFacts, facts
from harness.model.units import parse_duration
from harness.plan.generators import GENERATORS, SLOT_US, generate
from harness.plan.prng import Prng

MBIT = 1e6
# Mean rates, down and up, over 10 min and two seeds: what each generator's source says, and some room.
MEANS = {
    "lte-driving": ((5, 20), (3, 14)),
    "5g-driving": ((60, 210), (10, 30)),
    "3g-driving": ((1, 3), (0.5, 1.2)),
    "leo-satellite": ((100, 220), (8, 25)),
    "geo-satellite": ((15, 25), (1.5, 3)),
    "broadband-day": ((40, 50), (8, 10)),
    "train-tunnels": ((3, 14), (2, 10)),
}


def _facts(trace: Trace) -> tuple[CourseFacts, CourseFacts]:
    assert trace.up is not None
    return facts(trace.down, trace.duration_us), facts(trace.up, trace.duration_us)


def _long(name: str) -> int:
    return 86_400_000_000 if name == "broadband-day" else 600_000_000


@pytest.mark.parametrize("name", GENERATORS)
def test_means_are_in_their_ranges(name: str) -> None:
    both = [_facts(generate(GENERATORS[name], seed=seed, duration_us=_long(name))) for seed in (11, 12)]
    for place, (low, high) in enumerate(MEANS[name]):
        mean = sum(found[place].mean_rate_bps or 0 for found in both) / len(both) / MBIT
        assert low <= mean <= high


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_says_everything(name: str) -> None:
    made = [generate(GENERATORS[name], seed=seed, duration_us=60_000_000) for seed in (5, 5, 6)]
    assert made[0] == made[1]
    assert (made[0].down, made[0].up) != (made[2].down, made[2].up)


@pytest.mark.parametrize("name", GENERATORS)
def test_a_longer_trace_begins_as_a_shorter_one(name: str) -> None:
    short, longer = (generate(GENERATORS[name], seed=5, duration_us=length) for length in (30_000_000, 90_000_000))
    last = len(short.down.at_us)
    assert longer.down.at_us[:last] == short.down.at_us
    assert longer.down.rate_bps[:last] == short.down.rate_bps


def _jumps(course: Course, least_us: int) -> Iterator[int]:
    for place in range(1, len(course.at_us)):
        if abs(course.delay_us[place] - course.delay_us[place - 1]) >= least_us:
            yield course.at_us[place]


def test_satellites_change_every_fifteen_seconds() -> None:
    trace = generate(GENERATORS["leo-satellite"], seed=3)
    jumps = list(_jumps(trace.down, 4_000))
    assert len(jumps) > 5
    assert {jump % SLOT_US for jump in jumps} == {jumps[0] % SLOT_US}


def test_a_drive_has_handovers_and_now_and_then_one_fails() -> None:
    # A cell of 700 m takes 50 s at 14 m/s; in a handover nothing leaves for 30 to 80 ms, so for one or two steps.
    trace = generate(GENERATORS["lte-driving"], seed=8, duration_us=1_500_000_000)
    stops = [
        later - at
        for at, later, rate in zip(trace.down.at_us, trace.down.at_us[1:], trace.down.rate_bps, strict=False)
        if rate < 1_000
    ]
    found = facts(trace.down, trace.duration_us)
    assert 15 <= len(stops) + found.outages <= 45
    assert max(stops) <= 100_000
    assert found.outages >= 1
    assert 600_000 <= found.blocked_us / found.outages <= 1_750_000


def test_the_evening_is_the_worst_of_the_day() -> None:
    down = generate(GENERATORS["broadband-day"], seed=3).down

    def mean(begin_h: int, end_h: int) -> float:
        rates = [
            down.rate_bps[down.index_at(hour * 3.6e9 + 60e6 * minute)]
            for hour in range(begin_h, end_h)
            for minute in range(60)
        ]
        return sum(rates) / len(rates)

    assert mean(19, 23) < 0.85 * mean(2, 6)


def test_a_trace_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 15 s"):
        generate(GENERATORS["leo-satellite"], seed=1, duration_us=5_000_000)


@pytest.mark.parametrize("path", shipped_traces(), ids=lambda path: path.stem)
def test_the_library_is_what_its_recipes_make(path: Path) -> None:
    shipped = load_trace(path)
    _, _, _, kind, _, seed, _, duration = shipped.recipe.split()
    again = generate(GENERATORS[kind], seed=int(seed), duration_us=parse_duration(duration))
    assert trace_text(again) == path.read_text()
    assert path.with_suffix(".png").is_file()


def test_the_library_has_every_generator() -> None:
    assert {path.stem for path in shipped_traces()} == set(GENERATORS)


def test_the_generator_of_numbers_never_changes() -> None:
    # Any other numbers here would change every shipped trace.
    prng = Prng(1, "a")
    assert [prng.bits() for _ in range(3)] == [3309697774824990854, 14270582388017572427, 798271510965685264]


def test_draws_have_their_means() -> None:
    prng = Prng(4)
    draws = [(prng.uniform(), prng.normal(), prng.exponential(3.0)) for _ in range(4_000)]
    uniform, normal, exponential = (sum(column) / len(draws) for column in zip(*draws, strict=True))
    assert uniform == pytest.approx(0.5, abs=0.03)
    assert normal == pytest.approx(0.0, abs=0.08)
    assert exponential == pytest.approx(3.0, abs=0.25)
