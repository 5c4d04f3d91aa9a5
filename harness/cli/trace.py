"""``longhaul trace``: make, import, look at and draw traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import complete
from harness.cli.lab_choice import JsonOption

if TYPE_CHECKING:
    from harness.model.trace import Course, Trace

_FILE_OR_NAME = "A trace: a file in any form, or the name of a shipped one."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        name="trace",
        no_args_is_help=True,
        help="Make, import, look at and draw traces: links that change over time. `longhaul play` plays one.",
    )
    group.command("list")(list_traces)
    group.command("show")(show)
    group.command("plot")(plot)
    group.command("generate")(generate)
    group.command("import")(import_)
    app.add_typer(group)


def list_traces(as_json: JsonOption = False) -> int:
    """The library that is shipped, and the generators.

    Example:

        longhaul trace list
    """
    from rich.console import Console
    from rich.table import Table

    from harness.config.trace_file import load_trace, shipped_traces
    from harness.plan.generators import GENERATORS

    traces = [load_trace(path) for path in shipped_traces()]
    if as_json:
        kinds = [{"name": one.name, "title": one.title, "description": one.description} for one in GENERATORS.values()]
        print(json.dumps({"traces": [_summary(trace) for trace in traces], "generators": kinds}, indent=2))
        return 0
    table = Table("trace", "length", "down: mean, best second", "longest gap", "what it is", box=None, pad_edge=False)
    for trace in traces:
        facts = _summary(trace)["down"]
        table.add_row(
            trace.name, _seconds(trace.duration_us), _rates(facts), _gap(facts["longest_gap_us"]), trace.title
        )
    Console().print(table)
    print(f"\nGenerators (longhaul trace generate NAME): {', '.join(GENERATORS)}")
    return 0


def show(
    trace: Annotated[str, typer.Argument(metavar="TRACE", help=_FILE_OR_NAME, autocompletion=complete.traces)],
    as_json: JsonOption = False,
) -> int:
    """What a trace comes to: mean rate, best second, longest gap, delay, loss, outages.

    Examples:

        longhaul trace show lte-driving

        longhaul trace show recorded.csv --json
    """
    loaded = _load(trace)
    if as_json:
        print(json.dumps(_summary(loaded), indent=2))
        return 0
    print(f"{loaded.name}: {loaded.title or 'a trace'}, {_seconds(loaded.duration_us)}")
    for text in (loaded.description, f"Source: {loaded.source_note}" if loaded.source_note else "", loaded.recipe):
        if text:
            print(f"  {text}")
    both = {"both ways": loaded.down} if loaded.up is None else {"down": loaded.down, "up": loaded.up}
    for name, course in both.items():
        print(f"  {name:<9} {_line(course, loaded.duration_us)}")
    return 0


def plot(
    trace: Annotated[str, typer.Argument(metavar="TRACE", help=_FILE_OR_NAME, autocompletion=complete.traces)],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The picture: .png or .svg; without a suffix both. Default: TRACE.png."),
    ] = None,
) -> int:
    """Draw a trace: rate, delay and loss over time, with its outages.

    Example:

        longhaul trace plot lte-driving -o lte.svg
    """
    from harness.cli.output import writing
    from harness.report.trace_plot import plot_trace

    loaded = _load(trace)
    place = output or Path(f"{loaded.name}.png")
    with writing(place):
        files = plot_trace(loaded, place)
    for file in files:
        print(file)
    return 0


def generate(
    kind: Annotated[str, typer.Argument(metavar="GENERATOR", help="Which kind; `longhaul trace list` names them.")],
    seed: Annotated[int, typer.Option(help="The same seed makes the same trace.")] = 1,
    duration: Annotated[str | None, typer.Option(help="How long: 300s. Default: the kind's own.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write it. Default: GENERATOR.trace here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> int:
    """Make a trace of a kind of link.

    Example:

        longhaul trace generate lte-driving --seed 7 --duration 300s -o drive.trace
    """
    from harness.config.problems import did_you_mean
    from harness.config.trace_import import plain_name
    from harness.errors import InputError
    from harness.model.units import parse_duration
    from harness.plan.generators import GENERATORS
    from harness.plan.generators import generate as make

    if kind not in GENERATORS:
        raise InputError(
            f"there is no generator {kind!r}{did_you_mean(kind, list(GENERATORS))}",
            hint=f"One of {', '.join(GENERATORS)}.",
        )
    place = output or Path(f"{kind}.trace")
    try:
        length = None if duration is None else parse_duration(duration)
        trace = make(GENERATORS[kind], seed=seed, duration_us=length, name=plain_name(place.stem))
    except ValueError as error:
        raise InputError(str(error)) from error
    _write(trace, place, force=force)
    return 0


def import_(
    file: Annotated[Path, typer.Argument(help="Mahimahi's form (the downlink), CSV or JSON.")],
    up: Annotated[Path | None, typer.Option(help="Mahimahi's file of the uplink.")] = None,
    window: Annotated[str, typer.Option(help="Mahimahi: over which windows rates are counted.")] = "50ms",
    name: Annotated[str | None, typer.Option(help="Name of the trace. Default: the output's.")] = None,
    source: Annotated[str | None, typer.Option(help="Where it comes from, for the file.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write it. Default: FILE.trace here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> int:
    """Turn a recording into a trace of this project's own form.

    CSV has a row of column names: time_s, rate_kbps, delay_ms, loss_pct ... (topologies/traces/README.md).

    Examples:

        longhaul trace import drive.down --up drive.up -o drive.trace

        longhaul trace import modem-log.csv
    """
    from harness.config.trace_file import decode, load_trace, read_bytes
    from harness.config.trace_import import import_mahimahi, looks_like, plain_name
    from harness.errors import InputError
    from harness.model.units import parse_duration

    text = decode(read_bytes(file), str(file))
    form = looks_like(text)
    place = output or Path(f"{file.stem}.trace")
    if form == "mahimahi":
        try:
            window_us = parse_duration(window)
        except ValueError as error:
            raise InputError(f"--window: {error}") from error
        if window_us % 1000 or not 1_000 <= window_us <= 10_000_000:
            raise InputError(f"--window {window}: accepted: whole milliseconds, 1 ms to 10 s")
        back = None if up is None else (decode(read_bytes(up), str(up)), str(up))
        trace = import_mahimahi(text, str(file), name=file.stem, up=back, window_ms=window_us // 1000)
    elif up is not None:
        raise InputError(f"--up belongs to Mahimahi's form, and {file} is {form}")
    else:
        trace = load_trace(file, form=form)
    changes = {"name": plain_name(name or place.stem)}
    if source is not None:
        changes["source_note"] = source
    trace = trace.model_copy(update=changes)
    _write(trace, place, force=force)
    return 0


def _load(trace: str) -> Trace:
    from harness.config.trace_file import find_trace, load_trace

    return load_trace(find_trace(trace))


def _write(trace: Trace, place: Path, *, force: bool) -> None:
    from harness.cli.output import writing
    from harness.config.trace_file import trace_text
    from harness.errors import InputError

    if place.exists() and not force:
        raise InputError(f"{place} exists already", hint="Give another name with -o, or --force.")
    with writing(place):
        place.write_text(trace_text(trace))
    both = {"both ways": trace.down} if trace.up is None else {"down": trace.down, "up": trace.up}
    print(f"{place}: {_seconds(trace.duration_us)}")
    for name, course in both.items():
        print(f"  {name:<9} {_line(course, trace.duration_us)}")


def _summary(trace: Trace) -> dict[str, Any]:
    from harness.model.trace_facts import facts

    said: dict[str, Any] = trace.model_dump(include={"name", "title", "description", "source_note", "recipe"})
    return {
        **said,
        "duration_us": trace.duration_us,
        "down": facts(trace.down, trace.duration_us).model_dump(),
        "up": None if trace.up is None else facts(trace.up, trace.duration_us).model_dump(),
    }


def _line(course: Course, duration_us: int) -> str:
    from harness.model.trace_facts import facts
    from harness.model.units import brief_duration, brief_rate

    found = facts(course, duration_us)
    parts = []
    if found.mean_rate_bps is not None and found.best_second_bps is not None:
        parts.append(f"mean {brief_rate(found.mean_rate_bps)}, best second {brief_rate(found.best_second_bps)}")
        parts.append(f"longest gap {_gap(found.longest_gap_us)}")
    if found.mean_delay_us is not None:
        span = f"{brief_duration(found.least_delay_us or 0)} to {brief_duration(found.most_delay_us or 0)}"
        parts.append(f"delay {brief_duration(found.mean_delay_us)} ({span})")
    if found.mean_loss:
        parts.append(f"loss {found.mean_loss:.2%}")
    if found.outages:
        parts.append(f"{found.outages} outages, {brief_duration(found.blocked_us)} in all")
    return ", ".join([*parts, f"{found.changes:,} points"])


def _rates(facts: dict[str, Any]) -> str:
    from harness.model.units import brief_rate

    if facts["mean_rate_bps"] is None:
        return "says nothing of it"
    return f"{brief_rate(facts['mean_rate_bps'])}, {brief_rate(facts['best_second_bps'])}"


def _gap(gap_us: int | None) -> str:
    from harness.model.units import brief_duration

    return "" if gap_us is None else brief_duration(gap_us)


def _seconds(duration_us: int) -> str:
    seconds = duration_us / 1e6
    return f"{seconds:g} s" if seconds < 7200 else f"{seconds / 3600:g} h"
