"""Follows Robot's execution: one record and one line for each test, with what the WAN did meanwhile."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from harness.errors import LonghaulError
from harness.model.run_record import TestRecord
from harness.robotlib.context import INVALID_PREFIX
from harness.run.health import TrafficWatch
from harness.run.session import Session

Status = Literal["PASS", "FAIL", "SKIP", "INVALID"]


_NOT_REACHED = ("Test execution stopped due to a fatal error", "Test execution terminated", "Execution terminated")
"""How Robot's messages begin for a test that an earlier stop kept from running."""


_PLACES = ("Parent suite setup failed:\n", "Setup failed:\n", "Teardown failed:\n")
"""What Robot puts before the message of a step outside of a test's own body."""


class Progress(Protocol):
    """Who is told how the tests go."""

    def test_began(self, suite: str, name: str) -> None:
        """A test runs now."""

    def test_ended(self, record: TestRecord) -> None:
        """It ended."""

    def suite_failed(self, suite: str, message: str) -> None:
        """A suite's own setup or teardown failed."""


class SessionListener:
    """A Robot listener (API version 3) that fills ``tests`` and ``suite_failures``."""

    ROBOT_LISTENER_API_VERSION = 3

    def __init__(self, session: Session, progress: Progress, traffic: TrafficWatch | None = None) -> None:
        self._session = session
        self._traffic = traffic
        self._progress = progress
        self._started_s = 0.0
        self._wan_mark = 0
        self.tests: list[TestRecord] = []
        self.suite_failures: list[str] = []

    def start_test(self, data: Any, result: Any) -> None:
        """Robot calls it before a test."""
        session = self._session
        self._started_s = session.recorder.now()
        self._wan_mark = len(session.wan.changes())
        try:
            session.begin_test()
            if self._traffic is not None:
                self._traffic.begin()
        except LonghaulError as error:
            # The test itself will meet the broken lab and say so.
            session.recorder.record("note", "counters not read", data={"error": error.message})
        session.recorder.record("note", "test began", data={"test": result.full_name})
        self._progress.test_began(_suite_name(result), result.name)

    def end_test(self, data: Any, result: Any) -> None:
        """Robot calls it after a test, its teardown included."""
        session = self._session
        if result.status == "PASS":
            self._refuse_vacuous(result)
        message = str(result.message)
        record = TestRecord(
            suite=_suite_name(result),
            name=result.name,
            documentation=result.doc,
            tags=tuple(str(tag) for tag in result.tags),
            status=_status(result.status, message),
            started_s=round(self._started_s, 3),
            elapsed_s=round(result.elapsed_time.total_seconds(), 3),
            message=message.removeprefix(INVALID_PREFIX),
            wan_changes=session.wan.changes(self._wan_mark),
            measurements=dict(session.measurements),
        )
        self.tests.append(record)
        session.recorder.record("note", "test ended", data={"test": result.full_name, "status": record.status})
        self._progress.test_ended(record)

    def _refuse_vacuous(self, result: Any) -> None:
        """A test that passed although what it asked of the WAN touched nothing is INVALID, in Robot's files too."""
        if self._traffic is None:
            return
        try:
            reason = self._traffic.reason(self._session.wan.changes(self._wan_mark))
        except LonghaulError as error:
            self._session.recorder.record("note", "counters not read", data={"error": error.message})
            return
        if reason:
            result.status, result.message = "FAIL", f"{INVALID_PREFIX}vacuous: {reason}"

    def end_suite(self, data: Any, result: Any) -> None:
        """Robot calls it after a suite; its teardown may have failed after all tests had passed."""
        for step in (result.setup, result.teardown):
            if step and step.failed:
                message = f"{result.full_name}: {step.name} failed: {step.message}"
                self.suite_failures.append(message)
                self._progress.suite_failed(result.full_name, str(step.message))


def _suite_name(result: Any) -> str:
    """``smoke.basics``: the suite's own path below the run's root, in small letters."""
    parts = str(result.parent.full_name).split(".")
    return ".".join(part.strip().lower().replace(" ", "-") for part in parts[1:] or parts)


def _status(status: str, message: str) -> Status:
    if status == "FAIL" and message.startswith(_NOT_REACHED):
        return "SKIP"
    cause = message
    for place in _PLACES:
        cause = cause.removeprefix(place)
    if status == "FAIL" and cause.startswith(INVALID_PREFIX):
        return "INVALID"
    return "PASS" if status == "PASS" else "SKIP" if status in ("SKIP", "NOT RUN") else "FAIL"
