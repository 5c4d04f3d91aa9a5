"""``longhaul mesh``: a topology file of any number of sites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.model.topology import Topology


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("mesh")(mesh)


def mesh(
    sites: Annotated[int, typer.Argument(min=2, max=128, help="How many sites.")],
    seed: Annotated[int, typer.Option(help="Another seed, another world.")] = 1,
    rate: Annotated[str, typer.Option(help="Rate of every link, such as '20 Mbit/s'.")] = "100 Mbit/s",
) -> int:
    """Print a topology in which every two of many sites are joined.

    The sites lie at random places of the globe, and round-trip times follow
    from their distances. The same seed gives the same file.

    Examples:

        longhaul mesh 16 > mesh-16.yaml && longhaul up mesh-16.yaml

        longhaul mesh 128 --seed 7 --rate '2 Mbit/s' > mesh.yaml
    """
    from harness.errors import InputError
    from harness.model.units import parse_rate
    from harness.plan.mesh import mesh as made

    try:
        rate_bps = parse_rate(rate)
    except ValueError as error:
        raise InputError(f"--rate: {error}") from None
    print(as_yaml(made(sites, seed=seed, rate_bps=rate_bps), rate), end="")
    return 0


def as_yaml(topology: Topology, rate: str) -> str:
    """A mesh as a topology file; each pair's two links are alike, and all have this rate."""
    lines = [
        f"# Made by `longhaul mesh {len(topology.sites)}`.",
        "version: 1",
        f"name: {topology.name}",
        f"description: {topology.description}",
        f"source: {topology.source_note}",
        "",
        "sites:",
        *(f"  {name}:" for name in topology.site_names),
        "",
        "defaults:",
        f"  rate: {rate}",
        "",
        "links:",
    ]
    names = topology.site_names
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            rtt_us = 2 * topology.link(first, second).impairment.delay_us
            lines.append(f"  - {{between: [{first}, {second}], rtt: {rtt_us / 1000:g} ms}}")
    return "\n".join(lines) + "\n"
