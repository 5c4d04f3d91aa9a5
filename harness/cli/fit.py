"""``longhaul fit``: a profile or a trace from what was measured of a real path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.lab_choice import JsonOption

if TYPE_CHECKING:
    from harness.model.path_sample import PathSample
    from harness.plan.fit import DirectionFit, PathFit

_DRAWN_QUANTILES = 1000
_TRACE = ".trace"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fit")(fit)


def fit(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="A log of ping or irtt, a capture, or two captures of it.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the profile here: NAME.yaml; a trace: NAME.trace."),
    ] = None,
    window: Annotated[str, typer.Option(help="Of a trace: over which time each delay and loss is taken.")] = "1s",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the measured delays as FILE.svg and FILE.png.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Make a profile or a trace that behaves like a real path, and say how well it fits.

    From the text of ping, the JSON of irtt (which knows both directions), a
    pcap with echoes or TCP, or two captures: before the path and behind it.
    The delay's shape is judged by Kolmogorov and Smirnov, the loss model is
    chosen by likelihood (BIC), and its parameters come with 95% intervals.

    Examples:

        ping -i 0.2 -c 1000 example.net > office.txt; longhaul fit office.txt -o office.yaml

        irtt client -i 20ms -d 1m -o path.json SERVER; longhaul fit path.json -o path.yaml

        longhaul fit before.pcap after.pcap --json

        longhaul fit train.json -o train.trace --window 2s; longhaul play train.trace tokyo ireland
    """
    return run_fit(files, output, plot, as_json, window)


def run_fit(files: list[Path], output: Path | None, plot: Path | None, as_json: bool, window: str = "1s") -> int:
    """What both ``fit`` and ``measure --fit`` do."""
    from harness.cli.output import writing
    from harness.config.path_log import read_path_logs
    from harness.errors import InputError
    from harness.plan.fit import fit_path
    from harness.run.fitted_profile import profile_text, write_profile

    if output is not None:
        _check_name(output)
    sample = read_path_logs(files)
    try:
        fitted = fit_path(sample)
    except ValueError as error:
        raise InputError(f"{files[0]}: {error}", hint="measure for longer: 1000 packets tell 1% of loss") from None
    written: tuple[Path, ...] = ()
    with writing(output or plot or Path()):
        if output is not None and output.suffix == _TRACE:
            written = _write_trace(sample, output, window)
        elif output is not None:
            written = write_profile(fitted, output, _delays(sample))
        if plot is not None:
            written += _draw(sample, fitted, plot)
    if as_json:
        print(json.dumps({**fitted.model_dump(mode="json"), "files": [str(path) for path in written]}, indent=2))
        return 0
    _tell(fitted)
    if output is None:
        print("\n" + profile_text(fitted, "fitted"), end="")
    for path in written:
        typer.echo(f"wrote {path}", err=True)
    return 0


def _check_name(output: Path) -> None:
    """Raises InputError for a file that neither a profile nor a trace may have."""
    import re

    from harness.errors import InputError

    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}\.(yaml|trace)", output.name):
        raise InputError(
            f"{output.name} is no name of a profile or a trace",
            hint="small letters, digits and -, then .yaml or .trace: office-dsl.yaml",
        )


def _write_trace(sample: PathSample, output: Path, window: str) -> tuple[Path, ...]:
    from harness.config.trace_file import trace_text
    from harness.errors import InputError
    from harness.model.units import parse_duration
    from harness.plan.fit_trace import trace_of

    try:
        output.write_text(trace_text(trace_of(sample, output.stem, parse_duration(window))))
    except ValueError as error:
        raise InputError(f"no trace: {error}", hint="--window 10s") from None
    return (output,)


def _delays(sample: PathSample) -> tuple[tuple[float, ...], tuple[float, ...]]:
    up = sample.round_trip or sample.uplink
    down = sample.downlink or up
    return (() if up is None else up.arrived_us, () if down is None else down.arrived_us)


def _draw(sample: PathSample, fitted: PathFit, plot: Path) -> tuple[Path, ...]:
    """The measured delays, and beside them those of the fit where its shape has a name."""
    from harness.plan.fit_delay import fitted_quantiles
    from harness.report.plots import ecdf

    streams = [
        ("round trip", sample.round_trip, fitted.uplink),
        ("uplink", sample.uplink, fitted.uplink),
        ("downlink", sample.downlink, fitted.downlink),
    ]
    drawn = {}
    for name, stream, direction in streams:
        if stream is not None and direction.delay is not None:
            drawn[name] = [delay / 1000 for delay in stream.arrived_us]
            if direction.delay.shape != "samples":
                values = fitted_quantiles(direction.delay, _DRAWN_QUANTILES)
                drawn[f"{name}, fitted: {direction.delay.shape}"] = [delay / 1000 for delay in values]
    return ecdf(plot, "Delays of the path, measured and fitted", drawn, x_label="delay, ms", note=sample.source)


def _tell(fitted: PathFit) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in ("uplink", "downlink"):
        table.add_column(heading, header_style="dim")
    rows = [dict(_rows(direction)) for direction in (fitted.uplink, fitted.downlink)]
    for name in dict.fromkeys([*rows[0], *rows[1]]):
        table.add_row(f"[dim]{name}[/dim]", *(row.get(name, "") for row in rows))
    console = Console(highlight=False)
    console.print(f"{fitted.source}", style="bold")
    console.print(table)
    if fitted.from_round_trips:
        console.print("Round trips alone were seen: all that varies and gets lost stands in the uplink.", style="dim")


def _rows(direction: DirectionFit) -> list[tuple[str, str]]:
    from harness.model.units import brief_duration, brief_number, brief_share

    rows = [("delay", brief_duration(direction.delay_us))]
    delay, loss = direction.delay, direction.loss
    if delay is not None and delay.shape != "none":
        rows.append(("jitter", f"{brief_duration(direction.jitter_us)}, {delay.shape}"))
        fit = f"{brief_number(delay.distance)} ({'within' if delay.good else 'above'} {brief_number(delay.critical)})"
        rows.append(("KS distance", fit))
    if loss is not None:
        interval = f"{brief_share(loss.mean.low)} to {brief_share(loss.mean.high)}"
        rows.append(("loss", f"{brief_share(loss.mean.value)} ({interval}), {loss.lost} of {loss.packets}"))
        if loss.lost:
            rows.append(("loss model", f"{loss.kind}, bursts of {brief_number(loss.mean_burst)}"))
        rows += [
            (name, f"{brief_share(one.value)} ({brief_share(one.low)} to {brief_share(one.high)})")
            for name, one in loss.estimates.items()
            if name != "loss"
        ]
        rows += [(f"BIC {one.kind}", f"{one.bic:.0f}") for one in loss.candidates]
    for name, share in (("reordered", direction.reordered), ("duplicated", direction.duplicated)):
        if share is not None:
            rows.append((name, brief_share(share)))
    return rows
