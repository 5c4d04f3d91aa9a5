"""``longhaul capture``: what a site or a link carries, as a pcap file, a stream, or text."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli import complete
from harness.cli.lab_choice import JsonOption, LabOption

if TYPE_CHECKING:
    from typing import BinaryIO

    from harness.nodes.capture import CaptureCounts
    from harness.plan.addressing import LabPlan
    from harness.plan.capture import Tap


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("capture")(capture)


def capture(
    target: Annotated[
        list[str],
        typer.Argument(
            metavar="SITE | A B",
            help="A site or node; or a link, from the first to the second.",
            autocompletion=complete.nodes,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to write pcap; - is standard output."),
    ] = None,
    where: Annotated[
        Literal["before", "after"],
        typer.Option(help="A link before its impairment (what was sent) or after it (what arrived)."),
    ] = "after",
    expression: Annotated[
        str, typer.Option("--filter", "-f", metavar="EXPR", help="Only these packets, as in tcpdump: 'tcp port 22'.")
    ] = "",
    duration: Annotated[str | None, typer.Option("--for", metavar="TIME", help="End after this time: 10s.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many packets.")] = None,
    snaplen: Annotated[int | None, typer.Option(min=14, help="Keep only so many bytes of each packet.")] = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Catch the packets of a site or of a directed link.

    Without -o every packet is a line of text. Ctrl-C ends it, and the file is
    whole. A link is caught where it ends, so what the WAN lost is not there;
    --where before catches it where it begins.

    Examples:

        longhaul capture tokyo -o tokyo.pcap

        longhaul capture virginia tokyo --for 10s -f 'udp' -o link.pcap

        longhaul capture tokyo -o - | wireshark -k -i -
    """
    from harness.errors import InputError
    from harness.lab.signals import termination_as_interrupt
    from harness.lab.state import choose_lab, read_state, resolve_state_root
    from harness.model.units import parse_duration
    from harness.nodes.capture import Capture, check_filter

    if as_json and output in (None, "-"):
        raise InputError("--json needs -o FILE: standard output carries the packets", hint="-o x.pcap --json")
    try:
        seconds = None if duration is None else parse_duration(duration) / 1e6
    except ValueError as error:
        raise InputError(f"--for: {error}") from error
    paths = choose_lab(resolve_state_root(), lab)
    tap = _tap(read_state(paths).plan, target, where)
    wanted = tap.narrowed(expression)
    check_filter(wanted)
    stream = _open(output)
    try:
        with (
            termination_as_interrupt(),
            Capture(tap.netns, tap.interface, wanted, output=stream, packets=count, snap_bytes=snaplen) as running,
        ):
            try:
                running.await_listening()
                print(f"catching {' > '.join(target)}; Ctrl-C ends it", file=sys.stderr)
                counts = running.wait(seconds)
            except KeyboardInterrupt:
                counts = running.stop()
    finally:
        if stream is not None and stream is not sys.stdout.buffer:
            stream.close()
    _tell(paths.lab_id, target, tap, output, counts, as_json)
    return 0


def _tap(plan: LabPlan, target: list[str], where: Literal["before", "after"]) -> Tap:
    """What to listen to. Raises InputError that lists the sites."""
    from harness.errors import InputError
    from harness.plan.capture import tap_link, tap_site

    ends = target[0].split(">") if len(target) == 1 else target
    try:
        match ends:
            case [site]:
                return tap_site(plan, site)
            case [source, destination] if source != destination:
                return tap_link(plan, source, destination, where)
    except KeyError as error:
        known = [*plan.sites_by_name, *(node.name for node in plan.nodes if node.name not in plan.sites_by_name)]
        raise InputError(f"there is no site {error}", hint=f"Sites and nodes: {', '.join(known)}.") from None
    raise InputError("name a site, or the two ends of a link", hint="longhaul capture virginia tokyo -o x.pcap")


def _open(output: str | None) -> BinaryIO | None:
    from harness.errors import InputError

    if output is None:
        return None
    if output == "-":
        if sys.stdout.isatty():
            raise InputError(
                "a terminal cannot show pcap", hint="leave -o out for text, or pipe it: | wireshark -k -i -"
            )
        return sys.stdout.buffer
    try:
        return Path(output).open("wb")
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from None


def _tell(lab_id: str, target: list[str], tap: Tap, output: str | None, counts: CaptureCounts, as_json: bool) -> None:
    missed = f", {counts.dropped} more were missed" if counts.dropped else ""
    if as_json:
        told = {
            "lab": lab_id,
            "target": target,
            "netns": tap.netns,
            "interface": tap.interface,
            "file": output,
            "packets": counts.captured,
            "missed": counts.dropped,
        }
        print(json.dumps(told, indent=2))
    elif output not in (None, "-"):
        print(f"{counts.captured} packets in {output}{missed}", file=sys.stderr)
    elif missed:
        print(f"{counts.captured} packets{missed}", file=sys.stderr)
