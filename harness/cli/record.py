"""``longhaul record``: what an engineer does by hand becomes a timeline."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.lab_choice import JsonOption, LabOption, open_lab

if TYPE_CHECKING:
    from harness.lab.by_hand import Recording
    from harness.lab.lab import Lab

OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="The topology file to write.")
]


def register(app: typer.Typer) -> None:
    """Add the command and its two verbs."""
    group = typer.Typer(invoke_without_command=True, rich_markup_mode="rich")
    group.callback()(record)
    group.command("start")(start)
    group.command("stop")(stop)
    app.add_typer(group, name="record")


def record(
    context: typer.Context, output: OutputOption = None, lab: LabOption = None, as_json: JsonOption = False
) -> int:
    """Record what is done to a lab by hand, from any shell, as a topology file with a timeline that does it again.

    Changes of links (`link`), faults (`fault`) and their undoing (`heal`, `link --restore`) count; what the topology's
    own timeline does does not. With -o alone it records until Ctrl-C.

    Examples:

        longhaul record -o incident.yaml

        longhaul record start; longhaul fault pause tokyo --for 5s; longhaul record stop -o incident.yaml

        longhaul run faults -t incident.yaml
    """
    from rich.console import Console

    from harness.cli.output import require_writable
    from harness.errors import InputError
    from harness.lab.by_hand import Recording
    from harness.lab.signals import termination_as_interrupt

    if context.invoked_subcommand is not None:
        return 0
    if output is None:
        raise InputError("say where to: -o FILE", hint="Or begin with `longhaul record start`.")
    opened = open_lab(lab)
    try:
        require_writable(output)
        recording = Recording(since_s=time.monotonic())
        try:
            with Console(stderr=True).status("recording; Ctrl-C ends it"), termination_as_interrupt():
                while True:
                    time.sleep(3600)
        except KeyboardInterrupt:
            return _write(opened, recording, output, as_json)
    finally:
        opened.close()


def start(lab: LabOption = None) -> int:
    """Begin to record; `longhaul record stop -o FILE` ends it and writes."""
    from harness.lab.by_hand import start_recording

    opened = open_lab(lab)
    try:
        start_recording(opened)
        print(f"recording lab {opened.lab_id}")
    finally:
        opened.close()
    return 0


def stop(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The topology file to write.")],
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """End the recording, and write it."""
    from harness.cli.output import require_writable
    from harness.errors import InputError
    from harness.lab.by_hand import end_recording, recording_of

    opened = open_lab(lab)
    try:
        require_writable(output)
        recording = recording_of(opened)
        try:
            code = _write(opened, recording, output, as_json)
        except InputError:
            # No later attempt could write it either.
            end_recording(opened)
            raise
        end_recording(opened)
        return code
    finally:
        opened.close()


def _write(lab: Lab, recording: Recording, output: Path, as_json: bool) -> int:
    from harness.lab.by_hand import events_since, recorded_topology
    from harness.lab.fault_desk import FaultDesk

    events = events_since(lab, FaultDesk(lab, origin="command"), recording.since_s, time.monotonic())
    output.write_text(recorded_topology(lab, events))
    if as_json:
        told = [event.model_dump(mode="json") for event in events]
        print(json.dumps({"lab": lab.lab_id, "file": str(output), "timeline": told}, indent=2))
    else:
        print(f"{output}: {len(events)} events; try it with `longhaul up {output}` or `longhaul run -t {output}`")
    return 0
