"""What the kernel counted on each site's line into the WAN core, at the site's end."""

from __future__ import annotations

from pathlib import Path

from harness.errors import NodeError
from harness.nodes.host_network import in_namespace
from harness.plan.addressing import WAN_INTERFACE, LabPlan

_SENT, _SENT_DROPPED = 9, 11


def sent_and_dropped(plan: LabPlan) -> dict[str, tuple[int, int]]:
    """Packets that each site sent into the core, and those that its interface dropped instead. Sites that are gone have
    none. Nothing is shaped there: whatever is dropped, the core had no room for."""
    found: dict[str, tuple[int, int]] = {}

    def read(site: str) -> None:
        for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
            name, _, numbers = line.partition(":")
            if name.strip() == WAN_INTERFACE:
                counts = numbers.split()
                found[site] = (int(counts[_SENT]), int(counts[_SENT_DROPPED]))

    for site in plan.sites:
        try:
            in_namespace(site.netns, lambda name=site.site: read(name))  # type: ignore[misc]
        except (NodeError, OSError):
            continue
    return found
