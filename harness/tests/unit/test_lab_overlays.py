"""Overlays and holds on one link: any interleaving leaves exactly what the remaining ones imply."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InputError
from harness.lab.links import (
    LinkBook,
    LinkState,
    LoggedChange,
    Overlay,
    with_base,
    with_holder,
    with_overlay,
    without_holder,
    without_overlay,
)
from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss
from harness.tests.lab_topologies import two_sites

LINK = ("east", "west")
BASE = Impairment(delay_us=5_000, rate_bps=1_000_000)

fields = st.fixed_dictionaries(
    {},
    optional={
        "delay_us": st.integers(0, 10**6),
        "rate_bps": st.none() | st.integers(1, 10**9),
        "loss": st.none()
        | st.builds(IndependentLoss, probability=st.floats(0, 1))
        | st.just(GilbertElliottLoss(good_to_bad=0.01, bad_to_good=0.3)),
        "blocked": st.booleans(),
    },
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("overlay"), st.sampled_from("abc"), fields),
        st.tuples(st.just("lift"), st.sampled_from("abc"), st.none()),
        st.tuples(st.just("hold"), st.sampled_from("abc"), st.none()),
        st.tuples(st.just("let go"), st.sampled_from("abc"), st.none()),
        st.tuples(st.just("base"), st.none(), st.builds(Impairment, delay_us=st.integers(0, 99))),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(steps)
def test_what_remains_decides(steps: list[tuple[str, str, dict[str, object] | Impairment]]) -> None:
    state = LinkState(base=BASE)
    base, laid, holders = BASE, {}, set()
    for what, holder, value in steps:
        match what:
            case "overlay":
                state = with_overlay(Overlay.of(holder, value))(state)
                laid[holder] = value
            case "lift":
                state = without_overlay(holder)(state)
                laid.pop(holder, None)
            case "hold":
                state = with_holder(holder)(state)
                holders.add(holder)
            case "let go":
                state = without_holder(holder)(state)
                holders.discard(holder)
            case "base":
                state, base = with_base(value)(state), value
    expected = base.model_dump()
    for value in laid.values():
        expected |= Impairment(**value).model_dump(include=set(value))
    if holders:
        expected["blocked"] = True
    assert state.in_force == Impairment.model_validate(expected)
    assert LinkState.model_validate_json(state.model_dump_json()) == state


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(InputError, match="warp"):
        Overlay.of("me", {"warp": 9})


def overlaid(delay_us: int, holder: str = "trace") -> LinkState:
    return with_overlay(Overlay.of(holder, {"delay_us": delay_us}))(LinkState(base=BASE))


def log(book: LinkBook, after: LinkState) -> None:
    with book.exclusive() as states:
        change = LoggedChange(source="east", destination="west", at_s=0, planned_s=None, reason="t",
                              before=states[LINK], after=after)  # fmt: skip
        book.append([change])


def play(book: LinkBook, after: LinkState) -> None:
    with book.exclusive():
        book.set_live({LINK: after})


@settings(deadline=None)  # it syncs files
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 99)), max_size=12))
def test_two_processes_agree_whatever_is_durable(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[bool, bool, int]]
) -> None:
    path = tmp_path_factory.mktemp("book") / "changes.jsonl"
    books = [LinkBook(two_sites(), path) for _ in range(2)]
    for by_second, durable, delay_us in changes:
        (log if durable else play)(books[by_second], overlaid(delay_us))
        third = LinkBook(two_sites(), path)
        assert books[0].state(LINK) == books[1].state(LINK) == third.state(LINK) == overlaid(delay_us)


def test_playing_leaves_the_log_alone_and_keeps_its_file_small(tmp_path: Path) -> None:
    path = tmp_path / "changes.jsonl"
    book = LinkBook(two_sites(), path)
    log(book, overlaid(1))
    size = path.stat().st_size
    for delay_us in range(1000, 1400):
        play(book, overlaid(delay_us))
    assert path.stat().st_size == size
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < size + 4096
    assert len(book.history()) == 1
