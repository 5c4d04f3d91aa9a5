"""The book of links: layers that come apart, and one log for several processes."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from harness.lab.links import LinkBook, LinkState, LoggedChange, with_base, with_holder, without_holder
from harness.model.impairment import Impairment
from harness.tests.lab_topologies import two_sites

LINK = ("east", "west")


def log(book: LinkBook, after: LinkState) -> None:
    with book.exclusive() as states:
        change = LoggedChange(
            source="east", destination="west", at_s=0, planned_s=None, reason="test", before=states[LINK], after=after
        )
        book.append([change])


@given(
    st.lists(st.sampled_from("abc"), max_size=6).flatmap(lambda some: st.tuples(st.just(some), st.permutations(some)))
)
def test_holds_come_apart_in_any_order(orders: tuple[list[str], list[str]]) -> None:
    held, released = orders
    begin = LinkState(base=Impairment(delay_us=5))
    state = begin
    for holder in held:
        state = with_holder(holder)(state)
        assert state.in_force.blocked
    state = with_base(Impairment(delay_us=7))(state)
    for holder in released:
        state = without_holder(holder)(state)
    assert state == LinkState(base=Impairment(delay_us=7))


def test_a_hold_hides_the_base_and_keeps_it() -> None:
    state = with_holder("outage")(LinkState(base=Impairment(delay_us=5, rate_bps=8000)))
    assert state.in_force == Impairment(delay_us=5, rate_bps=8000, blocked=True)
    assert state.base == Impairment(delay_us=5, rate_bps=8000)


def test_two_books_of_one_log_stay_in_step(tmp_path: Path) -> None:
    one, other = (LinkBook(two_sites(), tmp_path / "changes.jsonl") for _ in range(2))
    assert one.states() == other.states() == one.initial
    log(one, LinkState(base=Impairment(delay_us=1)))
    assert other.states()[LINK] == LinkState(base=Impairment(delay_us=1))
    log(other, LinkState(base=Impairment(delay_us=2), holders=frozenset({"me"})))
    assert one.states() == other.states()
    assert [change.after.base.delay_us for change in one.history()] == [1, 2]


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "changes.jsonl"
    book = LinkBook(two_sites(), path)
    log(book, LinkState(base=Impairment(delay_us=1)))
    with path.open("ab") as stream:
        stream.write(b'{"source": "ea')
    log(book, LinkState(base=Impairment(delay_us=2)))
    for reader in (book, LinkBook(two_sites(), path)):
        assert reader.states()[LINK].base.delay_us == 2
