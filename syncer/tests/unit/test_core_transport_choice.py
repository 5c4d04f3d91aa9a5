"""Which transport carries a link: rules by example, and what holds whatever happens."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from syncer.core.transport_choice import AUTO, Rules, Sample, TransportChoice

BOTH = ("tcp", "udt")
MEGABIT = 125_000


class Link:
    """A choice, a clock, and sessions that come up as it wants; ``speed`` is in Mbit/s."""

    def __init__(self, *, rules: Rules | None = None, **speed: float) -> None:
        self.choice = TransportChoice(rules)
        self.choice.set_available(tuple(speed))
        self.speed = speed
        self.now = 1000.0
        self.current = ""
        self.changes: list[tuple[float, str]] = []
        self.follow()

    def follow(self) -> None:
        wanted = self.choice.wanted(self.now)
        if wanted != self.current:
            self.current = wanted
            self.changes.append((self.now, wanted))
            self.choice.came_up(wanted, self.now)

    def run(self, seconds: int, *, loaded: bool = True, direction: str = "there") -> None:
        for _ in range(seconds):
            self.now += 1
            sample = Sample(direction, 1.0, int(self.speed[self.current] * MEGABIT), loaded)
            self.choice.sample(self.current, self.now, sample)
            self.follow()


def test_the_preferred_transport_is_used_until_something_else_is_known() -> None:
    link = Link(tcp=100, udt=10)
    link.run(1000, loaded=False)
    assert link.changes == [(1000.0, "udt")]
    assert link.choice.reason == "preferred"


def test_a_transport_that_is_much_better_is_found_under_load_and_kept() -> None:
    link = Link(tcp=100, udt=10)
    link.run(120)
    assert link.current == "tcp"
    assert [transport for _, transport in link.changes] == ["udt", "tcp"]
    assert "100.0 Mbit/s" in link.choice.reason
    assert "10.0 Mbit/s" in link.choice.reason


def test_a_little_better_is_not_enough() -> None:
    link = Link(tcp=110, udt=100)
    link.run(120)
    assert [transport for _, transport in link.changes] == ["udt", "tcp", "udt"]


def test_the_better_one_is_found_again_when_the_link_changes() -> None:
    link = Link(tcp=100, udt=10)
    link.run(120)
    link.speed = {"tcp": 10, "udt": 100}
    link.run(2 * int(link.choice.rules.retrial_s))
    assert link.current == "udt"


def test_what_was_loaded_in_one_direction_is_not_compared_with_the_other() -> None:
    link = Link(tcp=1000, udt=100)
    link.run(25, direction="there")
    assert link.current == "tcp"
    link.run(30, direction="back")
    assert link.current == "udt"
    assert link.choice.reason == "preferred"


def test_nothing_is_tried_where_the_cap_is_reached() -> None:
    link = Link(tcp=100, udt=46)
    link.choice.cap_bps = 50_000_000
    link.run(300)
    assert link.changes == [(1000.0, "udt")]


def test_a_transport_that_does_not_come_up_is_left_and_tried_again() -> None:
    link = Link(tcp=100, udt=100)
    link.choice.failed("udt", link.now, timed_out=True, reason="no answer")
    link.follow()
    assert link.current == "tcp"
    assert "no answer" in link.choice.reason
    link.run(int(link.choice.rules.retry_s) + 1, loaded=False)
    assert link.current == "udt"
    link.choice.failed("udt", link.now, timed_out=True, reason="no answer")
    link.follow()
    link.run(int(link.choice.rules.retry_s) + 1, loaded=False)
    assert link.current == "tcp", "the second pause is longer"


def test_a_pinned_transport_that_does_not_come_up_is_not_left_but_told() -> None:
    link = Link(tcp=100, udt=100)
    link.choice.pin("udt")
    link.choice.failed("udt", link.now, timed_out=True, reason="no answer")
    link.follow()
    assert link.current == "udt"
    assert "no answer" in link.choice.reason


def test_one_that_comes_up_and_breaks_again_and_again_is_left_too() -> None:
    link = Link(tcp=100, udt=100)
    for _ in range(2):
        assert link.current == "udt"
        link.now += 2
        link.choice.ended("udt", link.now, lasted_s=2, broke=True, reason="silence")
        link.follow()
    assert link.current == "tcp"


def test_breaks_after_a_long_life_do_not_add_up() -> None:
    link = Link(tcp=100, udt=100)
    for _ in range(5):
        link.now += 300
        link.choice.ended("udt", link.now, lasted_s=300, broke=True, reason="silence")
        link.follow()
    assert link.current == "udt"


def test_a_trial_that_does_not_come_up_ends() -> None:
    link = Link(tcp=100, udt=100)
    link.run(24)
    assert link.choice.trial == "tcp"
    link.choice.failed("tcp", link.now, timed_out=True, reason="refused")
    link.follow()
    assert link.current == "udt"
    link.run(60)
    assert link.current == "udt"


def test_speed_tests_of_both_decide_at_once() -> None:
    link = Link(tcp=100, udt=10)
    for transport in ("udt", "tcp"):
        link.choice.force(transport, link.now)
        link.follow()
        assert link.current == transport
        link.run(10)
        found = Sample("there", 5.0, int(5 * link.speed[transport] * MEGABIT), True)
        link.choice.take_test(transport, link.now, found)
    link.choice.force("", link.now)
    link.follow()
    assert link.current == "tcp"
    link.run(300)
    assert link.current == "tcp"


def test_the_one_that_becomes_available_later_is_used_if_it_is_preferred() -> None:
    link = Link(tcp=100)
    assert link.current == "tcp"
    link.choice.set_available(BOTH)
    link.follow()
    assert link.current == "udt"


@given(
    st.floats(1, 1000),
    st.floats(1, 1000),
    st.lists(st.tuples(st.integers(1, 200), st.booleans(), st.sampled_from(("there", "back"))), max_size=40),
)
@settings(max_examples=150, deadline=None)
def test_measuring_alone_never_makes_it_flap(udt: float, tcp: float, phases: list[tuple[int, bool, str]]) -> None:
    """However load comes and goes: between the ends of two trials lies the pause."""
    link = Link(udt=udt, tcp=tcp)
    for seconds, loaded, direction in phases:
        link.run(seconds, loaded=loaded, direction=direction)
    rules = link.choice.rules
    # A trial makes two changes at most: to it, and back.
    for first, third in zip(link.changes[1:], link.changes[3:], strict=False):
        assert third[0] - first[0] >= rules.retrial_s


class AnythingHappens(RuleBasedStateMachine):
    """Any order of events, the times between them as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.rules = replace(Rules(), retrial_s=100.0)
        self.choice = TransportChoice(self.rules)
        self.available: set[str] = set(BOTH)
        self.choice.set_available(BOTH)
        self.now = 0.0
        self.forced = ""

    @rule(seconds=st.floats(0.1, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(transport=st.sampled_from(BOTH), timed_out=st.booleans())
    def fails(self, transport: str, timed_out: bool) -> None:
        self.choice.failed(transport, self.now, timed_out=timed_out, reason="r")

    @rule(transport=st.sampled_from(BOTH), lasted=st.floats(0, 100), broke=st.booleans())
    def ends(self, transport: str, lasted: float, broke: bool) -> None:
        self.choice.ended(transport, self.now, lasted_s=lasted, broke=broke, reason="r")

    @rule(transport=st.sampled_from(BOTH))
    def comes_up(self, transport: str) -> None:
        self.choice.came_up(transport, self.now)

    @rule(seconds=st.integers(1, 40), speed=st.integers(1, 1000), direction=st.sampled_from(("there", "back")))
    def is_loaded(self, seconds: int, speed: int, direction: str) -> None:
        for _ in range(seconds):
            self.now += 1
            wanted = self.choice.wanted(self.now)
            self.choice.sample(wanted or "udt", self.now, Sample(direction, 1.0, speed * MEGABIT, True))

    @rule(transport=st.sampled_from((AUTO, *BOTH)))
    def is_pinned(self, transport: str) -> None:
        self.choice.pin(transport)

    @rule(transport=st.sampled_from(("", *BOTH)))
    def is_forced(self, transport: str) -> None:
        self.forced = transport
        self.choice.force(transport, self.now)

    @rule(transports=st.sets(st.sampled_from(BOTH)))
    def becomes_available(self, transports: set[str]) -> None:
        self.available = transports
        self.choice.set_available(tuple(transports))

    @invariant()
    def only_what_is_available_is_wanted(self) -> None:
        assert self.choice.wanted(self.now) in {"", *self.available}
        assert self.choice.reason

    @invariant()
    def a_pin_wins(self) -> None:
        pinned = self.choice.pinned
        if pinned != AUTO and not self.forced:
            assert self.choice.wanted(self.now) == (pinned if pinned in self.available else "")

    @invariant()
    def something_is_wanted_while_anything_can_be(self) -> None:
        if self.available and self.choice.pinned == AUTO:
            assert self.choice.wanted(self.now)

    @invariant()
    def a_dead_transport_is_left_while_another_lives(self) -> None:
        dead = {transport for transport in self.available if self.choice.is_dead(transport, self.now)}
        if self.choice.pinned == AUTO and not self.forced and dead and dead != self.available:
            assert self.choice.wanted(self.now) not in dead

    @precondition(lambda self: self.choice.pinned == AUTO)
    @invariant()
    def asking_twice_changes_nothing(self) -> None:
        assert self.choice.wanted(self.now) == self.choice.wanted(self.now)


TestAnythingHappens = AnythingHappens.TestCase
