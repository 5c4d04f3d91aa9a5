"""``longhaul play``: a trace onto the links of a live lab."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import complete
from harness.cli.lab_choice import JsonOption, LabOption, open_lab

if TYPE_CHECKING:
    from harness.lab.player import Playback, Player
    from harness.model.playback import PlaybackReport

_LOOK_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("play")(play)


def play(
    trace: Annotated[
        str,
        typer.Argument(
            metavar="TRACE", help="A file in any form, or the name of a shipped one.", autocompletion=complete.traces
        ),
    ],
    sites: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SITE SITE]", help="The link; the first site is the subscriber.", autocompletion=complete.sites
        ),
    ] = None,
    access: Annotated[
        str | None, typer.Option(metavar="SITE", help="Instead of a link: the trace is this site's access line.")
    ] = None,
    one_way: Annotated[bool, typer.Option("--one-way", help="Only from the first site to the second.")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end, until Ctrl-C or --for.")] = False,
    offset: Annotated[str, typer.Option(help="Where in the trace to begin: 20s.")] = "0s",
    speed: Annotated[float, typer.Option(min=0.01, max=100.0, help="2 plays twice as fast.")] = 1.0,
    for_: Annotated[str | None, typer.Option("--for", help="End after this time: 60s.")] = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Let links follow a trace while everything runs, and give them back at the end.

    Onto a link, the trace replaces rate, delay and loss as far as it says anything of them. As an access line it
    stands in series with all of the site's links, in the place of the access line that the site has.
    Ctrl-C ends it; so does the end of the trace, unless --loop, and `longhaul heal` from another shell.

    Examples:

        longhaul play lte-driving --access sydney --loop

        longhaul play train-tunnels tokyo ireland --speed 2 --for 60s
    """
    from contextlib import ExitStack

    from harness.config.trace_file import find_trace
    from harness.errors import InputError
    from harness.lab.fault_desk import holder_of, noted
    from harness.lab.player import Player
    from harness.lab.signals import termination_as_interrupt
    from harness.model.timeline import LinkChoice, Play
    from harness.model.units import parse_duration

    ends = sites or []
    if (len(ends) != 2) if access is None else bool(ends):
        raise InputError("say onto what: two sites, or --access SITE", hint="longhaul play --help")
    pairs = [] if access is not None else [(ends[0], ends[1])] if one_way else [(ends[0], ends[1]), (ends[1], ends[0])]
    if access is not None and one_way:
        raise InputError("--one-way belongs to a link, not to an access line")
    try:
        options: dict[str, Any] = {
            "offset_s": parse_duration(offset) / 1e6,
            "for_s": None if for_ is None else parse_duration(for_) / 1e6,
            "speed": speed,
            "loop": loop,
        }
    except ValueError as error:
        raise InputError(str(error)) from error
    opened = open_lab(lab)
    try:
        with termination_as_interrupt(), Player(opened) as player, ExitStack() as stack:
            player.start()
            event = Play(
                links=LinkChoice(site=access) if access is not None else LinkChoice(pairs=tuple(pairs)),
                trace=str(find_trace(trace).absolute()),
                offset_s=options["offset_s"],
                speed=speed,
                loop=loop,
            )
            options["holder"] = holder_of(stack.enter_context(noted(opened, event, "longhaul play")))
            if access is not None:
                playback = player.play_access(trace, access, **options)
            else:
                playback = player.play(trace, pairs, **options)
            report = _watch(player, playback, quiet=as_json)
    finally:
        opened.close()
    if as_json:
        print(report.model_dump_json(indent=2))
    else:
        _tell(report)
    return 0


def _watch(player: Player, playback: Playback, *, quiet: bool) -> PlaybackReport:
    """Until it ends or is interrupted."""
    from rich.console import Console
    from rich.status import Status

    console = Console(file=sys.stderr)
    try:
        if quiet or not console.is_terminal:
            while (report := player.wait(playback, _LOOK_S)) is None:
                continue
            return report
        with Status("playing", console=console) as line:
            while (report := player.wait(playback, _LOOK_S)) is None:
                line.update(_live(playback.status))
            return report
    except KeyboardInterrupt:
        return player.stop(playback)


def _live(status: dict[str, Any]) -> str:
    from harness.model.units import brief_rate

    if not status:
        return "playing"
    rates = {rate for rate in status["rate_bps"].values() if rate is not None}
    shown = ", ".join("blocked" if rate == 0 else brief_rate(rate) for rate in sorted(rates)) or "no rates"
    skipped = f", {status['skipped']} skipped" if status["skipped"] else ""
    return f"{status['at_s']:.1f} s  {shown}  {status['late_ms']:.1f} ms late, {status['changes']} changes{skipped}"


def _tell(report: PlaybackReport) -> None:
    late = report.lateness
    lateness = "" if late is None else f"; late p50 {late.p50_ms} ms, p99 {late.p99_ms} ms, most {late.max_ms} ms"
    print(
        f"{report.trace} on {', '.join(report.links)}: {report.changes} changes, {report.skipped} skipped"
        f" in {report.ended_s - report.began_s:.1f} s{lateness}"
    )
    if report.taken_off:
        print("  another process took it off its links (heal, fault end), which ended it")
    print(f"  links given back; scheduling {report.scheduling}; every change is in {report.log}")
