"""``longhaul up``: build a lab and leave it standing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli import complete
from harness.cli.lab_choice import JsonOption
from harness.cli.lint_report import StrictOption, checked_topology

if TYPE_CHECKING:
    from harness.lab.lab import Lab


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


def up(
    topology: Annotated[
        str,
        typer.Argument(help="A topology file, or the name of a shipped topology.", autocompletion=complete.topologies),
    ],
    lab: Annotated[
        str | None,
        typer.Option("--lab", metavar="ID", help="Name the lab: 1 to 6 of a-z and 0-9. Default: lab1, lab2 ..."),
    ] = None,
    wan: Annotated[
        Literal["auto", "netns", "vm"],
        typer.Option(help="Where the WAN core runs: a namespace of this kernel, or a micro-VM. auto: what works here."),
    ] = "auto",
    seed: Annotated[int | None, typer.Option(help="Fixes the WAN's dice: the same packets are lost again.")] = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> int:
    """Build a lab: the sites of a topology on a WAN of real netem.

    Each site is a host of its own: network, hostname, processes, sshd. The lab
    stays until `down`. Interrupting `up` (Ctrl-C) undoes what was built.

    Examples:

        longhaul up four-sites

        longhaul up topologies/four-sites-mobile.yaml --lab desk --wan vm
    """
    import re

    from rich.console import Console

    from harness.config.shipped import find_topology
    from harness.errors import InputError
    from harness.lab.lab import Lab
    from harness.lab.signals import termination_as_interrupt
    from harness.plan.addressing import LAB_ID_PATTERN

    if lab is not None and not re.fullmatch(LAB_ID_PATTERN, lab):
        raise InputError(f"{lab!r} is no lab id", hint="Use 1 to 6 characters of a-z and 0-9.")
    model = checked_topology(find_topology(topology), wan, strict=strict)
    console = Console(stderr=True)
    with console.status("building the lab") as status, termination_as_interrupt():
        built = Lab.up(model, lab_id=lab, wan=wan, seed=seed, progress=status.update)
    built.close()
    if as_json:
        print(json.dumps(_as_json(built), indent=2))
    else:
        _tell(built)
    return 0


def _as_json(lab: Lab) -> dict[str, object]:
    return {
        "lab": lab.lab_id,
        "topology": lab.topology.name,
        "up_seconds": round(lab.up_seconds, 3),
        "core": {"placement": lab.core.placement, "kernel": lab.core.kernel_release, "detail": lab.core.detail},
        "nodes": [
            {
                "node": node.name,
                "site": node.site,
                "netns": node.netns,
                "wan_address": node.wan_address,
                "wan_address6": node.wan_address6,
                "public_address": node.public_address,
                "management_address": node.management_address,
                "data_dir": node.data_dir,
                "log_dir": node.log_dir,
            }
            for node in lab.nodes.values()
        ],
        "state_dir": str(lab.state_dir),
    }


def _tell(lab: Lab) -> None:
    from rich.console import Console
    from rich.table import Table

    # Without emoji: ":100:" in an IPv6 address is none.
    console = Console(emoji=False)
    console.print(
        f"[b]{lab.lab_id}[/b] is up after {lab.up_seconds:.1f} s: {lab.topology.name}, "
        f"WAN core in a {'micro-VM' if lab.core.placement == 'vm' else 'namespace'} (Linux {lab.core.kernel_release})"
    )
    table = Table(box=None, padding=(0, 2, 0, 2))
    for heading in ("node", "address", "IPv6", "data"):
        table.add_column(heading, header_style="dim")
    for node in lab.nodes.values():
        table.add_row(node.name, node.wan_address, node.wan_address6 or "-", node.data_dir)
    console.print(table)
    first, second = list(lab.nodes)[:2] if len(lab.nodes) > 1 else (*lab.nodes, *lab.nodes)
    console.print(
        f"Try: longhaul exec {first} -- ping -c 3 {second}\n"
        f"     longhaul link {first} {second} --loss 2%\n"
        f"     longhaul down {lab.lab_id}",
        style="dim",
        highlight=False,
    )
