"""The plans of the self-test: the grid's labs, the guest's parts, and the agreement of two certificates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ExitCode, InputError
from harness.model.measurement import Certificate, LinkCertificate, Quantity
from harness.model.verdict import Verdict
from harness.plan.agreement import agreement
from harness.plan.lint import lint_topology
from harness.plan.selftest_grid import GROUPS, grid, labs, rows, summary
from harness.selftest.parts import (
    PART_NAMES,
    PartOutcome,
    choose_parts,
    judge_part,
    merged_exit_code,
    order_part,
)


@given(st.integers(2, 12))
def test_every_condition_has_one_link_to_itself(sites: int) -> None:
    conditions = grid()
    planned = labs(conditions, sites)
    assert [one.name for lab in planned for one in lab.conditions] == [one.name for one in conditions]
    for lab in planned:
        assert len(lab.topology.sites) == sites
        assert len(lab.topology.links) == sites * (sites - 1)
        assert len({frozenset(link) for link in lab.links}) == len(lab.conditions), "two conditions on one pair"
        for link, condition in zip(lab.links, lab.conditions, strict=True):
            assert lab.topology.link(*link).impairment == condition.impairment
            back = lab.topology.link(link[1], link[0]).impairment
            assert (back.delay_us, back.rate_bps, back.loss) == (condition.impairment.delay_us, None, None)
        measured = [link for _, links in lab.batches() for link in links]
        assert sorted(measured) == sorted(lab.links)


def test_conditions_differ_and_cover_every_group() -> None:
    conditions = grid()
    assert len({one.name for one in conditions}) == len(conditions)
    assert {one.group for one in conditions} == set(GROUPS)
    assert all(one.about for one in conditions)


def test_the_linter_has_nothing_against_the_grid() -> None:
    problems = [finding for lab in labs(grid()) for finding in lint_topology(lab.topology)]
    assert not problems


def quantity(name: str, low: float, high: float, requested: float = 10.0, tolerance: float = 0.0) -> Quantity:
    return Quantity(
        name=name,  # type: ignore[arg-type]
        unit="us",
        requested=requested,
        measured=(low + high) / 2,
        low=low,
        high=high,
        tolerance=tolerance,
        verdict=Verdict.PASS,
        method="",
    )


def link(*quantities: Quantity) -> LinkCertificate:
    return LinkCertificate(source="a", destination="b", depth="full", quantities=quantities, verdict=Verdict.PASS)


def certificate(*quantities: Quantity) -> Certificate:
    return Certificate(depth="full", started_at="", elapsed_s=1, links_in_lab=1, links=(link(*quantities),))


def test_rows_know_what_the_condition_is_about_and_the_summary_its_worst() -> None:
    near, far = (one for one in grid() if one.name in ("RTT 10 ms", "RTT 300 ms"))
    table = (
        *rows(near, link(quantity("rtt", 10.5, 11.5), quantity("jitter", 0, 1))),
        *rows(far, link(quantity("rtt", 5, 7))),
    )
    assert [(row.condition, row.quantity, row.subject) for row in table] == [
        ("RTT 10 ms", "rtt", True),
        ("RTT 10 ms", "jitter", False),
        ("RTT 300 ms", "rtt", True),
    ]
    (found,) = summary(table)
    assert (found.quantity, found.conditions, found.passed) == ("rtt", 2, 2)
    assert (found.worst_error, found.worst_share, found.worst_condition) == (-4, 0.4, "RTT 300 ms")


@given(st.floats(0, 100), st.floats(0, 10), st.floats(0, 100), st.floats(0, 10), st.floats(0, 5))
def test_placements_agree_when_their_intervals_are_within_the_tolerance(
    low: float, width: float, other_low: float, other_width: float, tolerance: float
) -> None:
    here = quantity("rtt", low, low + width, tolerance=tolerance)
    there = quantity("rtt", other_low, other_low + other_width)
    (found,) = agreement(certificate(here), certificate(there))
    assert found.overlap == (max(low, other_low) <= min(low + width, other_low + other_width))
    assert found.agree == (max(low, other_low) - min(low + width, other_low + other_width) <= tolerance)
    (mirrored,) = agreement(certificate(there), certificate(here))
    assert mirrored.gap == found.gap


def test_only_what_both_measured_is_compared() -> None:
    here = certificate(quantity("rtt", 1, 2), quantity("rate", 1, 2))
    there = certificate(quantity("rtt", 1, 2), quantity("rate", 1, 2).model_copy(update={"low": None}))
    assert [one.quantity for one in agreement(here, there)] == ["rtt"]
    assert agreement(here, there.model_copy(update={"links": ()})) == ()


def test_parts_are_chosen_by_name_in_their_own_order() -> None:
    assert choose_parts("") == PART_NAMES
    assert choose_parts("smoke, contract") == ("contract", "smoke")
    with pytest.raises(InputError, match="no such part: soak"):
        choose_parts("soak")


@pytest.mark.parametrize(
    ("name", "status", "tests", "expected"),
    [
        ("contract", 0, 28, ExitCode.PASSED),
        ("contract", 1, 28, ExitCode.TEST_FAILED),
        ("contract", 0, 0, ExitCode.INVALID),
        ("contract", 4, 0, ExitCode.LAB_BROKE),
        ("contract", 5, 0, ExitCode.LAB_BROKE),
        ("contract", -9, 3, ExitCode.LAB_BROKE),
        ("smoke", 4, 0, ExitCode.INVALID),
        ("smoke", 3, 2, ExitCode.LAB_BROKE),
        ("smoke", 0, 0, ExitCode.INVALID),
        ("certificate", 0, 0, ExitCode.PASSED),
        ("certificate", 4, 0, ExitCode.INVALID),
    ],
)
def test_what_the_end_of_a_part_means(name: str, status: int, tests: int, expected: ExitCode) -> None:
    order = order_part(name, "python", "/results", topologies=["four-sites"], seed=1, depth="quick")  # type: ignore[arg-type]
    assert judge_part(order, status, 1.0, tests, 0, 0).exit_code is expected


def test_the_worst_part_decides() -> None:
    def outcomes(*codes: ExitCode) -> list[PartOutcome]:
        return [PartOutcome(name="smoke", exit_code=code, seconds=1) for code in codes]

    assert merged_exit_code(outcomes(ExitCode.PASSED, ExitCode.PASSED)) is ExitCode.PASSED
    assert merged_exit_code(outcomes(ExitCode.PASSED, ExitCode.TEST_FAILED)) is ExitCode.TEST_FAILED
    assert merged_exit_code(outcomes(ExitCode.INVALID, ExitCode.TEST_FAILED)) is ExitCode.INVALID
    assert merged_exit_code(outcomes(ExitCode.INVALID, ExitCode.LAB_BROKE)) is ExitCode.LAB_BROKE
    assert merged_exit_code([]) is ExitCode.INVALID
