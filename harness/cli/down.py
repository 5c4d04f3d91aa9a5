"""``longhaul down``: take labs down, whatever state they are in."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from harness.cli import complete
from harness.cli.lab_choice import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("down")(down)


def down(
    lab: Annotated[
        str | None,
        typer.Argument(
            metavar="LAB", help="Which lab; needed only while several are up.", autocompletion=complete.labs
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every lab, and the WAN cores that no lab uses.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Take a lab down: everything that it made goes, and nothing else.

    That is every namespace, interface, process, mount and file. It works from
    the lab's ledger, so also after a crash in the middle of `up` or `run`.
    Repeating it does no harm.

    Examples:

        longhaul down

        longhaul down desk

        longhaul down --all
    """
    from harness.errors import InputError, LabError, PrivilegeError
    from harness.lab.state import choose_lab, resolve_state_root
    from harness.lab.teardown import end_idle_cores, take_all_down, take_down

    if os.geteuid() != 0:
        raise PrivilegeError("taking labs down needs root", hint="Run it with sudo.")
    root = resolve_state_root()
    if everything and lab is not None:
        raise InputError("give a lab or --all, not both")
    if not everything:
        paths = choose_lab(root, lab)
        _tell({paths.lab_id: take_down(paths)}, 0, as_json)
        return 0

    seconds, errors = take_all_down(root)
    _tell(seconds, end_idle_cores(), as_json)
    if errors:
        raise LabError("; ".join(error.message for error in errors), hint=errors[0].hint)
    return 0


def _tell(seconds: dict[str, float], cores: int, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"down": {lab: round(taken, 3) for lab, taken in seconds.items()}, "warm_cores_ended": cores}))
        return
    for lab, taken in seconds.items():
        print(f"{lab} is down after {taken:.1f} s")
    if cores:
        print(f"{cores} idle WAN core{'s' if cores > 1 else ''} ended")
    if not seconds and not cores:
        print("nothing was up")
