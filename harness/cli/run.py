"""``longhaul run``: lab up, suites, report, lab down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli import complete
from harness.cli.lab_choice import JsonOption
from harness.cli.lint_report import StrictOption, checked_topology

if TYPE_CHECKING:
    from pathlib import Path

    from harness.model.run_record import RunRecord
    from harness.model.topology import Topology

DEFAULT_TOPOLOGY = "four-sites"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    suites: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SUITE]...",
            help="Files, directories, or names of shipped suites (smoke, wan, mobile, faults). Default: all shipped.",
            show_default=False,
            autocompletion=complete.suites,
        ),
    ] = None,
    topology: Annotated[
        str,
        typer.Option(
            "--topology",
            "-t",
            help="A topology file, or the name of a shipped topology.",
            autocompletion=complete.topologies,
        ),
    ] = DEFAULT_TOPOLOGY,
    sut: Annotated[str, typer.Option(help="The system under test.")] = "syncer",
    sites: Annotated[int | None, typer.Option(help="Use only the first N sites of the topology.", metavar="N")] = None,
    tags: Annotated[
        str,
        typer.Option(help="Run only tests with one of these tags; suites/README.md lists them.", metavar="A,B"),
    ] = "",
    data: Annotated[
        str | None,
        typer.Option(help="A real directory to sync. Default: Python's standard library, bounded.", metavar="PATH"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Replays a run: the same operations, the same dice of the WAN.", min=0)
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Directory for all results. Default: runs/<time>.", metavar="DIR")
    ] = None,
    wan: Annotated[
        Literal["auto", "netns", "vm"],
        typer.Option(help="Where the WAN core runs: a namespace of this kernel, or a micro-VM. auto: what works here."),
    ] = "auto",
    calibrate: Annotated[
        Literal["quick", "full"],
        typer.Option(help="How the WAN is measured first. full, for sign-off: also each rate and buffer, in minutes."),
    ] = "quick",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab up, to look around in it.")] = False,
    lab: Annotated[
        str | None,
        typer.Option(
            help="Use this lab, which is up already, and leave it up; its links go back to its topology.", metavar="ID"
        ),
    ] = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> int:
    """Build a lab, measure its WAN, run Robot suites against real software on it, write a report, take the lab down.

    The report is index.html in the results directory; beside it lie Robot's log.html and report.html, run.json,
    junit.xml, the history of all that was done and seen, and every process's log.

    Exit codes: 0 all passed, 1 a test failed, 2 bad input, 3 the lab broke, 4 INVALID (the measured WAN is not the one
    that was asked for, so the suites were not run or say nothing), 130 interrupted.

    Examples:

        longhaul run

        longhaul run smoke --tags ci

        longhaul run wan faults -t four-sites-lossy --sites 3 --seed 7

        longhaul run smoke --data ~/photos --out /tmp/photos-run
    """
    import secrets
    from pathlib import Path

    from rich.console import Console

    from harness.cli.run_display import RunDisplay, print_summary
    from harness.config.shipped import find_topology
    from harness.errors import InputError
    from harness.lab.signals import termination_as_interrupt
    from harness.report.write import write_report
    from harness.robotlib.acceptance import RunRequest, execute
    from harness.robotlib.runner import find_suites, load_suites
    from harness.run.directory import RunDirectory
    from harness.run.real_data import require_files
    from harness.run.sites import first_sites
    from harness.run.workload import WorkloadOptions
    from harness.suts.registry import create_sut

    if lab is not None and (topology != DEFAULT_TOPOLOGY or wan != "auto"):
        raise InputError("--lab stands without --topology and --wan: that lab has its own", hint="longhaul status")
    if lab is None:
        model = checked_topology(find_topology(topology), wan, strict=strict, sites=sites)
    else:
        model = first_sites(_topology_of(lab), sites)
    if data is not None:
        require_files(Path(data))
    wanted = [tag.strip() for tag in tags.split(",") if tag.strip()]
    request = RunRequest(
        topology=model,
        suite=load_suites(find_suites(suites or ()), wanted),
        sut=create_sut(sut),
        seed=secrets.randbelow(2**31) if seed is None else seed,
        wan=wan,
        lab_id=lab,
        keep=keep,
        calibrate=calibrate,
        options=WorkloadOptions(data=data),
        directory=RunDirectory.create(_new_directory() if out is None else Path(out)),
    )
    with termination_as_interrupt(), RunDisplay(Console(stderr=True), request.suite.test_count) as display:
        record = execute(request, display, display.say)
        display.say("writing the report")
        write_report(record, request.directory.root)
    if as_json:
        print(_summary_json(record, request.directory.root))
    else:
        print_summary(Console(), record, request.directory.root)
    return record.exit_code


def _topology_of(lab_id: str) -> Topology:
    """What a lab that is up was built from."""
    from harness.cli.lab_choice import open_lab

    lab = open_lab(lab_id)
    lab.close()
    return lab.topology


def _new_directory() -> Path:
    """``runs/<local time>``, with a number when two runs begin in one second."""
    from datetime import datetime
    from itertools import count
    from pathlib import Path

    name = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    candidates = (Path("runs") / (name if number == 0 else f"{name}-{number}") for number in count())
    return next(path for path in candidates if not path.exists())


def _summary_json(record: RunRecord, directory: Path) -> str:
    import json

    return json.dumps(
        {
            "run_id": record.run_id,
            "verdict": record.verdict,
            "exit_code": record.exit_code,
            "reasons": record.reasons,
            "directory": str(directory),
            "report": str(directory / "index.html"),
            "seed": record.environment.seed,
            "elapsed_s": record.elapsed_s,
            "lab_up_s": record.lab_up_s,
            "lab_down_s": record.lab_down_s,
            "tests": [
                {
                    "suite": test.suite,
                    "name": test.name,
                    "status": test.status,
                    "elapsed_s": test.elapsed_s,
                    "measurements": test.measurements,
                }
                for test in record.tests
            ],
        },
        indent=2,
    )
