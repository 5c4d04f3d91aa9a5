"""What the WAN core of this machine carries: as it was measured here, else as it is assumed."""

from __future__ import annotations

from typing import Literal

from harness.plan.lint_finding import ASSUMED_CORES, Capacity


def capacity_of(wan: Literal["auto", "netns", "vm"]) -> Capacity:
    """The capacity of a core that is placed so; ``auto`` finds out where it would be placed."""
    placement = wan
    if placement == "auto":
        from harness.wan.placement import host_report

        placement = "vm" if host_report().netns_core else "netns"
    return ASSUMED_CORES[placement]
