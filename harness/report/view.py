"""A RunRecord in the words and figures of the HTML report. Pure; the template only lays out what stands here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from urllib.parse import quote

from harness.errors import ExitCode
from harness.model.health import RunHealth
from harness.model.impairment_text import describe_change
from harness.model.measurement import LinkCounters
from harness.model.run_record import Environment, RunRecord, TestRecord
from harness.model.units import brief_duration, brief_number, brief_rate, brief_share, brief_size
from harness.model.verdict import Verdict
from harness.report.certificate_view import certificate_view
from harness.report.events_view import fault_rows, flow_rows, playback_rows
from harness.report.page import CounterRow, Figure, FileLink, HealthRow, ReportView, SuiteView, TestView, WanMoment
from harness.report.picture import draw
from harness.report.strip import all_changes, draw_strip, moments

_ROBOT_FILES = {
    "log.html": "Robot log, keyword by keyword",
    "report.html": "Robot report",
    "output.xml": "Robot output",
}
_OWN_FILES = {
    "run.json": "everything in this report, for programs",
    "certificate.json": "each link, requested against measured",
    "junit.xml": "results for a CI server",
    "history.jsonl": "every operation and observation, in order",
}
_MOST_LINKS_NAMED = 12
_CAUSES = {
    int(ExitCode.BAD_INPUT): "It was called wrongly",
    int(ExitCode.LAB_BROKE): "The lab broke",
    int(ExitCode.INTERRUPTED): "It was interrupted",
}


def report_view(record: RunRecord) -> ReportView:
    """The page's content."""
    measurements = {(link.source, link.destination): link for link in record.links}
    files, logs = _files(record.artifacts)
    headline, explanation = _headline(record)
    return ReportView(
        title=f"{record.verdict.value}: {record.sut} on {record.topology.name}",
        verdict=record.verdict.value,
        headline=headline,
        explanation=explanation,
        reasons=record.reasons,
        about=_about(record),
        figures=tuple(_figures(record)),
        topology_name=record.topology.name,
        topology_description=record.topology.description,
        topology_source=record.topology.source_note,
        picture=draw(record.topology, measurements),
        strip=draw_strip(record) if record.tests else "",
        certificate=None if record.certificate is None else certificate_view(record.certificate, record.topology),
        counters=tuple(_counter_row(counters) for counters in record.counters),
        faults=tuple(fault_rows(record)),
        playbacks=tuple(playback_rows(record)),
        flows=tuple(flow_rows(record)),
        health=tuple(_health(record.health)),
        host=_host(record.health),
        suites=_suites(record.tests),
        environment=(*_environment(record.environment), *_workload_texts(record)),
        command=record.environment.command,
        files=files,
        logs=logs,
    )


def _headline(record: RunRecord) -> tuple[str, str]:
    count = Counter(test.status for test in record.tests)
    ran = len(record.tests) - count["SKIP"]
    skipped = f" {_tests(count['SKIP'])} skipped." if count["SKIP"] else ""
    measured_well = bool(record.links) and all(link.verdict is Verdict.PASS for link in record.links)
    wan = f"The WAN was measured before the tests, and all {len(record.links)} links were as specified."
    match record.verdict:
        case Verdict.PASS if ran == 0:
            return "No test ran, and nothing went wrong.", (wan if measured_well else "") + skipped
        case Verdict.PASS:
            return f"{record.sut} passed {_all_tests(ran)}.", (wan if measured_well else "") + skipped
        case Verdict.FAIL:
            failed = count["FAIL"]
            headline = f"{record.sut} failed {failed} of {ran} tests." if failed else f"{record.sut} failed."
            blame = f"{wan} So this is about {record.sut}, not about the lab." if measured_well else ""
            return headline, blame + skipped
        case Verdict.INVALID:
            cause = _CAUSES.get(record.exit_code, "The WAN or the lab was not as specified")
            advice = "so neither a pass nor a failure below counts. Mend what is named here and run again."
            return f"This run says nothing about {record.sut}.", f"{cause}, {advice}"


def _all_tests(count: int) -> str:
    return "its one test" if count == 1 else f"all {count} tests"


def _tests(count: int) -> str:
    return "One test was" if count == 1 else f"{count} tests were"


