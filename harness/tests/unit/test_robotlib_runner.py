"""Finding, loading and dry-running suites, and the verdict of a run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ExitCode, FidelityError, InputError, LabError, SutError
from harness.model.measurement import LinkCertificate
from harness.model.run_record import TestRecord
from harness.model.verdict import Verdict
from harness.robotlib.acceptance import judge
from harness.robotlib.listener import SessionListener
from harness.robotlib.runner import SUITE_KINDS, SuiteOutcome, find_suites, load_suites, run_suites
from harness.run.directory import RunDirectory
from harness.run.recorder import Recorder


def test_every_shipped_test_is_well_formed() -> None:
    suite = load_suites(find_suites([]), [])
    result = suite.run(dryrun=True, console="none", output=None)
    assert {test.full_name: test.message for test in result.suite.all_tests if not test.passed} == {}
    assert not list(result.errors.messages)


def test_every_shipped_test_has_a_tag_of_the_dictionary() -> None:
    shipped = find_suites(["smoke"])[0].parent
    dictionary = {line.split("`")[1] for line in (shipped / "README.md").read_text().splitlines() if line[:3] == "| `"}
    for test in load_suites(find_suites([]), []).all_tests:
        tags = {str(tag) for tag in test.tags}
        assert tags
        assert tags <= dictionary, test.full_name


def test_no_names_mean_all_shipped_suites() -> None:
    assert [path.name for path in find_suites([])] == list(SUITE_KINDS)


def test_an_unknown_suite_is_answered_with_the_shipped_ones() -> None:
    with pytest.raises(InputError) as caught:
        find_suites(["smok"])
    assert "smoke" in (caught.value.hint or "")


def test_tags_select_and_an_unknown_one_is_answered_with_those_there() -> None:
    everything = load_suites(find_suites([]), []).test_count
    assert 0 < load_suites(find_suites([]), ["conflict", "partition"]).test_count < everything
    with pytest.raises(InputError) as caught:
        load_suites(find_suites(["mobile"]), ["smoke"])
    assert caught.value.hint == "tags there: mobile"


def test_a_part_of_a_suite_comes_with_what_is_declared_for_all_of_it() -> None:
    smoke = find_suites(["smoke"])[0]
    suite = load_suites([smoke / "conflicts.robot", smoke / "basics.robot"], [])
    (top,) = suite.suites
    assert top.setup.name == "Prepare Sites"
    assert [part.name for part in top.suites] == ["Basics", "Conflicts"]
    assert all(test.has_teardown for test in suite.all_tests)
    everything = load_suites([smoke], [])
    assert load_suites([smoke / "basics.robot", smoke], []).test_count == everything.test_count
    assert load_suites([smoke, smoke / "basics.robot"], []).test_count == everything.test_count
    names = {test.full_name for test in everything.all_tests}
    assert {test.full_name for test in suite.all_tests} < names


def test_a_file_that_is_no_suite_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "empty.robot"
    path.write_text("*** Test Cases ***\n")
    with pytest.raises(InputError):
        load_suites([path], [])


def test_keywords_outside_of_a_run_say_how_to_run_them(tmp_path: Path) -> None:
    path = tmp_path / "lonely.robot"
    path.write_text(
        "*** Settings ***\nLibrary    harness.robotlib.sync_library.SyncLibrary\n"
        "*** Test Cases ***\nLonely\n    Start System Under Test\n"
    )
    result = load_suites([path], []).run(console="none", output=None)
    (test,) = result.suite.all_tests
    assert "longhaul run" in test.message


def measured(verdict: Verdict, reason: str = "") -> LinkCertificate:
    return LinkCertificate(source="tokyo", destination="oregon", depth="quick", verdict=verdict, reason=reason)


def outcome(*statuses: Any, interrupted: bool = False, failures: tuple[str, ...] = ()) -> SuiteOutcome:
    tests = tuple(
        TestRecord(suite="smoke", name=f"T{number}", status=status, started_s=0, elapsed_s=0, message="why")
        for number, status in enumerate(statuses)
    )
    return SuiteOutcome(tests=tests, failures=failures, interrupted=interrupted, lab_error=None)


GOOD = (measured(Verdict.PASS),)


@pytest.mark.parametrize(
    ("links", "found", "error", "expected"),
    [
        (GOOD, outcome("PASS", "SKIP"), None, (Verdict.PASS, 0, ())),
        (GOOD, outcome("SKIP", "SKIP"), None, (Verdict.INVALID, 4, ("no test was carried out",))),
        (GOOD, None, None, (Verdict.INVALID, 4, ("no test was carried out",))),
        (GOOD, outcome("PASS", "FAIL"), None, (Verdict.FAIL, 1, ("smoke: T1",))),
        (GOOD, outcome("PASS", failures=("teardown",)), None, (Verdict.FAIL, 1, ("teardown",))),
        (GOOD, outcome("PASS"), SutError("stuck"), (Verdict.FAIL, 1, ("stuck",))),
        (GOOD, outcome("INVALID", "FAIL"), None, (Verdict.INVALID, 4, ("smoke: T0: why",))),
        (GOOD, outcome("PASS"), FidelityError("idle"), (Verdict.INVALID, 4, ("idle",))),
        ((measured(Verdict.INVALID, "RTT off"),), None, None, (Verdict.INVALID, 4, ("tokyo>oregon: RTT off",))),
        (GOOD, outcome("FAIL"), LabError("gone"), (Verdict.INVALID, 3, ("gone",))),
        (GOOD, outcome("FAIL", interrupted=True), LabError("gone"), (Verdict.INVALID, 130, ("interrupted", "gone"))),
    ],
)
def test_verdict_exit_code_and_reasons(links: Any, found: Any, error: Any, expected: Any) -> None:
    verdict, code, reasons = judge(links, found, error)
    assert (verdict, ExitCode(code), reasons) == expected


class Bystander:
    """Enough of a session for suites that use none of its words; and nobody who watches them."""

    def __init__(self, root: Path) -> None:
        self.directory = RunDirectory.create(root)
        self.recorder = Recorder(self.directory.history)
        self.wan = self
        self.measurements: dict[str, Any] = {}

    def changes(self, mark: int = 0) -> tuple[()]:
        return ()

    def begin_test(self) -> None:
        self.measurements = {}

    def test_began(self, suite: str, name: str) -> None:
        pass

    def test_ended(self, record: TestRecord) -> None:
        pass

    def suite_failed(self, suite: str, message: str) -> None:
        pass


def run_text(tmp_path: Path, text: str) -> SuiteOutcome:
    path = tmp_path / "some.robot"
    path.write_text(text)
    bystander: Any = Bystander(tmp_path / "results")
    with bystander.recorder:
        return run_suites(load_suites([path], []), bystander, bystander)


SIGNAL = f"    Evaluate    os.kill({os.getpid()}, {int(signal.SIGINT)})    modules=os\n"


def test_an_interrupt_in_a_suites_own_teardown_is_an_interrupt(tmp_path: Path) -> None:
    found = run_text(
        tmp_path,
        "*** Settings ***\nSuite Teardown    Interrupt\n*** Test Cases ***\nT\n    No Operation\n"
        "*** Keywords ***\nInterrupt\n" + SIGNAL,
    )
    assert found.interrupted


def test_a_second_interrupt_is_no_quiet_end(tmp_path: Path) -> None:
    """Robot answers it with an exit of the program, whose code would say that all went well."""
    with pytest.raises(KeyboardInterrupt):
        run_text(
            tmp_path, "*** Test Cases ***\nT\n" + SIGNAL + "    [Teardown]    Again\n*** Keywords ***\nAgain\n" + SIGNAL
        )


def test_a_failure_that_the_listener_missed_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("as when a measurement is no number")

    monkeypatch.setattr(SessionListener, "end_test", broken)
    found = run_text(tmp_path, "*** Test Cases ***\nT\n    Fail    the data is gone\n")
    assert judge(GOOD, found, None)[0] is Verdict.FAIL


@pytest.mark.parametrize("place", ["Setup", "Teardown"])
def test_what_is_invalid_outside_of_a_tests_body_is_invalid_too(tmp_path: Path, place: str) -> None:
    found = run_text(
        tmp_path, f"*** Test Cases ***\nT\n    [{place}]    Fail    INVALID: no such WAN\n    No Operation\n"
    )
    assert [test.status for test in found.tests] == ["INVALID"]
