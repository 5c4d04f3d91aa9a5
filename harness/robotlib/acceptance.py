"""A whole run: lab up, measured, suites, counters, lab down, and the record of it all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from robot.api import TestSuite

from harness.errors import ExitCode, FidelityError, LabError, LonghaulError, NodeError
from harness.lab.fault_desk import FaultDesk
from harness.lab.injector import Injector
from harness.lab.lab import Lab
from harness.lab.scenery import Scenery, SceneryReport, packets_by_link
from harness.lab.signals import uninterrupted
from harness.model.health import RunHealth
from harness.model.measurement import Certificate, Depth, LinkCertificate, LinkCounters
from harness.model.run_record import Environment, RunFault, RunRecord, TestRecord, WanChange
from harness.model.topology import Topology
from harness.model.verdict import Verdict
from harness.robotlib.listener import Progress
from harness.robotlib.runner import SuiteOutcome, run_suites
from harness.run.directory import RunDirectory
from harness.run.environment import collect_environment
from harness.run.health import HostWatch, TrafficWatch
from harness.run.recorder import Recorder
from harness.run.session import Session
from harness.run.workload import WorkloadOptions
from harness.suts.port import Sut

Say = Callable[[str], None]


@dataclass(frozen=True)
class RunRequest:
    """What to run. ``lab_id`` names a lab that is up already: its links are set as in its topology, it is left up."""

    suite: TestSuite
    topology: Topology
    sut: Sut
    directory: RunDirectory
    seed: int
    wan: Literal["auto", "netns", "vm"] = "auto"
    lab_id: str | None = None
    keep: bool = False
    calibrate: Depth = "quick"
    options: WorkloadOptions = field(default_factory=WorkloadOptions)


@dataclass
class _Found:
    """What a run comes to, as it goes on."""

    certificate: Certificate | None = None
    counters: tuple[LinkCounters, ...] = ()
    outcome: SuiteOutcome | None = None
    environment: Environment | None = None
    workload: Mapping[str, str | int] = field(default_factory=dict)
    health: RunHealth | None = None
    changes: tuple[WanChange, ...] = ()
    faults: tuple[RunFault, ...] = ()
    scenery: SceneryReport = field(default_factory=SceneryReport)
    error: LonghaulError | None = None


def execute(request: RunRequest, progress: Progress, say: Say) -> RunRecord:
    """Run it. ``say`` hears what is being done. The lab goes down in any case but ``keep`` and ``lab_id``.

    Raises InputError for a topology that the system under test cannot work on, LabError and its kinds when the lab
    could not even be built. KeyboardInterrupt passes through when it comes outside of the suites; within them it ends
    them, and the record says so.
    """
    started_at = datetime.now(UTC)
    recorder = Recorder(request.directory.history)
    with recorder:
        try:
            request.sut.check(request.topology)
            lab = _open(request, say)
        except BaseException:
            request.directory.discard()
            raise
        found = _Found()
        down_s: float | None = None
        try:
            _on_lab(request, lab, recorder, progress, say, found)
        except LonghaulError as error:
            found.error = error
        finally:
            if request.lab_id is not None or request.keep:
                lab.close()
            else:
                say("taking the lab down")
                with uninterrupted():
                    down_s = _down(lab, say, found)
        if found.environment is None and found.error is not None:
            raise found.error
        return _record(request, lab, found, started_at, recorder.now(), down_s)


def _down(lab: Lab, say: Say, found: _Found) -> float | None:
    """Seconds; None when something is left, which must not hide what the tests found."""
    try:
        return lab.down()
    except LonghaulError as error:
        say(error.message)
        found.error = found.error or error
        return None


def _open(request: RunRequest, say: Say) -> Lab:
    if request.lab_id is not None:
        return Lab.open(request.lab_id)
    say("building the lab")
    return Lab.up(
        request.topology, wan=request.wan, seed=request.seed, progress=lambda step: say(f"building the lab: {step}")
    )


def _on_lab(request: RunRequest, lab: Lab, recorder: Recorder, progress: Progress, say: Say, found: _Found) -> None:
    found.environment = collect_environment(lab, request.seed, {})
    session = Session(
        topology=request.topology,
        lab=lab,
        sut=request.sut,
        recorder=recorder,
        directory=request.directory,
        seed=request.seed,
        options=request.options,
    )
    if request.lab_id is not None:
        # What is measured must be what the suites run on, and they restore the topology after every test.
        left = [healed.problem for healed in FaultDesk(lab, origin="run").heal_everything() if healed.problem]
        if left:
            raise LabError(f"lab {lab.lab_id} is not as its topology says: {'; '.join(left)}")
    say("measuring the WAN")
    found.certificate = _measured(request, lab, say)
    for link in found.certificate.links:
        recorder.record("note", "measured", path=link.name, data=link.model_dump(mode="json"))
    if found.certificate.verdict is Verdict.INVALID:
        return
    before = lab.counters()
    scenery = Scenery(lab, request.topology, seed=request.seed)
    scenery.start()
    host = HostWatch(lab, request.directory.host)
    host.start()
    injector = Injector(lab, timeline=request.topology.timeline, software=session.faults, on_fault=session.faults.note)
    injector.start()
    try:
        found.outcome = run_suites(
            request.suite, session, progress, TrafficWatch(lab, request.topology, scenery.sent_packets)
        )
        if found.outcome.lab_error is not None:
            found.error = LabError(found.outcome.lab_error)
    finally:
        with uninterrupted():
            say("collecting logs")
            found.health = host.finish()
            try:
                # First, since what the timeline broke may be in the way of the logs.
                injector.stop()
            finally:
                try:
                    found.scenery = _kept(scenery.stop(), request.directory)
                finally:
                    _finish(session, lab, found)
    found.counters = _of_run(request.topology, _grown(before, lab.counters()))
    cross = packets_by_link(found.scenery.flows)
    idle = [
        f"{link.source}>{link.destination}"
        for link in found.counters
        if link.packets <= cross.get((link.source, link.destination), 0)
    ]
    if idle and found.error is None and not found.outcome.interrupted and not _failed(found.outcome):
        found.error = FidelityError(f"no packet crossed {', '.join(idle)} while the suites ran")


def _kept(scenery: SceneryReport, directory: RunDirectory) -> SceneryReport:
    """The same, with the logs of what was played among the run's own files."""
    place = directory.logs / "playback"
    kept = []
    for playback in scenery.playbacks:
        place.mkdir(parents=True, exist_ok=True)
        copy = place / Path(playback.log).name
        shutil.copyfile(playback.log, copy)
        kept.append(playback.model_copy(update={"log": str(copy.relative_to(directory.root))}))
    return SceneryReport(tuple(kept), scenery.flows)