def _about(record: RunRecord) -> tuple[tuple[str, str], ...]:
    return (
        ("System under test", record.sut),
        ("WAN", f"{record.topology.name}, {len(record.topology.sites)} sites"),
        ("Began", _clock(record.started_at)),
        ("Took", _seconds(record.elapsed_s)),
        ("Run", record.run_id),
    )


def _clock(iso: str) -> str:
    try:
        return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return iso


def _figures(record: RunRecord) -> Iterable[Figure]:
    count: Counter[str] = Counter(test.status for test in record.tests)
    yield Figure(str(count["PASS"]), "tests passed", "good" if count["PASS"] else "")
    for status, label, tone in (("FAIL", "failed", "bad"), ("INVALID", "invalid", "warn"), ("SKIP", "skipped", "")):
        if count[status] or status == "FAIL":
            yield Figure(str(count[status]), label, tone if count[status] else "")
    if record.links:
        good = sum(link.verdict is Verdict.PASS for link in record.links)
        tone = "good" if good == len(record.links) else "warn"
        yield Figure(f"{good} of {len(record.links)}", "links as specified", tone)
    yield Figure(_seconds(record.lab_up_s), "lab up")
    if record.lab_down_s is not None:
        yield Figure(_seconds(record.lab_down_s), "lab down")
    if record.counters:
        carried = sum(counters.bytes for counters in record.counters)
        lost = sum(counters.dropped_loss for counters in record.counters)
        overflowed = sum(counters.dropped_queue for counters in record.counters)
        yield Figure(brief_size(carried), "carried by the WAN")
        yield Figure(_count(lost), "packets lost on lines")
        yield Figure(_count(overflowed), "packets lost to full buffers")
    changes = moments(all_changes(record))
    if changes:
        yield Figure(str(len(changes)), "changes of the WAN")
    for name, value in record.workload.items():
        if isinstance(value, str):
            continue
        yield Figure(_measurement(name, value), f"workload: {_label(name)}")


def _counter_row(counters: LinkCounters) -> CounterRow:
    offered = counters.packets + counters.dropped_loss + counters.dropped_queue
    return CounterRow(
        name=f"{counters.source} → {counters.destination}",
        packets=_count(counters.packets),
        size=brief_size(counters.bytes),
        lost=_with_share(counters.dropped_loss, offered),
        overflowed=_with_share(counters.dropped_queue, offered),
        waiting=_count(counters.backlog_packets),
    )


def _health(health: RunHealth | None) -> Iterable[HealthRow]:
    """What weighs most comes first."""
    if health is None:
        return
    order = ("invalid", "warning", "note")
    for finding in sorted(health.findings, key=lambda finding: order.index(finding.severity)):
        yield HealthRow(finding.severity, finding.subject, finding.measured, finding.limit, finding.meaning)


def _host(health: RunHealth | None) -> tuple[tuple[str, str], ...]:
    host = None if health is None else health.host
    if host is None:
        return ()
    rows = [
        ("CPU busy", brief_share(host.busy)),
        ("CPU taken by other machines", f"{brief_share(host.steal)} (worst second {brief_share(host.steal_worst)})"),
        ("Timers late", f"99% {brief_duration(host.late_p99_us)}, at most {brief_duration(host.late_max_us)}"),
        ("WAN core", f"{host.core_cpu:.2f} CPUs, saturated {brief_share(host.core_saturated)} of the time"),
    ]
    if host.pressure is not None:
        rows.append(("Waiting for a CPU", brief_share(host.pressure)))
    return tuple(rows)


def _with_share(part: int, whole: int) -> str:
    return f"{_count(part)} ({brief_share(part / whole)})" if part and whole else _count(part)


def _suites(tests: Sequence[TestRecord]) -> tuple[SuiteView, ...]:
    names = dict.fromkeys(test.suite for test in tests)
    suites = []
    for name in names:
        own = [test for test in tests if test.suite == name]
        count = Counter(test.status for test in own)
        summary = ", ".join(
            f"{count[status]} {status}" for status in ("FAIL", "INVALID", "PASS", "SKIP") if count[status]
        )
        elapsed = _seconds(sum(test.elapsed_s for test in own))
        suites.append(SuiteView(name, f"{summary} in {elapsed}", tuple(_test(test) for test in own)))
    return tuple(suites)


def _test(test: TestRecord) -> TestView:
    return TestView(
        name=test.name,
        status=test.status,
        elapsed=_seconds(test.elapsed_s),
        started=f"{test.started_s:.1f} s",
        tags=test.tags,
        documentation=test.documentation,
        message=test.message,
        wan=tuple(_wan_moments(test)),
        measurements=tuple((_label(name), _measurement(name, value)) for name, value in test.measurements.items()),
    )


