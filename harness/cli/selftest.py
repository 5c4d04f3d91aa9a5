"""``longhaul selftest``: proof that the emulation is true on this machine, and in both placements."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.lab_choice import JsonOption

if TYPE_CHECKING:
    from pathlib import Path

    from harness.cli.selftest_display import Display

_GRID_TOPOLOGIES = ("four-sites",)
_COMPARED_TOPOLOGIES = ("four-sites", "four-sites-mobile")
_DEADLINE_MIN = 120.0


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
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="With --in-vm: hold the guest's certificate against that of a micro-VM core here."
        ),
    ] = False,
    topology: Annotated[
        list[str] | None,
        typer.Option(
            "--topology",
            "-t",
            help="With --in-vm: a topology for the certificate; give it once for each.",
            show_default=False,
        ),
    ] = None,
    if_needed: Annotated[
        bool,
        typer.Option(
            "--if-needed", help="With --in-vm: do nothing where this host's own kernel runs the namespace placement."
        ),
    ] = False,
    deadline: Annotated[
        float, typer.Option(help="With --in-vm: end the guest after so many minutes.", metavar="MINUTES", min=1)
    ] = _DEADLINE_MIN,
    calibrate: Annotated[
        Literal["quick", "full"], typer.Option(help="How thoroughly links are measured; quick: no rate, no buffer.")
    ] = "full",
    wan: Annotated[Literal["auto", "netns", "vm"], typer.Option(help="Where the grid's WAN core runs.")] = "auto",
    seed: Annotated[int, typer.Option(help="The WAN's dice.", min=0)] = 1,
    out: Annotated[
        str | None, typer.Option(help="Directory for all results. Default: runs/selftest-<time>.", metavar="DIR")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Prove that the WAN is what it claims to be.

    Without --in-vm: measure a grid of conditions (RTT, jitter, loss, bursts, rate, buffer, order) on labs of this
    machine, and say how accurate it is: a table, grid.json, grid.csv, and plots.

    --in-vm boots a guest with this machine's own file system, read-only, as its root and a stock Debian kernel, and
    runs in there, with the WAN core in a namespace of that kernel: the core's contract tests, the tests of labs and
    nodes, the certificate of a topology, and the smoke suite. What most users' machines do is so proven also where
    the kernel lacks netem. Without KVM the guest is emulated, on a clock of its own that the load of this machine
    cannot falsify; it takes two minutes for the contract, and half an hour for all.

    Exit codes: 0 all passed, 1 a test failed, 2 bad input, 3 the guest or a lab broke, 4 INVALID (a link was not as
    asked, or no test ran), 130 interrupted.

    Examples:

        longhaul selftest

        longhaul selftest --in-vm --only contract --out /tmp/proof

        longhaul selftest --in-vm --compare
    """
    from pathlib import Path

    from harness.cli.output import make_directory
    from harness.cli.selftest_display import Display
    from harness.errors import ExitCode, InputError
    from harness.lab.signals import termination_as_interrupt
    from harness.wan.placement import host_report

    if not in_vm and (only or compare or topology or if_needed):
        raise InputError("--only, --compare, --topology and --if-needed go with --in-vm", hint="longhaul selftest -h")
    if only and compare:
        raise InputError("--compare is about the certificate: it stands without --only")
    if if_needed and not host_report().netns_core:
        print("this kernel runs the namespace placement itself: the ordinary tests have tested it")
        return ExitCode.PASSED
    results = _new_directory() if out is None else Path(out)
    make_directory(results)
    if any(results.iterdir()):
        raise InputError(f"{results} is not empty", hint="name a directory that is new")
    with termination_as_interrupt(), Display() as display:
        if not in_vm:
            return _grid(results, wan, seed, calibrate, display, as_json)
        topologies = topology or list(_COMPARED_TOPOLOGIES if compare else _GRID_TOPOLOGIES)
        return _guest(results, only, compare, topologies, seed, calibrate, deadline * 60, display, as_json)


def _grid(
    results: Path,
    wan: Literal["auto", "netns", "vm"],
    seed: int,
    depth: Literal["quick", "full"],
    display: Display,
    as_json: bool,
) -> int:
    from harness.errors import ExitCode
    from harness.model.verdict import Verdict
    from harness.plan.selftest_grid import grid
    from harness.report.selftest_plots import draw_grid
    from harness.selftest.grid import measure_grid, write_csv

    record = measure_grid(grid(), wan=wan, seed=seed, depth=depth, progress=display.say, advance=display.advance)
    display.say("drawing")
    text = record.model_dump_json(indent=2)
    (results / "grid.json").write_text(text + "\n")
    write_csv(record, results / "grid.csv")
    draw_grid(record.rows, results, f"{record.placement} core, Linux {record.kernel}; 99% intervals")
    display.end()
    if as_json:
        print(text)
    else:
        display.tell_grid(record, results)
    as_asked = all(row.verdict is not Verdict.INVALID for row in record.rows)
    return ExitCode.PASSED if as_asked else ExitCode.INVALID


def _guest(
    results: Path,
    only: str,
    compare: bool,
    topologies: list[str],
    seed: int,
    depth: Literal["quick", "full"],
    deadline_s: float,
    display: Display,
    as_json: bool,
) -> int:
    from harness.errors import ExitCode
    from harness.plan.agreement import agreement
    from harness.selftest.certificate import certify
    from harness.selftest.in_vm import run_in_guest
    from harness.selftest.parts import choose_parts

    here = certify(topologies, "vm", seed, depth, display.say) if compare else None
    record = run_in_guest(
        choose_parts("certificate" if compare else only),
        results,
        topologies=topologies,
        seed=seed,
        depth=depth,
        deadline_s=deadline_s,
        on_event=display.show,
        progress=display.say,
    )
    display.end()
    compared = {}
    if here is not None and record.certificates is not None:
        there = {lab.topology: lab.certificate for lab in record.certificates.labs}
        compared = {lab.topology: agreement(lab.certificate, there[lab.topology]) for lab in here.labs}
    document = {"exit_code": int(record.exit_code), **record.model_dump(mode="json")}
    if here is not None:
        document["host"] = here.model_dump(mode="json")
        document["agreement"] = {
            name: [{**one.model_dump(mode="json"), "overlap": one.overlap, "agree": one.agree} for one in found]
            for name, found in compared.items()
        }
    text = json.dumps(document, indent=2)
    (results / "selftest.json").write_text(text + "\n")
    if as_json:
        print(text)
    else:
        display.tell_guest(record)
        for name, found in compared.items():
            display.tell_agreement(name, found)
    if record.exit_code is ExitCode.PASSED and not all(one.agree for found in compared.values() for one in found):
        return ExitCode.INVALID
    return record.exit_code


def _new_directory() -> Path:
    from datetime import datetime
    from itertools import count
    from pathlib import Path

    name = f"selftest-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    candidates = (Path("runs") / (name if number == 0 else f"{name}-{number}") for number in count())
    return next(path for path in candidates if not path.exists())
