"""``longhaul fault``: break links and nodes of a live lab, and see what is in force."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Annotated

import typer

from harness.cli import fault_links, fault_nodes
from harness.cli.fault_making import ORIGIN, told
from harness.cli.lab_choice import JsonOption, LabOption, open_lab


def register(app: typer.Typer) -> None:
    """Add the command and its kinds."""
    group = typer.Typer(no_args_is_help=True, help=_HELP, rich_markup_mode="rich")
    own: dict[str, Callable[..., int]] = {"list": list_, "end": end}
    for name, command in (own | fault_links.COMMANDS | fault_nodes.COMMANDS).items():
        group.command(name)(command)
    app.add_typer(group, name="fault")


_HELP = """Break something while everything runs: links, processes, disks, clocks.

Each fault stands in the lab's journal before it is made, acts in its own name, and is undone by its --for, by
`longhaul fault end`, or by `longhaul heal`, from any shell. Ctrl-C during --for undoes it at once.

Examples:

    longhaul fault partition virginia,ireland tokyo,sydney --one-way

    longhaul fault kill tokyo --role coordinator

    longhaul fault ramp tokyo ireland --rate 1Mbit/s --over 30s

    longhaul fault list
"""


def list_(lab: LabOption = None, as_json: JsonOption = False) -> int:
    """Show the faults in force, and every link that is not as the topology says."""
    from harness.lab.fault_desk import FaultDesk
    from harness.model.impairment_text import describe
    from harness.model.timeline import subject_of

    opened = open_lab(lab)
    try:
        faults = FaultDesk(opened, origin=ORIGIN).in_force()
        links = {link: state for link, state in opened.link_states().items() if state != opened.initial_state(link)}
        if as_json:
            rows = [{"link": f"{a}>{b}", **state.model_dump(mode="json")} for (a, b), state in links.items()]
            rows_of_faults = [told(fault) for fault in faults]
            print(json.dumps({"lab": opened.lab_id, "faults": rows_of_faults, "links": rows}, indent=2))
            return 0
        for fault in faults:
            age = time.monotonic() - fault.at_s
            print(
                f"{fault.id:>5}  {fault.event.do:<12}  {subject_of(fault.event)}   for {age:.0f} s, by {fault.origin}"
            )
        for (source, destination), state in links.items():
            print(f"       link          {source}>{destination}: {describe(state.in_force)}")
        if not faults and not links:
            print("no fault is in force; every link is as the topology says")
    finally:
        opened.close()
    return 0


def end(
    fault: Annotated[list[str], typer.Argument(metavar="FAULT...", help="As `longhaul fault list` names them: f3.")],
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Undo some faults, and verify.

    Example: longhaul fault end f3
    """
    from harness.cli.heal import tell
    from harness.errors import InputError
    from harness.lab.fault_desk import FaultDesk

    opened = open_lab(lab)
    try:
        desk = FaultDesk(opened, origin=ORIGIN)
        there = {one.id: one for one in desk.in_force()}
        for name in fault:
            if name not in there:
                raise InputError(f"no fault {name} is in force", hint=f"In force: {', '.join(there) or 'none'}.")
        return tell(opened.lab_id, desk.heal([there[name] for name in fault]), as_json)
    finally:
        opened.close()
