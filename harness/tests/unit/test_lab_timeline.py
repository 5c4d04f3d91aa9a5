"""Outages over time, against a reading of their definition moment by moment."""

from __future__ import annotations

from itertools import pairwise, takewhile

from hypothesis import given
from hypothesis import strategies as st

from harness.model.topology import Outage
from harness.plan.timeline import in_force, links_of, transitions
from harness.tests.lab_topologies import two_sites

HORIZON_S = 40
OUTAGES = st.lists(
    st.builds(
        Outage,
        site=st.sampled_from(["a", "b", "c"]),
        at_s=st.integers(0, 12),
        duration_s=st.integers(1, 9),
        every_s=st.none() | st.integers(1, 12),
    ),
    max_size=4,
)


def defined(outage: Outage, moment: float) -> bool:
    """Straight from the words: from at until at + duration, again every every."""
    begin = outage.at_s
    while begin <= moment:
        if begin <= moment < begin + outage.duration_s:
            return True
        if outage.every_s is None:
            return False
        begin += outage.every_s
    return False


@given(OUTAGES, st.integers(0, HORIZON_S * 2))
def test_in_force_is_what_the_definition_says(outages: list[Outage], half_seconds: int) -> None:
    moment = half_seconds / 2
    assert in_force(outages, moment) == {outage.site for outage in outages if defined(outage, moment)}


@given(OUTAGES)
def test_transitions_tell_every_change(outages: list[Outage]) -> None:
    changes = list(takewhile(lambda one: one.at_s <= HORIZON_S, transitions(outages)))
    assert all(before.at_s < after.at_s for before, after in pairwise(changes))
    for moment in (number / 2 for number in range(HORIZON_S * 2)):
        latest = [one.sites for one in changes if one.at_s <= moment]
        assert (latest[-1] if latest else frozenset()) == in_force(outages, moment)


def test_a_timeline_without_repeats_ends_healed() -> None:
    outages = [Outage(site="a", at_s=1, duration_s=5), Outage(site="b", at_s=3, duration_s=9)]
    assert [(one.at_s, set(one.sites)) for one in transitions(outages)] == [
        (1, {"a"}),
        (3, {"a", "b"}),
        (6, {"b"}),
        (12, set()),
    ]


def test_an_outage_touches_both_directions() -> None:
    assert links_of(two_sites(), "west") == (("east", "west"), ("west", "east"))
