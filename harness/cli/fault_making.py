"""One fault made from a command's words, and what is said of it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.lab_choice import open_lab

if TYPE_CHECKING:
    from harness.lab.fault_journal import FaultBegin
    from harness.lab.lab import Lab
    from harness.model.timeline import TimelineEvent

ORIGIN = "command"

ForOption = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="Undo it after this time (10s) and return then. Default: it stays."),
]


def make(keys: dict[str, Any], for_: str | None, lab_id: str | None, as_json: bool) -> int:
    """Carry out one event of a timeline, from its keys as in a topology file; the exit code. Raises InputError."""
    from harness.config.timeline_events import event_of_keys
    from harness.lab.by_hand import carry_out
    from harness.lab.fault_desk import FaultDesk
    from harness.lab.signals import termination_as_interrupt

    opened = open_lab(lab_id)
    try:
        event = event_of_keys(keys if for_ is None else {**keys, "for": for_}, opened.topology)
        desk = FaultDesk(opened, origin=ORIGIN)
        with termination_as_interrupt():
            fault_id = carry_out(desk, event, time.sleep)
        _tell(opened, desk, fault_id, event, as_json)
    finally:
        opened.close()
    return 0


def _tell(lab: Lab, desk: Any, fault_id: str, event: TimelineEvent, as_json: bool) -> None:
    from harness.model.timeline import subject_of

    span = next(span for span in desk.spans() if span.begin.id == fault_id)
    if as_json:
        print(json.dumps({"lab": lab.lab_id, **told(span.begin), "in_force": span.ended_s is None}, indent=2))
        return
    after = "in force until `longhaul heal`" if span.ended_s is None else "and undone"
    if event.do in ("kill", "nat-rebind"):
        after = "done"
    print(f"{fault_id}: {event.do} of {subject_of(event)}: {after}")


def told(fault: FaultBegin) -> dict[str, Any]:
    """A fault as JSON."""
    return {
        "id": fault.id,
        "fault": fault.event.do,
        "event": fault.event.model_dump(mode="json"),
        "begun_s": round(fault.at_s, 6),
        "by": fault.origin,
    }
