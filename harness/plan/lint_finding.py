"""What the linter says, and what it knows of the core that will carry a topology."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from harness.model.base import Value

Severity = Literal["error", "warning", "note"]
Subject = tuple[str | int, ...]
"""Which part of a file a finding is about: ``("link", source, destination, key)``, ``("site", name, key)``,
``("timeline", index, key)``, ``("cross_traffic", index, key)``, ``(key,)`` of the topology itself."""


class LintFinding(Value):
    """One thing that is not as it reads. ``instead`` is what to write; empty when there is nothing to change."""

    severity: Severity
    rule: str
    subject: Subject
    reason: str
    instead: str = ""

    @property
    def where(self) -> str:
        """The part in words: ``link a>b, loss``."""
        match self.subject:
            case ("link", source, destination, *rest):
                return ", ".join([f"link {source}>{destination}", *map(str, rest)])
            case ("site", name, *rest):
                return ", ".join([f"site {name}", *map(str, rest)])
            case (str() as part, int() as index, *rest):
                return ", ".join([f"{part.replace('_', ' ')} entry {index + 1}", *map(str, rest)])
        return ", ".join(map(str, self.subject))


class Capacity(Value):
    """What a core carries in all with full packets; ``forward_us`` is its own time for one packet, ``source``: where
    its figures are from."""

    placement: Literal["netns", "vm"]
    packets_per_s: float
    bits_per_s: float
    forward_us: int
    max_sites: int
    source: str


ASSUMED_CORES: Mapping[str, Capacity] = {
    "vm": Capacity(
        placement="vm",
        packets_per_s=90_000,
        bits_per_s=1_000_000_000,
        forward_us=999,
        max_sites=128,
        source="measured on an emulated core with offloads off, two quiet cores, Linux 6.12",
    ),
    "netns": Capacity(
        placement="netns",
        packets_per_s=400_000,
        bits_per_s=4_800_000_000,
        forward_us=30,
        max_sites=128,
        source="a cautious own estimate of veth forwarding with offloads off on one core",
    ),
}
"""Used until ``longhaul bench core`` has measured this machine."""


def link_subject(source: str, destination: str) -> Subject:
    """The subject of a directed link."""
    return ("link", source, destination)
