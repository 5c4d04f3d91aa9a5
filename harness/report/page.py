"""What the HTML report shows, as text and figures ready to be laid out. ``view`` fills it, the template reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One number of the summary."""

    value: str
    label: str
    tone: str = ""


@dataclass(frozen=True)
class LinkRow:
    """One directed link, requested against measured."""

    name: str
    requested: str
    rtt_requested: str
    rtt_measured: str
    rtt_spread: str
    loss_requested: str
    loss_measured: str
    loss_interval: str
    probes: str
    rounds: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class CounterRow:
    """What the core counted on one directed link."""

    name: str
    packets: str
    size: str
    lost: str
    overflowed: str
    waiting: str


@dataclass(frozen=True)
class WanMoment:
    """Something that was done to the WAN."""

    at: str
    reason: str
    off_plan: str
    changes: tuple[str, ...]


@dataclass(frozen=True)
class TestView:
    """One test."""

    __test__ = False

    name: str
    status: str
    elapsed: str
    started: str
    tags: tuple[str, ...]
    documentation: str
    message: str
    wan: tuple[WanMoment, ...]
    measurements: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SuiteView:
    """The tests of one suite, in the order in which they ran."""

    name: str
    summary: str
    tests: tuple[TestView, ...]


@dataclass(frozen=True)
class FileLink:
    """A file in the run's directory, as a link that cannot leave it."""

    href: str
    name: str
    note: str


@dataclass(frozen=True)
class ReportView:
    """Everything that the page shows, in its order. ``picture`` and ``strip`` are SVG."""

    title: str
    verdict: str
    headline: str
    explanation: str
    reasons: tuple[str, ...]
    about: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    topology_name: str
    topology_description: str
    topology_source: str
    picture: str
    strip: str
    links: tuple[LinkRow, ...]
    counters: tuple[CounterRow, ...]
    suites: tuple[SuiteView, ...]
    environment: tuple[tuple[str, str], ...]
    command: str
    files: tuple[FileLink, ...]
    logs: tuple[tuple[str, tuple[FileLink, ...]], ...]
