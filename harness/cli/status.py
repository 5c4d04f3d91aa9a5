"""``longhaul status``: which labs there are, and how they are."""

from __future__ import annotations

import json
from typing import Any

import typer

from harness.cli.lab_choice import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(as_json: JsonOption = False) -> int:
    """Show every lab of this host and how it is.

    Its nodes, its WAN core, the links that now differ from its topology, the
    faults that are in force, and its cross traffic.

    Examples:

        longhaul status

        longhaul status --json | jq '.labs[].nodes[] | select(.alive | not)'
    """
    from harness.lab.status import describe_labs

    labs = describe_labs()
    if as_json:
        print(json.dumps({"labs": labs}, indent=2))
        return 0
    if not labs:
        print("no lab is up; bring one up with `longhaul up four-sites`")
    for lab in labs:
        _tell(lab)
    return 0


def _tell(lab: dict[str, Any]) -> None:
    from datetime import timedelta

    from rich.console import Console
    from rich.table import Table

    from harness.model.units import brief_rate

    # Without emoji: ":100:" in an IPv6 address is none.
    console = Console(emoji=False)
    if lab["state"] == "unfinished":
        console.print(f"[b]{lab['lab']}[/b]  [yellow]unfinished[/yellow]: {lab['reason']}")
        return
    mark = "[green]up[/green]" if lab["state"] == "up" else f"[bold red]broken[/bold red]: {lab['reason']}"
    core = "ended" if lab["kernel"] is None else f"{lab['placement']}, Linux {lab['kernel']}"
    age = timedelta(seconds=round(lab["age_s"]))
    console.print(f"[b]{lab['lab']}[/b]  {mark} for {age}  {lab['topology']}, WAN core: {core}", highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 2))
    for heading in ("node", "address", "IPv6", "management", "state"):
        table.add_column(heading, header_style="dim")
    for node in lab["nodes"]:
        alive = "alive" if node["alive"] else "[bold red]dead[/bold red]"
        table.add_row(node["node"], _address(node), node["wan_address6"] or "-", node["management_address"], alive)
    console.print(table)
    for link in lab["changed_links"]:
        console.print(
            f"  changed: {link['link']}  {link['now']}  [dim](topology: {link['topology']})[/dim]", highlight=False
        )
    for fault in lab["faults"]:
        told = f"{fault['do']} of {fault['subject']} for {fault['age_s']:.0f} s, by {fault['by']}"
        console.print(f"  fault: {told}  [dim](longhaul heal undoes it)[/dim]", highlight=False)
    for load in lab["cross_traffic"]:
        rate = "as fast as it goes" if load["rate_bps"] is None else brief_rate(load["rate_bps"])
        state = "runs" if load["runs"] else "does not run now"
        console.print(f"  cross traffic: {load['link']}  {load['pattern']}, {rate}, {state}", highlight=False)


def _address(node: dict[str, Any]) -> str:
    if node["public_address"] == node["wan_address"]:
        return str(node["wan_address"])
    return f"{node['wan_address']} behind {node['public_address']}"
