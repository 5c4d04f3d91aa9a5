"""Steps of a timeline, against a reading of its definition moment by moment and a simulator of a link's layers."""

from __future__ import annotations

import math
from itertools import takewhile

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.lab.links import LinkState, Overlay, with_holder, with_overlay, without_holder, without_overlay
from harness.model.impairment import Impairment, IndependentLoss
from harness.model.timeline import BlackHole, Change, Flap, LinkChoice, Outage, Partition, Pause, Ramp, TimelineEvent
from harness.plan.timeline import active, flap_is_down, length_of, links_touched, ramp_fields, ramp_turns, steps
from harness.tests.lab_topologies import two_sites

HORIZON_S = 60
LINKS = LinkChoice(pairs=(("east", "west"),))
BASE = Impairment(delay_us=10_000, rate_bps=8_000_000)

halves = st.integers(0, 40).map(lambda half: half / 2)
spans = st.integers(1, 20).map(lambda half: half / 2)
when = {
    "at_s": halves,
    "duration_s": st.none() | spans,
    "every_s": st.none() | spans,
    "count": st.none() | st.integers(1, 5),
}
events = st.one_of(
    st.builds(BlackHole, links=st.just(LINKS), **when),
    st.builds(Change, links=st.just(LINKS), fields=st.just({"delay_us": 77_000}), **when),
    st.builds(Ramp, links=st.just(LINKS), fields=st.just({"rate_bps": 1_000_000}), over_s=spans, step_s=spans, **when),
    st.builds(Flap, links=st.just(LINKS), down_s=spans, up_s=spans, flaps=st.integers(1, 4), **when),
    st.builds(Pause, node=st.just("east"), **when),
)
timelines = st.lists(events, max_size=4)


def until(timeline: list[TimelineEvent], at_s: float) -> list:
    return list(takewhile(lambda step: step.at_s <= at_s, steps(timeline)))


def occurrences(event: TimelineEvent) -> list[tuple[float, float]]:
    """(begin, end) of each within the horizon, by definition."""
    length = math.inf if event.duration_s is None else event.duration_s
    if isinstance(event, Flap):
        length = min(length, event.flaps * event.down_s + (event.flaps - 1) * event.up_s)
    most = 1 if event.every_s is None else event.count or 10**6
    begins = [event.at_s]
    while event.every_s is not None and len(begins) < most and begins[-1] <= HORIZON_S:
        begins.append(event.at_s + len(begins) * event.every_s)
    return [(begin, begin + length) for begin in begins]


@settings(deadline=None)
@given(timelines, halves)
def test_what_is_in_force_is_what_the_definition_says(timeline: list[TimelineEvent], moment: float) -> None:
    expected = {
        (index, repeat)
        for index, event in enumerate(timeline)
        for repeat, (begin, end) in enumerate(occurrences(event))
        if begin <= moment < end
    }
    assert active(timeline, moment) == expected
    held = set()
    for step in until(timeline, moment):
        match step.do:
            case "begin":
                assert (step.event, step.repeat) not in held
                held.add((step.event, step.repeat))
            case "end":
                held.remove((step.event, step.repeat))
            case "move":
                assert (step.event, step.repeat) in held
    assert held == expected


@settings(deadline=None)
@given(timelines)
def test_steps_come_in_order_and_every_bounded_occurrence_ends(timeline: list[TimelineEvent]) -> None:
    done = until(timeline, HORIZON_S)
    assert [step.at_s for step in done] == sorted(step.at_s for step in done)
    for index, event in enumerate(timeline):
        ends = [step.at_s for step in done if step.event == index and step.do == "end"]
        assert ends == sorted(end for _, end in occurrences(event) if end <= HORIZON_S)


