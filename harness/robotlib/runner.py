"""Runs suites in this process on a session, and leaves Robot's own output, log and report."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robot.api import ResultWriter, TestSuite
from robot.errors import DataError

from harness.config.shipped import shipped_dir
from harness.errors import InputError, LabError
from harness.model.base import Value
from harness.model.run_record import TestRecord
from harness.robotlib.context import context
from harness.robotlib.listener import Progress, SessionListener
from harness.run.health import TrafficWatch
from harness.run.session import Session

SUITE_KINDS = ("smoke", "wan", "mobile", "faults")
INTERRUPTED = "Execution terminated by signal"


class SuiteOutcome(Value):
    """What running the suites came to. ``failures`` are those of suites' own setups and teardowns."""

    tests: tuple[TestRecord, ...]
    failures: tuple[str, ...]
    interrupted: bool
    lab_error: str | None


def find_suites(names: Sequence[str]) -> tuple[Path, ...]:
    """Paths of suites: each a file, a directory, or the name of a shipped suite; all shipped ones for none.

    Raises InputError that lists the shipped ones.
    """
    shipped = shipped_dir("suites")
    found = []
    for name in names or SUITE_KINDS:
        candidates = [Path(name), shipped / name, shipped / f"{name}.robot"]
        path = next((candidate for candidate in candidates if candidate.exists()), None)
        if path is None:
            raise InputError(f"no suite {name!r}", hint=f"a file, a directory, or one of {', '.join(SUITE_KINDS)}")
        found.append(path.resolve())
    return tuple(found)


def load_suites(paths: Sequence[Path], tags: Sequence[str]) -> TestSuite:
    """Parse the suites and keep the tests that have any of the tags (all for none).

    Part of a directory with an ``__init__.robot`` comes with what stands there. Raises InputError when a file is no
    valid suite or no test is left.
    """
    try:
        suite = TestSuite(name="Longhaul")
        for top, parts in _with_parents(paths).items():
            suite.suites.append(TestSuite.from_file_system(top, included_files=parts))
        if tags:
            known = {str(tag) for test in suite.all_tests for tag in test.tags}
            suite.filter(included_tags=list(tags))
            if not suite.test_count:
                raise InputError(
                    f"no test has any of the tags {', '.join(tags)}", hint=f"tags there: {', '.join(sorted(known))}"
                )
    except DataError as error:
        raise InputError(str(error)) from None
    suite.remove_empty_suites()
    if not suite.test_count:
        raise InputError("there is no test in these suites")
    return suite


def _with_parents(paths: Sequence[Path]) -> dict[Path, list[Path]]:
    """What to parse, and which parts of it alone (none: all). Setups, teardowns and timeouts that are declared for a
    whole directory belong to each of its parts, and Robot looks for them only below what it is told to parse."""
    found: dict[Path, list[Path]] = {}
    for path in paths:
        top = path
        while (top.parent / "__init__.robot").is_file():
            top = top.parent
        if top == path:
            found[top] = []
        elif found.get(top) != []:
            found.setdefault(top, []).append(path)
    return found


def _unnoticed(result: Any, listener: SessionListener) -> list[str]:
    """What Robot counts and the listener has no record of, since Robot goes on when a listener's method fails."""
    missed = result.suite.test_count - len(listener.tests)
    if missed:
        return [f"{missed} of {result.suite.test_count} tests left no record: see robot-console.txt"]
    failed = result.suite.statistics.failed
    if failed and not listener.suite_failures and all(record.status == "PASS" for record in listener.tests):
        return [f"Robot counts {failed} failed tests that were recorded as passed: see log.html"]
    return []


def run_suites(
    suite: TestSuite, session: Session, progress: Progress, traffic: TrafficWatch | None = None
) -> SuiteOutcome:
    """Run them; with ``traffic``, a test whose impairment touched nothing is INVALID.

    An interrupt (Ctrl-C, SIGTERM) ends the running test, runs its teardown and skips the rest.
    """
    listener = SessionListener(session, progress, traffic)
    context.begin(session)
    directory = session.directory
    # Robot writes errors of listeners and libraries to the streams that it is given; they belong beside its log.
    with (directory.root / "robot-console.txt").open("w", encoding="utf-8") as console:
        try:
            result = suite.run(
                output=str(directory.output_xml),
                listener=listener,
                console="none",
                stdout=console,
                stderr=console,
                randomize="none",
            )
        except SystemExit:
            # A second Ctrl-C: Robot leaves at once, with an exit code that says nothing.
            raise KeyboardInterrupt from None
        finally:
            context.end()
        with contextlib.redirect_stdout(console):
            ResultWriter(result).write_results(
                log=str(directory.log_html), report=str(directory.report_html), stdout=console, stderr=console
            )
    messages = [*(record.message for record in listener.tests), *listener.suite_failures]
    interrupted = any(INTERRUPTED in message for message in messages)
    error: LabError | None = context.lab_error
    return SuiteOutcome(
        tests=tuple(listener.tests),
        failures=(*listener.suite_failures, *_unnoticed(result, listener)),
        interrupted=interrupted,
        lab_error=None if error is None else error.message,
    )