def _measured(request: RunRequest, lab: Lab, say: Say) -> Certificate:
    """The certificate of the run's links; a lab that was up already may have more of them."""
    wanted = {(link.source, link.destination) for link in request.topology.links}
    whole = wanted == {(link.source, link.destination) for link in lab.topology.links}
    return lab.measure(
        progress=lambda step: say(f"measuring the WAN: {step}"),
        calibrate=request.calibrate,
        links=None if whole else sorted(wanted),
    )


def _failed(outcome: SuiteOutcome) -> list[str]:
    """What the system under test did wrong."""
    return [f"{test.suite}: {test.name}" for test in outcome.tests if test.status == "FAIL"] + list(outcome.failures)


def _finish(session: Session, lab: Lab, found: _Found) -> None:
    """Stop what a suite left running and fetch every log; a broken lab must not hide what the tests found."""
    try:
        session.faults.end_all()
        session.stop_sut()
        found.environment = collect_environment(lab, session.seed, session.sut.versions())
        for site, node in session.nodes.items():
            place = session.directory.logs / site
            place.mkdir(parents=True, exist_ok=True)
            with suppress(NodeError):
                node.remote.get(f"{node.log_dir}/sshd.log", place / "sshd.log")
    except LonghaulError as error:
        found.error = found.error or error
    found.changes, found.faults = session.wan.changes(), session.faults.told()
    tree = session.real_tree
    found.workload = {
        "seed": session.seed,
        "files": session.options.files,
        "operations": session.options.operations,
        "large_file_bytes": session.options.large_file_bytes,
        **({} if tree is None else {"data": tree.source, "data_files": tree.files, "data_bytes": tree.bytes}),
    }
    session.directory.real_data.unlink(missing_ok=True)


