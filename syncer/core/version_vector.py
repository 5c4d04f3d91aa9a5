"""Version vectors: which sites' changes a version has seen (Parker et al., 1983). Decisions use these, never clocks."""

from __future__ import annotations

from collections.abc import Mapping

Vector = tuple[tuple[str, int], ...]
"""Sorted (site, counter) pairs, counters above zero; the empty vector has seen nothing."""


def vector(counters: Mapping[str, int]) -> Vector:
    """The canonical form of a site-to-counter mapping."""
    return tuple(sorted((site, count) for site, count in counters.items() if count > 0))


def join(left: Vector, right: Vector) -> Vector:
    """The least vector that has seen all that either has seen."""
    merged = dict(left)
    for site, count in right:
        merged[site] = max(merged.get(site, 0), count)
    return vector(merged)


def advance(current: Vector, site: str) -> Vector:
    """``current`` after one more change at ``site``."""
    counters = dict(current)
    counters[site] = counters.get(site, 0) + 1
    return vector(counters)
