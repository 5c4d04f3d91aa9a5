"""The report on disk: complete, self-contained, escaped, valid for the machines that read it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from harness.model.cross_traffic import FlowReport
from harness.model.health import HealthFinding, RunHealth
from harness.model.measurement import Certificate, LinkCertificate, Quantity
from harness.model.playback import Lateness, PlaybackReport
from harness.model.run_record import RunFault, RunRecord, TestRecord
from harness.model.timeline import Kill, Outage, Target
from harness.model.verdict import Verdict
from harness.report.junit import to_junit
from harness.report.run_json import from_json, run_schema, to_json
from harness.report.strip import all_changes, cuts, draw_strip, moments
from harness.report.view import report_view
from harness.report.write import to_html, write_report
from harness.tests.sample_record import sample_record

REPORT = Path(__file__).parents[2] / "report"
GOLDEN = Path(__file__).parents[1] / "golden" / "report"
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Every tag with its attributes, the visible text, and what was left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("verdict", Verdict)
def test_the_verdict_comes_first_in_plain_words(verdict: Verdict) -> None:
    view = report_view(sample_record(verdict))
    expected = {
        Verdict.PASS: "syncer passed all 13 tests.",
        Verdict.FAIL: "syncer failed 2 of 13 tests.",
        Verdict.INVALID: "This run says nothing about syncer.",
    }
    assert view.headline == expected[verdict]
    html = to_html(sample_record(verdict))
    assert html.index(view.headline) < html.index("requested against measured") < html.index("Environment")


@pytest.mark.parametrize("verdict", Verdict)
def test_the_page_needs_nothing_from_outside(verdict: Verdict) -> None:
    html = to_html(sample_record(verdict))
    page = Page(html)
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed"}
        assert "src" not in attributes
        assert (attributes.get("href") or "./").startswith("./")
    assert not re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", html)


def test_everything_that_a_release_manager_asks_for_is_there() -> None:
    text = Page(to_html(sample_record(Verdict.FAIL))).text
    for wanted in (
        "2 tests failed: Both sides write while Sydney is cut off",
        "So this is about syncer, not about the lab.",
        "virginia → ireland",
        "80.54 ms",
        "± 1.61 ms",
        "3 of 120 versions are gone at tokyo",
        "+5.0 s",
        "sites cut off",
        "1.41 Mbit/s",
        "314 (0.168%)",
        "a micro-VM, Linux 6.12.57+deb13-cloud-amd64",
        "cubic",
        "424242",
        "longhaul run suites/wan -t topologies/four-sites-mobile.yaml --seed 424242",
        "log.html",
        "history.jsonl",
        "logs/sydney/mover-udt.log",
    ):
        assert wanted in text, wanted


def test_failed_tests_are_unfolded_and_passed_ones_are_not() -> None:
    page = Page(to_html(sample_record(Verdict.FAIL)))
    tests = [attributes for tag, attributes in page.tags if tag == "details" and attributes.get("class") == "test"]
    assert len(tests) == 14
    assert sum("open" in attributes for attributes in tests) == 2


def test_nothing_of_the_input_becomes_markup() -> None:
    hostile = "<script>alert(1)</script>\"'&\x00\x1b"
    record = sample_record()
    topology = record.topology.model_copy(update={"name": hostile, "description": hostile, "source_note": hostile})
    record = record.model_copy(
        update={
            "topology": topology,
            "sut": hostile,
            "reasons": (hostile,),
            "tests": (
                TestRecord(
                    suite=hostile,
                    name=hostile,
                    tags=(hostile,),
                    status="FAIL",
                    started_s=0,
                    elapsed_s=1,
                    message=hostile,
                ),
            ),
            "environment": record.environment.model_copy(update={"command": hostile}),
            "artifacts": (f"logs/{hostile}", "javascript:alert(1)"),
        }
    )
    page = Page(to_html(record))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "./javascript%3Aalert%281%29" in {attributes.get("href") for tag, attributes in page.tags if tag == "a"}
    assert ElementTree.fromstring(to_junit(record)).get("failures") == "1"
    assert from_json(to_json(record)) == record


def test_artifacts_outside_the_directory_are_left_out(tmp_path: Path) -> None:
    record = sample_record().model_copy(update={"artifacts": ("../secret", "/etc/passwd", "a/../../b", "logs/a.log")})
    html = write_report(record, tmp_path).read_text()
    assert "secret" not in html and "passwd" not in html
    assert 'href="./logs/a.log"' in html
    assert 'href="./run.json"' in html


def test_the_directory_holds_all_of_them_and_nothing_partial(tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "one"
    index = write_report(sample_record(), directory)
    assert index == directory / "index.html"
    assert sorted(path.name for path in directory.iterdir()) == [
        "certificate.json",
        "index.html",
        "junit.xml",
        "run.json",
    ]


@pytest.mark.parametrize("verdict", Verdict)
def test_run_json_is_the_record_and_fits_its_shipped_schema(verdict: Verdict, tmp_path: Path) -> None:
    record = sample_record(verdict)
    write_report(record, tmp_path)
    text = (tmp_path / "run.json").read_text()
    assert from_json(text).model_copy(update={"artifacts": record.artifacts}) == record
    assert (REPORT / "run.schema.json").read_text() == run_schema()
    jsonschema.validate(json.loads(text), json.loads(run_schema()))


def test_run_json_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="schema_version"):
        from_json(to_json(sample_record()).replace('"schema_version": 1', '"schema_version": 2'))


@pytest.mark.parametrize("verdict", Verdict)
def test_junit_is_as_agreed(verdict: Verdict) -> None:
    """After a change that is meant: write ``to_junit`` of the sample records to the golden files and read the diff."""
    assert to_junit(sample_record(verdict)) == (GOLDEN / f"junit-{verdict.lower()}.xml").read_text()


@pytest.mark.parametrize(
    ("verdict", "failures", "errors"), [(Verdict.PASS, 0, 0), (Verdict.FAIL, 2, 0), (Verdict.INVALID, 0, 2)]
)
def test_junit_counts_invalid_as_error(verdict: Verdict, failures: int, errors: int) -> None:
    root = ElementTree.fromstring(to_junit(sample_record(verdict)))
    counts = {key: int(root.get(key, "-1")) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 15, "failures": failures, "errors": errors, "skipped": 1}
    assert len(list(root.iter("testcase"))) == counts["tests"]
    assert len(list(root.iter("error"))) == errors


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INVALID])
def test_junit_is_never_green_for_a_run_that_is_not(verdict: Verdict) -> None:
    record = sample_record().model_copy(
        update={"verdict": verdict, "reasons": ("the core died",), "tests": (), "certificate": None}
    )
    root = ElementTree.fromstring(to_junit(record))
    outcome = root.find(".//failure" if verdict is Verdict.FAIL else ".//error")
    assert outcome is not None and outcome.get("message") == "the core died"


def bare(record: RunRecord) -> RunRecord:
    return record.model_copy(update={"tests": (), "certificate": None, "counters": (), "artifacts": (), "workload": {}})


@pytest.mark.parametrize("verdict", Verdict)
def test_a_run_that_ended_early_has_a_report_too(verdict: Verdict) -> None:
    text = Page(to_html(bare(sample_record(verdict)))).text
    assert "nothing vouches for the WAN" in text
    assert "No test ran." in text


def test_a_link_without_an_answer_is_shown_as_such() -> None:
    silent = Quantity(
        name="rtt", unit="us", requested=1_000, tolerance=1_000, verdict=Verdict.INVALID, method="median",
        reason="no probe was echoed",
    )  # fmt: skip
    link = LinkCertificate(
        source="virginia", destination="tokyo", depth="quick", sent=50, quantities=(silent,), verdict=Verdict.INVALID,
        reason="RTT: no probe was echoed",
    )  # fmt: skip
    record = sample_record(Verdict.INVALID)
    assert record.certificate is not None
    certificate = record.certificate.model_copy(update={"links": (link,), "note": "1 of 12 links, as asked for"})
    view = report_view(record.model_copy(update={"certificate": certificate})).certificate
    assert view is not None and view.columns == ("RTT",)
    (row,) = view.links
    assert (row.cells[0].value, row.cells[0].tone, row.probes, row.delays) == ("nothing", "bad", "0 of 50", "")
    assert view.notes[0] == "1 of 12 links, as asked for"


def test_every_quantity_stands_in_the_report_with_its_interval_and_tolerance() -> None:
    record = sample_record()
    page = Page(to_html(record))
    assert "Full calibration before the tests, 41.2 s: 12 of 12 links as specified." in page.text
    assert sum(dict(attributes).get("class") == "delays" for tag, attributes in page.tags if tag == "svg") == 12
    view = report_view(record).certificate
    assert view is not None
    # Nothing was out of order, and nobody asked for it.
    assert "Out of order" not in view.columns
    rows = {row.name: row for row in view.links[0].quantities}
    assert rows["rate"].tolerance and rows["rate"].interval and rows["reordering"].verdict == "PASS"


def test_what_is_undecided_is_said_and_is_no_error() -> None:
    vague = Quantity(
        name="loss", unit="share", requested=0.001, measured=0.001, low=0.0, high=0.01, verdict=None, method="counted",
        reason="not precise enough", undecided=True,
    )  # fmt: skip
    link = LinkCertificate(
        source="virginia", destination="tokyo", depth="full", sent=900, quantities=(vague,), verdict=None,
    )  # fmt: skip
    record = sample_record()
    assert record.certificate is not None
    certificate = record.certificate.model_copy(update={"links": (link,)})
    record = record.model_copy(update={"certificate": certificate})
    view = report_view(record).certificate
    assert view is not None and view.summary.endswith(
        "0 of 1 links as specified; not measured precisely enough to decide: 1 of all quantities."
    )
    (row,) = view.links
    assert (row.verdict, row.reason, row.cells[0].tone) == ("UNDECIDED", "undecided: loss", "warn")
    assert row.quantities[0].verdict == "undecided"
    assert "virginia&gt;tokyo: undecided: loss" in to_junit(record)
    assert "<error" not in to_junit(record)


def test_the_certificate_lies_beside_the_page(tmp_path: Path) -> None:
    record = sample_record()
    write_report(record, tmp_path)
    assert Certificate.model_validate_json((tmp_path / "certificate.json").read_text()) == record.certificate
    write_report(bare(record), tmp_path / "bare")
    assert not (tmp_path / "bare" / "certificate.json").exists()


def test_faults_traces_and_cross_traffic_are_told_with_their_times() -> None:
    outage = RunFault(
        event=Outage(site="sydney", at_s=10, duration_s=20), subject="sydney", origin="timeline", planned_s=96.0,
        begun_s=96.0016, ended_s=116.0,
    )  # fmt: skip
    killed = RunFault(
        event=Kill(node="tokyo", target=Target(role="coordinator")), subject="coordinator at tokyo", origin="suite",
        planned_s=None, begun_s=250.0, ended_s=250.0,
    )  # fmt: skip
    playback = PlaybackReport(
        trace="lte-driving", holder="trace", links=("virginia>sydney",), began_s=5, ended_s=65, changes=1200,
        lateness=Lateness(p50_ms=0.41, p99_ms=2.5, max_ms=6.1), restored=True,
    )  # fmt: skip
    flow = FlowReport(
        source="virginia", destination="tokyo", pattern="tcp", port=1, seconds=60, offered_bps=9e6, sent_bps=9e6,
        received_bps=8.9e6, flows=4,
    )  # fmt: skip
    record = sample_record().model_copy(
        update={"faults": (killed, outage), "playbacks": (playback,), "cross_traffic": (flow,)}
    )
    view = report_view(record)
    first, second = view.faults
    assert (first.what, first.lasted, first.late) == ("outage", "20 s", "1.6 ms")
    assert first.tests == "A large file arrives over a lossy link"
    assert (second.what, second.lasted, second.late) == ("kill", "at once", "")
    assert view.playbacks[0].late == "0.41 ms, 99% 2.50 ms, at most 6.10 ms"
    assert view.playbacks[0].restored == "restored"
    cut = record.model_copy(update={"playbacks": (playback.model_copy(update={"taken_off": True}),)})
    assert "taken off by another process" in to_html(cut)
    assert view.flows[0].pattern == "tcp, 4 flows"
    text = Page(to_html(record)).text
    assert all(word in text for word in ("coordinator at tokyo", "lte-driving", "8.9 Mbit/s"))


def test_what_falsified_the_wan_is_named() -> None:
    finding = HealthFinding(
        severity="warning", subject="late timers", measured="99%: 12 ms", limit="5 ms", meaning="delays may be longer"
    )
    note = finding.model_copy(update={"severity": "note", "subject": "CPU steal"})
    record = sample_record().model_copy(update={"health": RunHealth(findings=(note, finding))})
    assert [row.subject for row in report_view(record).health] == ["late timers", "CPU steal"]
    assert "delays may be longer" in Page(to_html(record)).text


def test_changes_made_together_are_one_moment_and_a_cut_has_an_end() -> None:
    record = sample_record()
    changes = all_changes(record)
    assert len(changes) == 28
    assert [(moment.reason, len(moment.changes)) for moment in moments(changes)] == [
        ("set by the test", 2),
        ("healed at the end", 2),
        ("sites cut off", 6),
        ("end of: sites cut off", 6),
        ("timeline: outage of sydney", 6),
        ("end of: timeline: outage of sydney", 6),
    ]
    found = cuts(changes, record.elapsed_s)
    assert [(round(cut.end_s - cut.start_s, 3), len(cut.links)) for cut in found] == [(20.0, 6), (2.0, 6)]
    unhealed = cuts([change for change in changes if change.after.blocked], record.elapsed_s)
    assert {cut.end_s for cut in unhealed} == {record.elapsed_s}


def test_the_strip_shows_every_test_and_every_cut() -> None:
    root = ElementTree.fromstring(draw_strip(sample_record(Verdict.FAIL)))
    classes = [element.get("class") for element in root.iter() if element.get("class")]
    assert {name: classes.count(name) for name in ("PASS", "FAIL", "SKIP", "cut", "change")} == {
        "PASS": 11,
        "FAIL": 2,
        "SKIP": 1,
        "cut": 2,
        "change": 2,
    }


def test_a_strip_of_an_instant_can_be_drawn() -> None:
    test = TestRecord(suite="s", name="t", status="PASS", started_s=0, elapsed_s=0)
    ElementTree.fromstring(draw_strip(sample_record().model_copy(update={"tests": (test,), "elapsed_s": 0.0})))


@pytest.mark.parametrize(
    ("name", "value", "label", "text"),
    [
        ("goodput_bps", 1_412_000, "goodput", "1.41 Mbit/s"),
        ("tree goodput Mbit/s", 94.1, "tree goodput", "94.1 Mbit/s"),
        ("tree files/s", 412.6, "tree", "413 files/s"),
        ("convergence lag s", 0.25, "convergence lag", "250 ms"),
        ("file bytes", 104_857_600, "file", "105 MB"),
        ("tree files", 3_214, "tree files", "3,214"),
        ("s", 3, "s", "3"),
        ("tree", "/usr/lib/python3", "tree", "/usr/lib/python3"),
    ],
)
def test_the_last_word_of_a_measurement_may_be_its_unit(
    name: str, value: float | int | str, label: str, text: str
) -> None:
    test = TestRecord(suite="s", name="t", status="PASS", started_s=0, elapsed_s=1, measurements={name: value})
    (suite,) = report_view(sample_record().model_copy(update={"tests": (test,)})).suites
    assert suite.tests[0].measurements == ((label, text),)
