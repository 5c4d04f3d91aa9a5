"""What a topology asks of the core's kernel beyond the plain stages of a link. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from harness.model.impairment import Impairment
from harness.model.topology import Topology

CoreOption = Literal["codel", "fq_codel", "doubling"]
CORE_OPTIONS: tuple[CoreOption, ...] = ("codel", "fq_codel", "doubling")
"""Kinds of active queues (each in a tbf), and devices that send packets twice (ifb, cls_flower, act_mirred)."""


def core_needs(topology: Topology) -> frozenset[CoreOption]:
    """The options that the topology's links use as they stand in the file."""
    return needs_of(link.impairment for link in topology.links)


def needs_of(impairments: Iterable[Impairment]) -> frozenset[CoreOption]:
    """The options that these impairments use."""
    needs: set[CoreOption] = set()
    for impairment in impairments:
        if impairment.duplicate is not None:
            needs.add("doubling")
        if impairment.active_queue is not None:
            needs.add("codel" if impairment.active_queue.discipline == "codel" else "fq_codel")
    return frozenset(needs)