@settings(deadline=None)
@given(timelines, halves)
def test_a_link_is_as_the_occurrences_in_force_imply(timeline: list[TimelineEvent], moment: float) -> None:
    """Carrying the steps out, each in its own name, leaves what those in force imply and nothing else."""
    state = LinkState(base=BASE)
    turns: dict[tuple[int, int], int] = {}
    starts: dict[tuple[int, int], Impairment] = {}
    for step in until(timeline, moment):
        event, key = timeline[step.event], (step.event, step.repeat)
        holder = f"{key}"
        if step.do == "begin":
            starts[key] = state.in_force
        turns[key] = step.turn
        match event:
            case _ if step.do == "end":
                state = without_overlay(holder)(without_holder(holder)(state))
                del turns[key]
            case BlackHole():
                state = with_holder(holder)(state)
            case Flap():
                state = (with_holder if flap_is_down(step.turn) else without_holder)(holder)(state)
            case Change():
                state = with_overlay(Overlay.of(holder, event.fields))(state)
            case Ramp() if step.do == "move":
                state = with_overlay(Overlay.of(holder, ramp_fields(event, starts[key], step.turn)))(state)
    now = active(timeline, moment)
    assert set(turns) == set(now)
    down = {key for key in now if isinstance(timeline[key[0]], BlackHole)}
    down |= {key for key in now if isinstance(timeline[key[0]], Flap) and flap_is_down(turns[key])}
    assert state.in_force.blocked == bool(down)
    changed = any(isinstance(timeline[index], Change) for index, _ in now)
    assert state.in_force.delay_us == (77_000 if changed else BASE.delay_us)
    ramped = [key for key in now if isinstance(timeline[key[0]], Ramp) and turns[key]]
    if not ramped:
        assert state.in_force.rate_bps == BASE.rate_bps
    for key in ramped:
        if turns[key] == ramp_turns(timeline[key[0]]):
            assert any(overlay.fields == {"rate_bps": 1_000_000} for overlay in state.overlays)


def test_a_ramp_goes_straight_and_arrives() -> None:
    ramp = Ramp(
        links=LINKS,
        over_s=1,
        step_s=0.25,
        fields={"rate_bps": 4_000_000, "loss": IndependentLoss(probability=0.4).model_dump(), "in_order": False},
    )
    assert ramp_turns(ramp) == 4
    way = [ramp_fields(ramp, BASE, turn) for turn in range(5)]
    assert [fields["rate_bps"] for fields in way] == [8_000_000, 7_000_000, 6_000_000, 5_000_000, 4_000_000]
    assert [round(fields["loss"].probability, 9) for fields in way] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert not any(fields["in_order"] for fields in way)


def test_a_ramp_whose_link_had_no_rate_takes_its_target_at_once() -> None:
    ramp = Ramp(links=LINKS, over_s=1, fields={"rate_bps": 4_000_000})
    assert ramp_fields(ramp, Impairment(), 1) == {"rate_bps": 4_000_000}


def test_a_flap_is_down_first_and_open_last() -> None:
    flap = Flap(links=LINKS, at_s=10, down_s=1, up_s=2, flaps=3)
    assert length_of(flap) == 7
    told = [(step.at_s, step.do, flap_is_down(step.turn)) for step in steps([flap])]
    assert told == [
        (10, "begin", True),
        (11, "move", False),
        (13, "move", True),
        (14, "move", False),
        (16, "move", True),
        (17, "end", True),
    ]


def test_undoing_comes_before_beginning_at_one_instant() -> None:
    outages = [Outage(site="east", at_s=5, duration_s=5), Outage(site="east", at_s=0, duration_s=5)]
    assert [(step.do, step.event) for step in steps(outages)] == [("begin", 1), ("end", 1), ("begin", 0), ("end", 0)]


def test_partitions_cut_between_groups_alone() -> None:
    topology = two_sites()
    both = Partition(groups=(("east",), ("west",)))
    assert set(links_touched(topology, both)) == {("east", "west"), ("west", "east")}
    assert links_touched(topology, both.model_copy(update={"one_way": True})) == (("east", "west"),)
    assert links_touched(topology, Partition(groups=(("east", "west"),))) == ()
