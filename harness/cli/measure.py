"""``longhaul measure``: probe every link and hold it against what was asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.lab_choice import JsonOption, LabOption, open_lab

if TYPE_CHECKING:
    from harness.model.measurement import LinkMeasurement


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("measure")(measure)


def measure(
    rounds: Annotated[int | None, typer.Option(min=1, help="Probe at most so many times before the verdict.")] = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Measure RTT and loss between every pair of sites, and judge them.

    They are held against what is in force now. Exit code 4 when a link is not
    as it should be: RTT off by more than max(1 ms, 2%), or the loss asked for
    outside the 99% confidence interval of the measured one.

    Examples:

        longhaul measure

        longhaul measure --json | jq '.links[] | select(.verdict != "PASS")'
    """
    from rich.console import Console

    from harness.errors import ExitCode
    from harness.model.verdict import Verdict

    opened = open_lab(lab)
    try:
        with Console(stderr=True).status("probing the links") as status:
            links = opened.measure(progress=status.update, rounds=rounds)
    finally:
        opened.close()
    if as_json:
        print(json.dumps({"lab": opened.lab_id, "links": [one.model_dump(mode="json") for one in links]}, indent=2))
    else:
        _tell(links)
    valid = all(one.verdict is Verdict.PASS for one in links)
    return ExitCode.PASSED if valid else ExitCode.INVALID


def _tell(links: tuple[LinkMeasurement, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    from harness.model.units import brief_duration, brief_share
    from harness.model.verdict import Verdict

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("link", "RTT asked", "measured", "loss asked", "measured, 99%", "verdict"):
        table.add_column(heading, header_style="dim", no_wrap=heading != "verdict")
    for one in links:
        rtt = "-" if one.rtt_measured_us is None else brief_duration(one.rtt_measured_us)
        loss = "-"
        if one.loss_measured is not None and one.loss_low is not None and one.loss_high is not None:
            loss = f"{brief_share(one.loss_measured)} ({brief_share(one.loss_low)}-{brief_share(one.loss_high)})"
        passed = one.verdict is Verdict.PASS
        verdict = "[green]as asked[/green]" if passed else f"[bold red]{one.verdict.value}[/bold red] {one.reason}"
        table.add_row(
            f"{one.source}>{one.destination}",
            brief_duration(one.rtt_requested_us),
            rtt,
            brief_share(one.loss_requested),
            loss,
            verdict,
        )
    Console().print(table)