def _wan_moments(test: TestRecord) -> Iterable[WanMoment]:
    """Relative to the test's beginning; links with one and the same change in one line."""
    for moment in moments(test.wan_changes):
        late = (
            "" if moment.planned_s is None else f"{brief_duration(abs(moment.at_s - moment.planned_s) * 1e6)} off plan"
        )
        links: dict[str, list[str]] = {}
        for change in moment.changes:
            links.setdefault(describe_change(change.before, change.after), []).append(
                f"{change.source} → {change.destination}"
            )
        at = f"{moment.at_s - test.started_s:+.1f} s"
        yield WanMoment(at, moment.reason, late, tuple(f"{what}: {_some(names)}" for what, names in links.items()))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_LINKS_NAMED} more" if len(names) > _MOST_LINKS_NAMED else ""
    return ", ".join(names[:_MOST_LINKS_NAMED]) + more


def _environment(environment: Environment) -> tuple[tuple[str, str], ...]:
    placement = {"netns": "a network namespace on this host", "vm": "a micro-VM"}[environment.core_placement]
    detail = f" ({environment.core_detail})" if environment.core_detail else ""
    rows = [
        ("WAN core", f"{placement}, Linux {environment.core_kernel}{detail}"),
        ("Host kernel", environment.host_kernel),
        ("Processor", f"{environment.cpu}, {environment.cpus} cores"),
        ("Memory", brief_size(environment.memory_bytes)),
        ("TCP congestion control", environment.congestion_control),
        ("Seed", str(environment.seed)),
        ("Python", environment.python),
    ]
    if environment.revision:
        rows.append(("Revision", environment.revision))
    rows += sorted(environment.versions.items())
    return tuple(rows)


def _workload_texts(record: RunRecord) -> Iterable[tuple[str, str]]:
    return ((f"Workload, {_label(name)}", value) for name, value in record.workload.items() if isinstance(value, str))


def _files(artifacts: Sequence[str]) -> tuple[tuple[FileLink, ...], tuple[tuple[str, tuple[FileLink, ...]], ...]]:
    """The files that a reader wants first, and the rest by directory."""
    first: list[FileLink] = []
    rest: dict[str, list[FileLink]] = {}
    known = {**_ROBOT_FILES, **_OWN_FILES}
    for path in dict.fromkeys(artifacts):
        folder, _, name = path.rpartition("/")
        # A leading ./ keeps a browser from taking a name with a colon for a scheme.
        link = FileLink(f"./{quote(path)}", path, known.get(name, ""))
        if link.note:
            first.append(link)
        else:
            rest.setdefault(folder or "here", []).append(link)
    order = list(known)
    first.sort(key=lambda link: order.index(link.name.rpartition("/")[2]))
    return tuple(first), tuple((folder, tuple(links)) for folder, links in sorted(rest.items()))


_UNITS: Mapping[str, Callable[[float], str]] = {
    "bytes": brief_size,
    "bps": brief_rate,
    "Mbit/s": lambda megabits: brief_rate(megabits * 1e6),
    "files/s": lambda files: f"{brief_number(files)} files/s",
    "us": brief_duration,
    "ms": lambda milliseconds: brief_duration(milliseconds * 1e3),
    "s": lambda seconds: brief_duration(seconds * 1e6),
    "share": brief_share,
}
_NAME_AND_UNIT = re.compile(f"(.+)[_ ]({'|'.join(map(re.escape, _UNITS))})")


def _label(name: str) -> str:
    match = _NAME_AND_UNIT.fullmatch(name)
    return (match[1] if match else name).replace("_", " ")


def _measurement(name: str, value: float | int | str) -> str:
    """``goodput_bps`` is a rate and ``lag s`` a duration: the last word of a name may be its unit."""
    if isinstance(value, str):
        return value
    match = _NAME_AND_UNIT.fullmatch(name)
    if match is not None:
        return _UNITS[match[2]](value)
    return _count(value) if isinstance(value, int) else brief_number(value)


def _count(number: int) -> str:
    return f"{number:,}"


def _seconds(seconds: float) -> str:
    if seconds == 0:
        return "0 s"
    if seconds < 120:
        return brief_duration(seconds * 1e6) if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
