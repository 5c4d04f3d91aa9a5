"""What a timeline's event happens to, in words."""

from __future__ import annotations

import pytest

from harness.model.timeline import BlackHole, LinkChoice, subject_of


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ((("a", "b"),), "a>b"),
        ((("a", "b"), ("b", "a")), "a>b, b>a"),
        ((("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")), "links of a"),
        ((("a", "b"), ("a", "c"), ("c", "a")), "a>b, a>c, c>a"),
        ((("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")), "a>b, b>a, c>d, d>c"),
    ],
)
def test_links_both_ways_of_one_site_are_told_by_the_site(pairs: tuple[tuple[str, str], ...], words: str) -> None:
    assert subject_of(BlackHole(links=LinkChoice(pairs=pairs), duration_s=1)) == words
