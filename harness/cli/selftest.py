"""``longhaul selftest``: proof that the emulation is true on this machine, and in both placements."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.lab_choice import JsonOption

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from harness.selftest.guest import Event
    from harness.selftest.in_vm import GuestRecord

DEFAULT_TOPOLOGIES = "four-sites"
_DEADLINE_MIN = 60.0
_STYLES = {
    0: "[green]PASS[/green]",
    1: "[red]FAIL[/red]",
    3: "[bold red]BROKE[/bold red]",
    4: "[yellow]INVALID[/yellow]",
}

_FAILED = re.compile(r"^FAIL |::.* (FAILED|ERROR) +\[")
"""How Robot's and pytest's lines of a failed test look."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("selftest")(selftest)


def selftest(
    in_vm: Annotated[
        bool,
        typer.Option("--in-vm", help="Test the namespace placement in a guest that runs a stock Debian kernel."),
    ] = False,
    only: Annotated[
        str, typer.Option(help="With --in-vm: only these of contract, lab, certificate, smoke.", metavar="A,B")
    ] = "",
    topology: Annotated[
        list[str] | None,
        typer.Option("--topology", "-t", help="Topologies for the certificate; give it once for each."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The WAN's dice.", min=0)] = 1,
    out: Annotated[
        str | None, typer.Option(help="Directory for all results. Default: runs/selftest-<time>.", metavar="DIR")
    ] = None,
    deadline: Annotated[
        float, typer.Option(help="With --in-vm: end the guest after so many minutes.", metavar="MINUTES", min=1)
    ] = _DEADLINE_MIN,
    if_needed: Annotated[
        bool,
        typer.Option(
            "--if-needed", help="With --in-vm: do nothing where this host's own kernel runs the namespace placement."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Prove that the WAN is what it claims to be.

    --in-vm boots a guest with this machine's own file system, read-only, as its root and a stock Debian kernel, and
    runs in there, with the WAN core in a namespace of that kernel: the core's contract tests, the tests of labs and
    nodes, the certificate of a topology, and the smoke suite. What most users' machines do is so proven also where
    the kernel lacks netem. Without KVM the guest is emulated, on a clock of its own that the load of this machine
    cannot falsify; it takes two minutes for the contract, and a quarter of an hour for all.

    Exit codes: 0 all passed, 1 a test failed, 2 bad input, 3 the guest or a lab broke, 4 INVALID (a link was not as
    asked, or no test ran), 130 interrupted.

    Examples:

        longhaul selftest --in-vm

        longhaul selftest --in-vm --only contract --out /tmp/proof
    """
    from pathlib import Path

    from rich.console import Console

    from harness.errors import ExitCode
    from harness.lab.signals import termination_as_interrupt
    from harness.selftest.in_vm import test_in_guest
    from harness.selftest.parts import choose_parts
    from harness.wan.placement import host_report

    parts = choose_parts(only)
    console = Console(stderr=True)
    if if_needed and not host_report().netns_core:
        console.print("this kernel runs the namespace placement: the ordinary tests have tested it", highlight=False)
        return ExitCode.PASSED
    results = _new_directory() if out is None else Path(out)
    with termination_as_interrupt(), console.status("preparing the guest") as status:

        def say(step: str) -> None:
            status.update(step)
            if not console.is_terminal:
                console.print(step, style="dim", highlight=False)

        record = test_in_guest(
            parts,
            results,
            topologies=topology or [DEFAULT_TOPOLOGIES],
            seed=seed,
            deadline_s=deadline * 60,
            on_event=lambda event: _show(console, event, status.update),
            progress=say,
        )
    text = record.model_dump_json(indent=2)
    (results / "selftest.json").write_text(text)
    if as_json:
        print(json.dumps({"exit_code": int(record.exit_code), **json.loads(text)}, indent=2))
    else:
        _tell(Console(), record)
    return record.exit_code


def _show(console: Console, event: Event, update: object) -> None:
    from rich.markup import escape

    from harness.selftest.parts import TITLES, PartOutcome

    assert callable(update)
    match event["event"]:
        case "begin":
            update(f"{event['part']}: {TITLES[event['part']]}")
        case "line" if event["text"]:
            update(f"[dim]{event['part']}:[/dim] {escape(event['text'][:150])}")
            if _FAILED.search(event["text"]):
                console.print(f"{event['part']}: {escape(event['text'])}", highlight=False, soft_wrap=True)
        case "end":
            console.print(_line(PartOutcome.model_validate(event["outcome"])), highlight=False, soft_wrap=True)


def _line(outcome: object) -> str:
    from harness.selftest.parts import TITLES, PartOutcome

    assert isinstance(outcome, PartOutcome)
    tests = f", {outcome.tests} tests" if outcome.tests else ""
    failed = f", {outcome.failures} failed" if outcome.failures else ""
    skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
    reason = f": {outcome.reason}" if outcome.reason else ""
    return (
        f"{_STYLES[int(outcome.exit_code)]:7} {outcome.name:12}{TITLES[outcome.name]}"
        f"{tests}{failed}{skipped}, {outcome.seconds:.0f} s{reason}"
    )


def _tell(console: Console, record: GuestRecord) -> None:
    from rich.table import Table

    machine = "KVM" if record.accelerator == "kvm" else "emulated, on its own clock"
    console.print(f"namespace placement on Linux {record.kernel} ({machine})", highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 2))
    for heading in ("part", "verdict", "tests", "failed", "skipped", "seconds"):
        table.add_column(heading, header_style="dim", justify="left" if heading in ("part", "verdict") else "right")
    for one in record.parts:
        verdict = _STYLES[int(one.exit_code)] + (f" {one.reason}" if one.reason else "")
        counts = (str(one.tests or "-"), str(one.failures or "-"), str(one.skipped or "-"))
        table.add_row(one.name, verdict, *counts, f"{one.seconds:.0f}")
    console.print(table)
    console.print(f"results  {record.results}", style="dim", highlight=False, soft_wrap=True)


def _new_directory() -> Path:
    from datetime import datetime
    from itertools import count
    from pathlib import Path

    name = f"selftest-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    candidates = (Path("runs") / (name if number == 0 else f"{name}-{number}") for number in count())
    return next(path for path in candidates if not path.exists())
