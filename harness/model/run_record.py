"""The record of one run: everything that the report shows, and the content of ``run.json`` (versioned)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.model.base import Value
from harness.model.cross_traffic import FlowReport
from harness.model.health import RunHealth
from harness.model.impairment import Impairment
from harness.model.measurement import Certificate, LinkCertificate, LinkCounters
from harness.model.playback import PlaybackReport
from harness.model.timeline import TimelineEvent
from harness.model.topology import Topology
from harness.model.verdict import Verdict

SCHEMA_VERSION: Literal[1] = 1


class WanChange(Value):
    """A link was changed during the run. Times in seconds since the run began; planned is None for a manual change."""

    source: str
    destination: str
    planned_s: float | None
    actual_s: float
    before: Impairment
    after: Impairment
    reason: str


class RunFault(Value):
    """Something that was broken during the run. Times in seconds since the run began; ``planned_s`` is None for what a
    suite made, ``ended_s`` for what was never undone."""

    event: TimelineEvent
    subject: str
    origin: str
    planned_s: float | None
    begun_s: float
    ended_s: float | None


class TestRecord(Value):
    """One Robot test. ``started_s`` is seconds since the run began."""

    __test__ = False

    suite: str
    name: str
    documentation: str = ""
    tags: tuple[str, ...] = ()
    status: Literal["PASS", "FAIL", "SKIP", "INVALID"]
    started_s: float
    elapsed_s: float
    message: str = ""
    wan_changes: tuple[WanChange, ...] = ()
    measurements: dict[str, float | int | str] = Field(default_factory=dict)


class Environment(Value):
    """What the run ran on."""

    host_kernel: str
    core_placement: Literal["netns", "vm"]
    core_kernel: str
    core_detail: str = ""
    cpu: str
    cpus: int
    memory_bytes: int
    python: str
    versions: dict[str, str]
    congestion_control: str
    seed: int
    command: str
    revision: str = ""


class RunRecord(Value):
    """Everything about one run. ``started_at`` and ``finished_at`` are ISO 8601 in UTC."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str
    lab_id: str
    sut: str
    verdict: Verdict
    exit_code: int
    reasons: tuple[str, ...] = ()
    started_at: str
    finished_at: str
    elapsed_s: float
    lab_up_s: float
    lab_down_s: float | None = None
    topology: Topology
    certificate: Certificate | None = None
    counters: tuple[LinkCounters, ...] = ()
    tests: tuple[TestRecord, ...] = ()
    environment: Environment
    health: RunHealth | None = None
    workload: dict[str, str | int | float] = Field(default_factory=dict)
    artifacts: tuple[str, ...] = ()
    changes: tuple[WanChange, ...] = ()
    faults: tuple[RunFault, ...] = ()
    playbacks: tuple[PlaybackReport, ...] = ()
    cross_traffic: tuple[FlowReport, ...] = ()

    @property
    def links(self) -> tuple[LinkCertificate, ...]:
        """The links that were measured before the tests."""
        return () if self.certificate is None else self.certificate.links