def _of_run(topology: Topology, links: tuple[LinkCounters, ...]) -> tuple[LinkCounters, ...]:
    """Those among the run's sites; a lab that was up already may have more."""
    names = set(topology.site_names)
    return tuple(link for link in links if {link.source, link.destination} <= names)


def _grown(before: tuple[LinkCounters, ...], after: tuple[LinkCounters, ...]) -> tuple[LinkCounters, ...]:
    """What the counters gained, so that the probes' own packets do not count."""
    first = {(link.source, link.destination): link for link in before}
    grown = []
    for link in after:
        start = first[link.source, link.destination]
        gains = {
            name: getattr(link, name) - getattr(start, name)
            for name in ("packets", "bytes", "dropped_loss", "dropped_queue")
        }
        grown.append(link.model_copy(update=gains))
    return tuple(grown)


def _record(
    request: RunRequest,
    lab: Lab,
    found: _Found,
    started_at: datetime,
    elapsed_s: float,
    down_s: float | None,
) -> RunRecord:
    links = () if found.certificate is None else found.certificate.links
    verdict, exit_code, reasons = judge(links, found.outcome, found.error, found.health)
    assert found.environment is not None
    return RunRecord(
        run_id=request.directory.root.name,
        lab_id=lab.lab_id,
        sut=request.sut.name,
        verdict=verdict,
        exit_code=exit_code,
        reasons=reasons,
        started_at=started_at.isoformat(timespec="seconds"),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        elapsed_s=round(elapsed_s, 3),
        lab_up_s=round(lab.up_seconds, 3),
        lab_down_s=None if down_s is None else round(down_s, 3),
        topology=request.topology,
        certificate=found.certificate,
        counters=found.counters,
        tests=() if found.outcome is None else found.outcome.tests,
        environment=found.environment,
        health=found.health,
        workload=dict(found.workload),
        artifacts=request.directory.artifacts(),
        changes=found.changes,
        faults=found.faults,
        playbacks=found.scenery.playbacks,
        cross_traffic=found.scenery.flows,
    )


def judge(
    links: tuple[LinkCertificate, ...],
    outcome: SuiteOutcome | None,
    error: LonghaulError | None,
    health: RunHealth | None = None,
) -> tuple[Verdict, ExitCode, tuple[str, ...]]:
    """The run's verdict, its exit code and why. Pure. A lab that broke or a stop by the user leaves no verdict on the
    system under test, so both are INVALID, each with an exit code of its own."""
    reasons = [f"{link.source}>{link.destination}: {link.reason}" for link in links if link.verdict is Verdict.INVALID]
    tests: tuple[TestRecord, ...] = () if outcome is None else outcome.tests
    reasons += [f"{test.suite}: {test.name}: {test.message}" for test in tests if test.status == "INVALID"]
    reasons += [str(finding) for finding in health.findings if finding.severity == "invalid"] if health else []
    invalid = bool(reasons)
    failed = [] if outcome is None else _failed(outcome)
    if error is not None:
        reasons.insert(0, error.message)
    if outcome is not None and outcome.interrupted:
        return Verdict.INVALID, ExitCode.INTERRUPTED, ("interrupted", *reasons)
    if error is not None and error.exit_code is not ExitCode.TEST_FAILED:
        return Verdict.INVALID, error.exit_code, tuple(reasons)
    if invalid:
        return Verdict.INVALID, ExitCode.INVALID, tuple(reasons)
    if failed or error is not None:
        return Verdict.FAIL, ExitCode.TEST_FAILED, (*reasons, *failed)
    if not any(test.status == "PASS" for test in tests):
        return Verdict.INVALID, ExitCode.INVALID, ("no test was carried out",)
    return Verdict.PASS, ExitCode.PASSED, ()
