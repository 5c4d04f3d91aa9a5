"""The linter's rules on what happens over time: events that overlap, fight, or never happen. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.model.topology import Outage, Topology
from harness.plan.lint_finding import LintFinding


def check_timeline(topology: Topology) -> Iterator[LintFinding]:
    """Entries of the timeline that get in one another's way."""
    names = set(topology.site_names)
    outages = [(index, entry) for index, entry in enumerate(topology.timeline) if isinstance(entry, Outage)]
    for index, outage in outages:
        if outage.site not in names:
            continue
        if outage.every_s is not None and outage.every_s <= outage.duration_s:
            yield LintFinding(
                severity="error",
                rule="outage-never-ends",
                subject=("timeline", index, "every"),
                reason=f"it lasts {outage.duration_s:g} s and begins again every {outage.every_s:g} s: "
                f"{outage.site} is never reached again",
                instead=f"every: {2 * outage.duration_s:g} s",
            )
    for place, (index, outage) in enumerate(outages):
        for earlier_index, earlier in outages[:place]:
            if earlier.site == outage.site and _meet(earlier, outage):
                yield LintFinding(
                    severity="warning",
                    rule="outages-overlap",
                    subject=("timeline", index, "at"),
                    reason=f"it overlaps entry {earlier_index + 1}, which cuts {outage.site} off as well: one longer "
                    "outage comes of the two",
                    instead="one outage, or times that do not meet",
                )


def _meet(first: Outage, second: Outage) -> bool:
    """Whether two outages are ever in force at the same time."""
    if first.every_s is None and second.every_s is None:
        return first.at_s < second.at_s + second.duration_s and second.at_s < first.at_s + first.duration_s
    if first.every_s is None or second.every_s is None:
        once, again = (first, second) if first.every_s is None else (second, first)
        assert again.every_s is not None
        if once.at_s + once.duration_s <= again.at_s:
            return False
        # Where the one outage begins within the period of the one that repeats.
        offset = (once.at_s - again.at_s) % again.every_s if once.at_s > again.at_s else 0.0
        return offset < again.duration_s or offset + once.duration_s > again.every_s
    # Two rhythms drift against one another in steps of their greatest common divisor.
    common_s = math.gcd(round(first.every_s * 1e6), round(second.every_s * 1e6)) / 1e6
    offset = (second.at_s - first.at_s) % common_s
    return offset < first.duration_s or offset + second.duration_s > common_s
