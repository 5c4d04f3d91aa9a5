"""What was done to the WAN and the nodes during a run, in the words and figures of the report. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.playback import PlaybackReport
from harness.model.run_record import RunFault, RunRecord
from harness.model.units import brief_duration, brief_rate
from harness.report.page import EventRow, FlowRow, PlaybackRow

_NEGLIGIBLE_S = 0.001


def fault_rows(record: RunRecord) -> Iterator[EventRow]:
    """Every fault, in order."""
    for fault in sorted(record.faults, key=lambda fault: fault.begun_s):
        yield EventRow(
            at=f"{fault.begun_s:.1f} s",
            what=fault.event.do.replace("-", " "),
            subject=fault.subject,
            lasted=_lasted(fault),
            late=_late(fault),
            origin=fault.origin,
            tests=_tests_during(record, fault),
        )


def _lasted(fault: RunFault) -> str:
    if fault.ended_s is None:
        return "never undone"
    seconds = fault.ended_s - fault.begun_s
    return brief_duration(seconds * 1e6) if seconds > _NEGLIGIBLE_S else "at once"


def _late(fault: RunFault) -> str:
    return "" if fault.planned_s is None else brief_duration(abs(fault.begun_s - fault.planned_s) * 1e6)


def _tests_during(record: RunRecord, fault: RunFault) -> str:
    end = record.elapsed_s if fault.ended_s is None else fault.ended_s
    names = [
        test.name
        for test in record.tests
        if test.status != "SKIP" and test.started_s <= end and fault.begun_s <= test.started_s + test.elapsed_s
    ]
    return ", ".join(names) or "none"


def playback_rows(record: RunRecord) -> Iterator[PlaybackRow]:
    """Every trace that was played."""
    for playback in record.playbacks:
        late = playback.lateness
        yield PlaybackRow(
            trace=playback.trace,
            links=", ".join(playback.links),
            lasted=brief_duration((playback.ended_s - playback.began_s) * 1e6),
            changes=f"{playback.changes:,}" + (f" ({playback.skipped:,} skipped)" if playback.skipped else ""),
            late=""
            if late is None
            else f"{late.p50_ms:.2f} ms, 99% {late.p99_ms:.2f} ms, at most {late.max_ms:.2f} ms",
            restored=_restored(playback),
        )


def _restored(playback: PlaybackReport) -> str:
    if playback.taken_off:
        return "taken off by another process"
    return "restored" if playback.restored else "not restored"


def flow_rows(record: RunRecord) -> Iterator[FlowRow]:
    """Every stream of cross traffic."""
    for flow in record.cross_traffic:
        yield FlowRow(
            name=f"{flow.source} → {flow.destination}",
            pattern=flow.pattern + (f", {flow.flows} flows" if flow.flows > 1 else ""),
            offered=brief_rate(flow.offered_bps),
            sent=brief_rate(flow.sent_bps),
            received=brief_rate(flow.received_bps),
            lasted=brief_duration(flow.seconds * 1e6),
            problem=flow.problem,
        )
