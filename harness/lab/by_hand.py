"""What an engineer does to a lab by hand: one event carried out while they wait, and the recording of it all."""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import ValidationError

from harness.config.written_keys import topology_text
from harness.errors import InputError
from harness.lab.fault_desk import FaultDesk
from harness.lab.lab import Lab
from harness.lab.state import write_durably
from harness.model.base import Value
from harness.model.timeline import Play, TimelineEvent
from harness.plan.recording import BaseChange, FaultDone, recorded_events
from harness.plan.timeline import steps

RECORDING = "recording.json"


class Recording(Value):
    """What is recorded began then, in seconds on the host's monotonic clock."""

    since_s: float


def carry_out(desk: FaultDesk, event: TimelineEvent, pause: Callable[[float], None]) -> str:
    """Begin an event, move it on and end it at its times; its id. An event without an end stays in force.

    ``pause`` waits for so many seconds. Whatever it raises ends the event.
    """
    begin_s = time.monotonic()
    fault_id: str | None = None
    try:
        for step in steps([event]):
            pause(max(0.0, begin_s + step.at_s - time.monotonic()))
            match step.do:
                case "begin":
                    fault_id = desk.begin(event)
                case "move" if fault_id is not None:
                    desk.move(fault_id, step.turn)
                case "end" if fault_id is not None:
                    desk.end(fault_id)
    except BaseException:
        if fault_id is not None:
            desk.end(fault_id)
        raise
    assert fault_id is not None
    return fault_id


def start_recording(lab: Lab) -> Recording:
    """Note that a recording begins now. Raises InputError when one is under way."""
    path = lab.state_dir / RECORDING
    if path.exists():
        raise InputError(
            f"lab {lab.lab_id} is being recorded already", hint="`longhaul record stop -o FILE` ends and writes it."
        )
    recording = Recording(since_s=time.monotonic())
    write_durably(path, recording.model_dump_json())
    return recording


def recording_of(lab: Lab) -> Recording:
    """The recording that is under way. Raises InputError when there is none."""
    try:
        return Recording.model_validate_json((lab.state_dir / RECORDING).read_bytes())
    except (FileNotFoundError, ValidationError):
        raise InputError(f"lab {lab.lab_id} is not being recorded", hint="`longhaul record start` begins it.") from None


def end_recording(lab: Lab) -> None:
    """No recording is under way any more."""
    (lab.state_dir / RECORDING).unlink(missing_ok=True)


def events_since(lab: Lab, desk: FaultDesk, since_s: float, until_s: float) -> tuple[TimelineEvent, ...]:
    """What was done to the lab's links and nodes between two times, by whichever process."""
    topology = {(link.source, link.destination): link.impairment for link in lab.topology.links}
    changes = [
        BaseChange(
            link=(change.source, change.destination),
            at_s=change.at_s,
            before=change.before.base,
            after=change.after.base,
        )
        for change in lab.changes()
        if change.before.base != change.after.base
    ]
    faults = [
        FaultDone(event=span.begin.event, begin_s=span.begin.at_s, end_s=span.ended_s)
        for span in desk.spans()
        if span.begin.origin != "timeline"
    ]
    return recorded_events(topology, changes, faults, since_s, until_s)


def recorded_topology(lab: Lab, events: tuple[TimelineEvent, ...]) -> str:
    """A topology file of the lab's sites, links and cross traffic, with these events, and without the timeline that it
    has now."""
    comment = f"Recorded from lab {lab.lab_id} ({lab.topology.name})."
    comment += "\nEach link stands here whole, its access lines worked in."
    sites = [event.links.site for event in events if isinstance(event, Play) and event.links.site is not None]
    if any(site.name in sites and site.access is not None for site in lab.topology.sites):
        comment += "\nA trace that took the place of a site's access line therefore stands in series with it here."
    return topology_text(lab.topology, events, comment)
