"""JUnit XML of a run, in the form that CI servers read: a failure is FAIL, an error is INVALID."""

from __future__ import annotations

from itertools import groupby
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from harness.model.impairment_text import describe_change
from harness.model.run_record import RunRecord, TestRecord
from harness.model.verdict import Verdict
from harness.report.markup import possible

_FIDELITY_SUITE = "longhaul"


def to_junit(record: RunRecord) -> str:
    """The XML's text. Besides the tests it has two cases of its own: that the WAN was as specified, and, when no test
    shows why the verdict is what it is, the run as a whole."""
    root = Element("testsuites", name=possible(f"{record.sut} on {record.topology.name}"))
    _add_suite(root, record, _FIDELITY_SUITE, [_fidelity(record), *_whole_run(record)])
    for suite, tests in groupby(record.tests, key=lambda test: test.suite):
        _add_suite(root, record, suite, [_case(test) for test in tests])
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    root.set("time", f"{record.elapsed_s:.3f}")
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text.decode() + "\n"


def _add_suite(root: Element, record: RunRecord, name: str, cases: list[Element]) -> None:
    suite = SubElement(
        root,
        "testsuite",
        name=possible(name),
        tests=str(len(cases)),
        failures=str(_count(cases, "failure")),
        errors=str(_count(cases, "error")),
        skipped=str(_count(cases, "skipped")),
        time=f"{sum(float(case.get('time', '0')) for case in cases):.3f}",
        timestamp=possible(record.started_at.split("+")[0].removesuffix("Z").split(".")[0]),
        hostname=possible(record.lab_id),
    )
    properties = SubElement(suite, "properties")
    for key, value in {
        "topology": record.topology.name,
        "seed": str(record.environment.seed),
        "wan-core": f"{record.environment.core_placement}, Linux {record.environment.core_kernel}",
        "verdict": record.verdict.value,
    }.items():
        SubElement(properties, "property", name=key, value=possible(value))
    suite.extend(cases)


def _count(cases: list[Element], kind: str) -> int:
    return sum(case.find(kind) is not None for case in cases)


def _case(test: TestRecord) -> Element:
    case = Element("testcase", classname=possible(test.suite), name=possible(test.name), time=f"{test.elapsed_s:.3f}")
    match test.status:
        case "FAIL":
            _outcome(case, "failure", test.message, "FAIL")
        case "INVALID":
            _outcome(case, "error", test.message, "INVALID")
        case "SKIP":
            SubElement(case, "skipped", message=possible(test.message))
        case "PASS":
            pass
    said = [f"tags: {', '.join(test.tags)}"] if test.tags else []
    said += [
        f"WAN at {change.actual_s:.3f} s: {change.source}>{change.destination}: "
        f"{describe_change(change.before, change.after)} ({change.reason})"
        for change in sorted(test.wan_changes, key=lambda change: change.actual_s)
    ]
    said += [f"{name}: {value}" for name, value in test.measurements.items()]
    if said:
        SubElement(case, "system-out").text = possible("\n".join(said))
    return case


def _fidelity(record: RunRecord) -> Element:
    case = Element("testcase", classname=_FIDELITY_SUITE, name="The WAN is as specified", time="0.000")
    wrong = [link for link in record.links if link.verdict is Verdict.INVALID]
    undecided = [f"{link.name}: undecided: {', '.join(link.undecided)}" for link in record.links if link.undecided]
    if wrong:
        reasons = [f"{link.source}>{link.destination}: {link.reason}" for link in wrong]
        _outcome(case, "error", "\n".join(reasons), "INVALID")
    elif not record.links:
        SubElement(case, "skipped", message="no link was measured")
    if undecided:
        SubElement(case, "system-out").text = possible("\n".join(undecided))
    return case


def _whole_run(record: RunRecord) -> list[Element]:
    """A run that is not PASS must not look green, even when no single test says why."""
    shown = {test.status for test in record.tests}
    shown |= {Verdict.INVALID.value for link in record.links if link.verdict is Verdict.INVALID}
    if record.verdict is Verdict.PASS or record.verdict.value in shown:
        return []
    case = Element("testcase", classname=_FIDELITY_SUITE, name="The run as a whole", time="0.000")
    kind = "failure" if record.verdict is Verdict.FAIL else "error"
    _outcome(case, kind, "\n".join(record.reasons) or f"the verdict is {record.verdict.value}", record.verdict.value)
    return [case]


def _outcome(case: Element, kind: str, message: str, label: str) -> None:
    first = message.splitlines()[0] if message else label
    SubElement(case, kind, message=possible(first), type=label).text = possible(message)
