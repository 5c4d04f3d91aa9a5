"""What is wrong with a topology although it can be built: settings that the kernel does not do as they read. Pure.

Every finding says why, and what to write instead. Three severities: an ``error`` is a setting that does something else
than it says, so nothing is built with it; a ``warning`` is most likely not what was meant (``--strict`` makes it an
error); a ``note`` tells what to expect. The rules stand in three modules by what they look at: one link
(``lint_link``), one site or load (``lint_site``), and time (``lint_time``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from harness.model.base import Value
from harness.model.impairment import Impairment
from harness.model.topology import Link, Topology
from harness.plan.lint_finding import ASSUMED_CORES, Capacity, LintFinding, Subject, link_subject
from harness.plan.lint_link import check_impairment, check_link
from harness.plan.lint_site import check_capacity, check_cross_traffic, check_sites
from harness.plan.lint_time import check_timeline

__all__ = ["ASSUMED_CORES", "Capacity", "LintFinding", "LintSummary", "Subject", "lint_profile", "lint_topology"]

_ORDER: dict[str, int] = {"error": 0, "warning": 1, "note": 2}


class LintSummary(Value):
    """How many findings of each severity there are."""

    errors: int = 0
    warnings: int = 0
    notes: int = 0

    @classmethod
    def of(cls, findings: Iterable[LintFinding]) -> LintSummary:
        """Count them."""
        severities = [finding.severity for finding in findings]
        return cls(
            errors=severities.count("error"), warnings=severities.count("warning"), notes=severities.count("note")
        )

    def refuses(self, *, strict: bool) -> bool:
        """Whether nothing may be built: an error, or with ``strict`` a warning."""
        return self.errors > 0 or (strict and self.warnings > 0)


def lint_topology(topology: Topology, capacity: Capacity | None = None) -> tuple[LintFinding, ...]:
    """Every finding of a topology on a core of this capacity, gravest first; without one, on any core."""
    findings: list[LintFinding] = []
    for link in topology.links:
        back = _opposite(topology, link)
        findings += check_link(link, back, topology.mtu, capacity)
    findings += check_sites(topology)
    findings += check_cross_traffic(topology)
    findings += check_timeline(topology)
    if capacity is not None:
        findings += check_capacity(topology, capacity)
    return _sorted(_together(findings))


def lint_profile(
    uplink: Impairment, downlink: Impairment, mtu: int = 1500
) -> tuple[tuple[Literal["uplink", "downlink"], LintFinding], ...]:
    """Findings of an access line by direction; its delay is taken for the whole path's."""
    round_trip_us = uplink.delay_us + downlink.delay_us
    both: tuple[tuple[Literal["uplink", "downlink"], Impairment], ...] = (("uplink", uplink), ("downlink", downlink))
    return tuple(
        (name, finding)
        for name, impairment in both
        for finding in check_impairment(impairment, (name,), mtu=mtu, round_trip_us=round_trip_us, capacity=None)
    )


def _opposite(topology: Topology, link: Link) -> Link:
    try:
        return topology.link(link.destination, link.source)
    except KeyError:
        return link


def _together(findings: Iterable[LintFinding]) -> Iterator[LintFinding]:
    """Both directions of a pair that say the same are one finding, of the first direction, for both."""
    seen: dict[tuple[object, ...], Subject] = {}
    for finding in findings:
        subject = finding.subject
        if subject[:1] == ("link",) and len(subject) == 4:
            _, source, destination, key = subject
            mirrored = (*link_subject(str(destination), str(source)), key)
            if seen.get((finding.rule, finding.reason, mirrored)) is not None:
                continue
        seen[finding.rule, finding.reason, subject] = subject
        yield finding


def _sorted(findings: Iterable[LintFinding]) -> tuple[LintFinding, ...]:
    return tuple(sorted(findings, key=lambda finding: _ORDER[finding.severity]))
