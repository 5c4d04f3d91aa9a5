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
class Cell:
    """One measured quantity of a link: the figure, its interval below, and a tone when it is wrong."""

    value: str
    interval: str = ""
    tone: str = ""


@dataclass(frozen=True)
class QuantityRow:
    """One quantity of one link with everything that stands behind its verdict."""

    name: str
    requested: str
    tolerance: str
    measured: str
    interval: str
    samples: str
    verdict: str
    method: str


@dataclass(frozen=True)
class LinkRow:
    """One directed link, requested against measured. ``cells`` stand below the columns; ``delays`` is SVG."""

    name: str
    requested: str
    cells: tuple[Cell, ...]
    delays: str
    probes: str
    rounds: str
    verdict: str
    reason: str
    quantities: tuple[QuantityRow, ...]


@dataclass(frozen=True)
class CertificateView:
    """The fidelity certificate. ``columns`` are the quantities that were looked at on any link."""

    summary: str
    notes: tuple[str, ...]
    columns: tuple[str, ...]
    links: tuple[LinkRow, ...]


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
class HealthRow:
    """Something about the host that may have falsified the run."""

    severity: str
    subject: str
    measured: str
    limit: str
    meaning: str


@dataclass(frozen=True)
class EventRow:
    """A fault: something that was broken on purpose."""

    at: str
    what: str
    subject: str
    lasted: str
    late: str
    origin: str
    tests: str


@dataclass(frozen=True)
class PlaybackRow:
    """A trace that links followed."""

    trace: str
    links: str
    lasted: str
    changes: str
    late: str
    restored: str


@dataclass(frozen=True)
class FlowRow:
    """A stream of cross traffic."""

    name: str
    pattern: str
    offered: str
    sent: str
    received: str
    lasted: str
    problem: str


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
    certificate: CertificateView | None
    counters: tuple[CounterRow, ...]
    faults: tuple[EventRow, ...]
    playbacks: tuple[PlaybackRow, ...]
    flows: tuple[FlowRow, ...]
    health: tuple[HealthRow, ...]
    host: tuple[tuple[str, str], ...]
    suites: tuple[SuiteView, ...]
    environment: tuple[tuple[str, str], ...]
    command: str
    files: tuple[FileLink, ...]
    logs: tuple[tuple[str, tuple[FileLink, ...]], ...]
