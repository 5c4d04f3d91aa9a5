"""Runs a topology's timeline against a lab, on a monotonic schedule, and heals what it did."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from harness.errors import FidelityError, InputError, LabError, LonghaulError, ShapingError
from harness.lab.fault_desk import FaultDesk, FaultListener, Healed, Software
from harness.lab.lab import Lab
from harness.model.timeline import TimelineEvent
from harness.plan.timeline import Step, role_of, steps

LEAD_S = 4.0
"""How long before a fault the system under test is asked where its processes are."""


class Injector:
    """Carries out the timeline's steps in a thread of its own, from ``start`` until ``stop``.

    Each change and fault carries its planned and its actual time; what is late is made at once, in order, and nothing
    is left out. ``on_fault``: see FaultListener. An error ends the timeline and is raised by ``stop``, after the
    healing.
    """

    ORIGIN = "timeline"

    def __init__(
        self,
        lab: Lab,
        *,
        timeline: Sequence[TimelineEvent] | None = None,
        software: Software | None = None,
        on_fault: FaultListener | None = None,
        origin: str = ORIGIN,
    ) -> None:
        self._lab = lab
        self._timeline = lab.topology.timeline if timeline is None else tuple(timeline)
        self._desk = FaultDesk(lab, origin=origin, software=software, on_fault=on_fault)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: LonghaulError | None = None
        self._begun: dict[tuple[int, int], str] = {}
        self.healed: tuple[Healed, ...] = ()
        """What the final healing undid, once ``stop`` has returned."""

    def start(self) -> None:
        """Begin the timeline now; a topology without one does nothing. Once for each injector. Raises LabError."""
        if self._thread is not None:
            raise RuntimeError("this injector has been started already")
        self._desk.prepare(self._timeline)
        begin_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(begin_s,), name="injector", daemon=True)
        self._thread.start()
        if any(role_of(event) is not None for event in self._timeline):
            threading.Thread(target=self._look_ahead, args=(begin_s,), name="injector's scout", daemon=True).start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until every step is made or one has failed; False when the time is up. A timeline that repeats without a
        count never ends."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def stop(self) -> None:
        """End the timeline, undo all of its faults that are in force, and verify. Idempotent.

        Raises what ended the timeline early, else LabError for a fault that is not undone, else ShapingError when the
        kernel's settings of a link are not those that must be in force.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        error, self._error = self._error, None
        if self._begun and self._lab.broken is None:
            error = self._heal(error)
        try:
            # Also what was only made ready.
            self._desk.close()
        except LonghaulError as failure:
            error = error or failure
        if error is not None:
            raise error

    def _heal(self, error: LonghaulError | None) -> LonghaulError | None:
        """The error to raise: the first one."""
        own = set(self._begun.values())
        self._begun.clear()
        try:
            self.healed = self._desk.heal([fault for fault in self._desk.in_force() if fault.id in own])
            # Also of those that ended in time.
            problems = [self._desk.problem(span.begin) for span in self._desk.spans() if span.begin.id in own]
            left = [healed.problem for healed in self.healed] + problems
            named = list(dict.fromkeys(problem for problem in left if problem is not None))
            if named:
                return error or LabError(f"not healed after the timeline: {'; '.join(named)}")
            self._desk.close()
            wrong = self._desk.wrong_links()
            if wrong:
                return error or ShapingError(f"not healed after the timeline: {', '.join(wrong)}")
        except LonghaulError as failure:
            return error or failure
        return error

    def _run(self, begin_s: float) -> None:
        try:
            for step in steps(self._timeline):
                if self._stop.wait(timeout=max(0.0, begin_s + step.at_s - time.monotonic())):
                    return
                self._carry_out(step, begin_s + step.at_s - self._lab.epoch_s)
        except InputError as error:
            self._error = FidelityError(f"the timeline could not go on: {error.message}", hint=error.hint)
        except LonghaulError as error:
            self._error = error
        except Exception as error:
            # A thread has no caller: ``stop`` raises what happens here, whatever it is.
            self._error = LabError(f"the timeline ended: {error!r}")

    def _look_ahead(self, begin_s: float) -> None:
        """Have the system under test say where its processes are shortly before a fault hits one."""
        for step in steps(self._timeline):
            event = self._timeline[step.event]
            if step.do != "begin" or role_of(event) is None:
                continue
            if self._stop.wait(timeout=max(0.0, begin_s + step.at_s - LEAD_S - time.monotonic())):
                return
            # When it does not answer now, the fault itself asks again and says so.
            with suppress(LonghaulError):
                self._desk.foresee(event)

    def _carry_out(self, step: Step, planned_s: float) -> None:
        key = step.event, step.repeat
        match step.do:
            case "begin":
                self._begun[key] = self._desk.begin(self._timeline[step.event], planned_s)
            case "move":
                self._desk.move(self._begun[key], step.turn, planned_s)
            case "end":
                self._desk.end(self._begun[key], planned_s)
