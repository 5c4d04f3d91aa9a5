"""``longhaul measure``: probe the links and hold them against what was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.fit import run_fit
from harness.cli.lab_choice import JsonOption, LabOption, open_lab

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from harness.lab.lab import Lab
    from harness.model.measurement import Certificate, LinkCertificate, Quantity, QuantityName

_MOST_LINKS_SHOWN = 64
_PIPED_WIDTH = 160


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("measure")(measure)


def measure(
    logs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[LOG...]", help="With --fit: logs of a real path.", show_default=False),
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Measure no lab: make a profile from logs of a real path, as longhaul fit.")
    ] = False,
    calibrate: Annotated[
        Literal["quick", "full"],
        typer.Option(help="quick: delay, loss, order, in seconds. full: also rate and buffer, in minutes."),
    ] = "quick",
    link: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Only the link between these two sites, both ways.", metavar="A B", show_default=False),
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Probe at most so many times before the verdict.")] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="Also write the certificate here, as JSON; the profile.", metavar="FILE"),
    ] = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Measure the WAN, link by link, and judge it: the fidelity certificate.

    Held against what is in force now, quantity by quantity, each with its 99% interval: one-way delay, RTT, jitter and
    its distribution, loss, mean burst length, order, duplicates; with --calibrate full also rate, buffer depth and
    damaged packets. Exit code 4 when a whole interval lies beyond the tolerance: of delays 1 ms or 2% (full: 0.5 ms or
    1%), of rates 1.5%, of buffers 10% or one packet; loss and bursts must lie inside their interval.

    A quantity whose interval is too wide to say that it is as asked for is undecided, and shown with a question mark.
    A quick measurement only looks for what is wrong; a full one measures such a link again, for longer, and if that
    does not help leaves it UNDECIDED (null in JSON), with exit code 4 as well.

    Examples:

        longhaul measure

        longhaul measure --calibrate full --link ireland virginia -o certificate.json

        longhaul measure --json | jq '.links[] | select(.verdict != "PASS")'

        longhaul measure --fit ping.txt -o office.yaml
    """
    from rich.console import Console

    from harness.cli.output import require_writable
    from harness.errors import ExitCode, InputError
    from harness.model.verdict import Verdict

    if fit != bool(logs):
        raise InputError("--fit needs logs, and logs need --fit", hint="longhaul measure --fit ping.txt -o office.yaml")
    if logs:
        return run_fit(logs, None if output is None else Path(output), None, as_json)
    if output is not None:
        require_writable(Path(output))
    opened = open_lab(lab)
    try:
        certificate = _measured(opened, calibrate, link, rounds)
    finally:
        opened.close()
    if output is not None:
        _write(certificate, output)
    if as_json:
        print(certificate.model_dump_json(indent=2))
    else:
        # Piped, a table needs no window's width.
        _tell(certificate, Console() if Console().is_terminal else Console(width=_PIPED_WIDTH))
    return ExitCode.PASSED if certificate.verdict is Verdict.PASS else ExitCode.INVALID


def _measured(
    lab: Lab, calibrate: Literal["quick", "full"], pair: tuple[str, str] | None, rounds: int | None
) -> Certificate:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    links = None if pair is None else [pair, (pair[1], pair[0])]
    with bar:
        task = bar.add_task("measuring", total=1.0)
        return lab.measure(
            progress=lambda step: bar.update(task, description=step),
            advance=lambda share: bar.update(task, completed=share),
            rounds=rounds,
            calibrate=calibrate,
            links=links,
        )


def _write(certificate: Certificate, output: str) -> None:
    from pathlib import Path

    path = Path(output)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(certificate.model_dump_json(indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _tell(certificate: Certificate, console: Console) -> None:
    from harness.model.units import brief_duration
    from harness.model.verdict import Verdict

    links = certificate.links
    others = [link for link in links if link.verdict is not Verdict.PASS]
    shown = links if len(links) <= _MOST_LINKS_SHOWN else tuple(others)
    if shown:
        console.print(_table(shown))
    for link in others:
        if link.verdict is Verdict.INVALID:
            console.print(f"[bold red]{link.name}[/bold red] {link.reason}", highlight=False)
        else:
            console.print(f"[yellow]{link.name}[/yellow] undecided: {', '.join(link.undecided)}", highlight=False)
    took = brief_duration(certificate.elapsed_s * 1e6)
    hidden = " (only the others are shown; --json has all)" if len(shown) < len(links) else ""
    open_ones = f", quantities left undecided: {certificate.undecided}" if certificate.undecided else ""
    console.print(
        f"{len(links) - len(others)} of {len(links)} links as asked{open_ones}, in {took}{hidden}", highlight=False
    )
    if certificate.note:
        console.print(certificate.note, style="dim", highlight=False)


def _table(links: tuple[LinkCertificate, ...]) -> Table:
    """One row a link: what was measured, and what was asked for below it."""
    from rich.table import Table

    from harness.model.verdict import Verdict

    headings: dict[QuantityName, str] = {
        "one-way delay": "one way, ms",
        "rtt": "RTT, ms",
        "jitter": "jitter, ms",
        "loss": "loss",
        "burst": "burst",
        "rate": "rate",
        "buffer": "buffer",
    }
    columns = [name for name in headings if any(link.quantity(name) for link in links)]
    table = Table(
        box=None,
        padding=(0, 2, 0, 0),
        caption="dim: asked for; ?: not precise enough to decide",
        caption_justify="left",
    )
    for heading in ("link", *(headings[name] for name in columns), "verdict"):
        table.add_column(heading, header_style="dim", no_wrap=True)
    for link in links:
        style = "green" if link.verdict is Verdict.PASS else "yellow" if link.verdict is None else "bold red"
        rounds = f" [dim]({link.rounds} rounds)[/dim]" if link.rounds > 1 else ""
        verdict = f"[{style}]{link.verdict_word}[/{style}]{rounds}"
        table.add_row(link.name, *(_cell(link.quantity(name)) for name in columns), verdict)
    return table


def _cell(quantity: Quantity | None) -> str:
    from harness.model.verdict import Verdict
    from harness.plan.quantities import figure

    if quantity is None:
        return ""

    def told(value: float) -> str:
        if quantity.unit == "us":
            return f"{value / 1000:.2f}"
        return figure(value, quantity.unit).removesuffix(" packets")

    measured = "-" if quantity.measured is None else told(quantity.measured)
    if quantity.verdict is Verdict.INVALID:
        measured = f"[bold red]{measured}[/bold red]"
    elif quantity.undecided:
        measured = f"[yellow]{measured} ?[/yellow]"
    asked = "" if quantity.requested is None else f"\n[dim]{told(quantity.requested)}[/dim]"
    return measured + asked
