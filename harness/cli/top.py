"""``longhaul top``: what every link and node does now."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.lab_choice import JsonOption, LabOption, open_lab

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.lab.lab import Lab
    from harness.plan.live import LabLook, LabNow, LinkNow

_ROWS_BESIDE = 7
"""Lines of the screen that are not links: the head, its rule, the nodes."""
_SHARE_OF_LOOKING = 0.2
"""A look at many links takes a while; not more than this share of the time is spent on it."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("top")(top)


def top(
    interval: Annotated[str, typer.Option(help="Time between two looks: 1s.")] = "1s",
    links: Annotated[int | None, typer.Option(min=1, help="How many links; the busiest first. Default: all.")] = None,
    once: Annotated[bool, typer.Option("--once", help="One look, and out.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Watch a lab live: each link's rate, packets, drops and queue, each node's CPU.

    The busiest links stand first. RTT is computed from the delays in force and
    what waits in the queues; `measure` measures it. Ctrl-C ends it. With --json
    each look is one line, with --once there is one.

    Examples:

        longhaul top

        longhaul top --once --json | jq '.links[] | select(.overflow_per_s > 0)'
    """
    from harness.errors import InputError
    from harness.lab.live import look
    from harness.lab.signals import termination_as_interrupt
    from harness.model.units import parse_duration

    try:
        seconds = parse_duration(interval) / 1e6
    except ValueError as error:
        raise InputError(f"--interval: {error}") from error
    if seconds <= 0:
        raise InputError("--interval: it must be above 0", hint="--interval 1s")
    opened = open_lab(lab)
    try:
        with termination_as_interrupt():
            first = look(opened)
            if once or as_json:
                _print(opened, first, seconds, links, once, as_json)
            else:
                _show(opened, first, seconds, links)
    except KeyboardInterrupt:
        # It is how one leaves.
        return 0
    finally:
        opened.close()
    return 0


def _next(lab: Lab, before: LabLook, seconds: float) -> tuple[LabLook, LabNow]:
    """Wait, look again, compare. Waits longer when looking takes long."""
    import time

    from harness.lab.live import look
    from harness.plan.live import compare

    begin = time.monotonic()
    threading.Event().wait(max(0.0, before.at_s + seconds - begin))
    after = look(lab)
    spent = time.monotonic() - max(begin, before.at_s + seconds)
    threading.Event().wait(max(0.0, spent / _SHARE_OF_LOOKING - seconds))
    in_force = {link: state.in_force for link, state in lab.link_states().items()}
    return after, compare(before, after, in_force)


def _print(lab: Lab, before: LabLook, seconds: float, count: int | None, once: bool, as_json: bool) -> None:
    from rich.console import Console

    while True:
        before, now = _next(lab, before, seconds)
        if as_json:
            print(json.dumps(_as_json(lab, now, count)), flush=True)
        else:
            Console().print(_screen(lab, now, count))
        if once:
            return


def _as_json(lab: Lab, now: LabNow, count: int | None) -> dict[str, Any]:
    shown = _chosen(now, count)
    return {
        "lab": lab.lab_id,
        "seconds": round(now.seconds, 3),
        "bits_per_s": round(now.bits_per_s),
        "packets_per_s": round(now.packets_per_s, 1),
        "core_cpu": None if now.core_cpu is None else round(now.core_cpu, 3),
        "node_cpu": {node: round(used, 3) for node, used in now.node_cpu.items()},
        "links": [link.model_dump(mode="json") for link in shown],
    }


def _show(lab: Lab, before: LabLook, seconds: float, count: int | None) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        live.update("looking ...", refresh=True)
        while True:
            before, now = _next(lab, before, seconds)
            fitting = max(1, console.size.height - _ROWS_BESIDE)
            live.update(_screen(lab, now, min(count or fitting, fitting)), refresh=True)


def _chosen(now: LabNow, count: int | None) -> tuple[LinkNow, ...]:
    from harness.plan.live import busiest

    return busiest(now.links, len(now.links) if count is None else count)


def _screen(lab: Lab, now: LabNow, count: int | None) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from harness.model.units import brief_duration, brief_number, brief_rate

    shown = _chosen(now, count)
    head = Text.assemble(
        (lab.lab_id, "bold"),
        f"  {lab.topology.name}  {brief_rate(now.bits_per_s)}  {now.packets_per_s:.0f} packets/s through the core",
        "" if now.core_cpu is None else f", which uses {brief_number(now.core_cpu)} CPUs",
        no_wrap=True,
        overflow="ellipsis",
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("link", no_wrap=True)
    for heading in ("rate", "load", "packets", "lost", "overflow", "inside", "queue", "RTT"):
        table.add_column(heading, justify="right", no_wrap=True)
    for link in shown:
        table.add_row(
            f"{link.source}>{link.destination}",
            brief_rate(link.bits_per_s),
            "" if link.load is None else f"{link.load:.0%}",
            f"{link.packets_per_s:.0f}",
            _alarming(link.lost_per_s, "yellow"),
            _alarming(link.overflow_per_s, "red"),
            str(link.inside),
            brief_duration(link.queue_us) if link.queue_us >= 1 else "",
            "[red]cut off[/red]" if link.rtt_us is None else brief_duration(link.rtt_us),
        )
    left = len(now.links) - len(shown)
    rest = Text(
        (f"and {left} quieter links; " if left else "") + "packets, lost, overflow: per second; RTT: computed",
        style="dim",
    )
    nodes = sorted(now.node_cpu.items(), key=lambda item: -item[1])
    told = "  ".join(f"{node} {used:.0%}" for node, used in nodes)
    return Group(head, table, rest, Text(f"CPU  {told}", no_wrap=True, overflow="ellipsis"))


def _alarming(number: float, style: str) -> str:
    return f"[{style}]{number:.1f}[/{style}]" if number else "0"
