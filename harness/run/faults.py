"""The faults of a run: made by suites or by the timeline, told in the history, and kept for the run's record."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.timeline_events import event_of_keys
from harness.errors import LabError
from harness.lab.fault_desk import FaultDesk
from harness.lab.fault_journal import FaultBegin
from harness.lab.injector import Injector
from harness.lab.lab import Lab
from harness.model.run_record import RunFault
from harness.model.timeline import INSTANTS, NodeEvent, Outage, TimelineEvent, subject_of
from harness.model.topology import Topology
from harness.run.recorder import Recorder
from harness.suts.port import Sut

ORIGIN = "suite"


class RunFaults:
    """Makes faults in a suite's name, and hears of the timeline's. Also the timeline's view of the system under test
    (harness.lab.fault_desk.Software)."""

    def __init__(self, lab: Lab, topology: Topology, recorder: Recorder, sut: Sut | None) -> None:
        self._lab = lab
        self._topology = topology
        self._recorder = recorder
        self._sut = sut
        self._desk = FaultDesk(lab, origin=ORIGIN, software=self, on_fault=self.note)
        self._lock = threading.Lock()
        self._told: dict[str, RunFault] = {}
        self._own: list[str] = []

    def roles(self, node: str) -> Mapping[int, str]:
        """See Software."""
        return {} if self._sut is None else {process.pid: process.role for process in self._sut.processes(node)}

    def start_again(self, node: str) -> None:
        """See Software."""
        if self._sut is not None and self._sut.revive(node):
            self._recorder.record("sut", "revived", site=node)

    def begin(self, event: TimelineEvent) -> str:
        """Make a fault now; its id. Raises InputError, LabError as FaultDesk.begin."""
        fault_id = self._desk.begin(event)
        if event.do not in INSTANTS:
            self._own.append(fault_id)
        return fault_id

    def begin_keys(self, **keys: Any) -> str:
        """As ``begin``, from the keys of a timeline, with values as in a topology file."""
        return self.begin(event_of_keys(keys, self._topology))

    def end(self, fault_id: str) -> None:
        """Undo a fault and verify it; nothing when it has ended. Raises LabError."""
        faults = [fault for fault in self._desk.in_force() if fault.id == fault_id]
        self._undo(faults)
        if fault_id in self._own:
            self._own.remove(fault_id)

    def end_all(self) -> None:
        """Undo every fault that suites have made, the latest first, and verify. Raises LabError for what stays."""
        own = set(self._own)
        self._own.clear()
        self._undo([fault for fault in self._desk.in_force() if fault.id in own])
        self._desk.close()

    def schedule(self, *events: TimelineEvent, on_fault: Any = None) -> Injector:
        """Carry events out at their times from now on, beside the test; the injector that does it, started."""

        def note(action: str, fault: FaultBegin, planned_s: float | None, actual_s: float) -> None:
            self.note(action, fault, planned_s, actual_s)
            if on_fault is not None:
                on_fault(action, fault, planned_s, actual_s)

        injector = Injector(self._lab, timeline=events, software=self, on_fault=note, origin=ORIGIN)
        injector.start()
        return injector

    def note(self, action: str, fault: FaultBegin, planned_s: float | None, actual_s: float) -> None:
        """Hear of a fault's begin or end (a FaultListener)."""
        event = fault.event
        site = event.node if isinstance(event, NodeEvent) else event.site if isinstance(event, Outage) else None
        with self._lock:
            if action == "begin":
                ended_s = actual_s if event.do in INSTANTS else None
                self._told[fault.id] = RunFault(
                    event=event,
                    subject=subject_of(event),
                    origin=fault.origin,
                    planned_s=planned_s,
                    begun_s=actual_s,
                    ended_s=ended_s,
                )
            elif fault.id in self._told:
                self._told[fault.id] = self._told[fault.id].model_copy(update={"ended_s": actual_s})
        self._recorder.record(
            "fault",
            event.do if action == "begin" else f"end of {event.do}",
            site=site,
            path=subject_of(event),
            at_s=actual_s,
            data={"id": fault.id, "planned_s": planned_s, "event": event.model_dump(mode="json")},
        )

    def told(self) -> tuple[RunFault, ...]:
        """Every fault of the run, the timeline's included, in the order of their begins."""
        with self._lock:
            return tuple(self._told.values())

    def _undo(self, faults: Sequence[FaultBegin]) -> None:
        left = [healed.problem for healed in self._desk.heal(faults) if healed.problem is not None]
        if left:
            raise LabError(f"not undone: {'; '.join(left)}", hint="`longhaul heal` tries again and says what is left.")
