"""``longhaul bench``: how fast this machine is at being a WAN, and how fast transports and engines are on one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.bench_transport import sync, transport
from harness.cli.lab_choice import JsonOption

if TYPE_CHECKING:
    from harness.run.core_benchmark import CoreBenchmark, Effort


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        name="bench",
        no_args_is_help=True,
        help="Measure the WAN core of this machine, and transports and sync engines beside each other on one WAN.",
    )
    group.command("core")(core)
    group.command("transport")(transport)
    group.command("sync")(sync)
    app.add_typer(group)


def core(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Directory for core.json, the pictures and index.html.")
    ] = Path("core-benchmark"),
    wan: Annotated[
        Literal["all", "netns", "vm"], typer.Option(help="Which placement of the core; all that this host can run.")
    ] = "all",
    sites: Annotated[
        list[int] | None,
        typer.Option(min=2, max=128, help="Labs of so many sites; again for more.", show_default="4, 16, 64, 128"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter trials, and labs of 4 and 16 sites only.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Measure the WAN core: packets and bits per second, CPU for each Gbit, time of a change, labs of many sites.

    Each placement of the core that this host can run, beside plain forwarding between veth pairs in the same run. Takes
    some ten minutes, with --quick two; other work of this machine makes it look slower than it is. Builds labs of its
    own and takes them down. What was measured is also what `longhaul validate` holds rates against from then on.

    Examples:

        longhaul bench core

        longhaul bench core --quick --wan vm --json | jq '.throughput[] | {path, carried_packets_per_s}'

        longhaul bench core --sites 128 -o /tmp/core
    """
    from rich.console import Console

    from harness.cli.output import make_directory
    from harness.lab.signals import termination_as_interrupt
    from harness.report.core_report import core_tables, write_core_report
    from harness.run.capacity import remember
    from harness.run.core_benchmark import QUICK, Effort, placements, run_benchmark

    make_directory(output)
    effort = QUICK if quick else Effort()
    chosen = placements() if wan == "all" else (wan,)
    errors = Console(stderr=True)
    with termination_as_interrupt(), errors.status("core benchmark") as spinner:

        def tell(step: str) -> None:
            spinner.update(step)
            if not errors.is_terminal:
                errors.print(step, highlight=False)

        result = run_benchmark(chosen, _with_sites(effort, sites), tell)
    remember(result)
    page = write_core_report(result, output)
    if as_json:
        print(result.model_dump_json(indent=2))
    else:
        _show(result, core_tables(result), page)
    return 0


def _with_sites(effort: Effort, sites: list[int] | None) -> Effort:
    from dataclasses import replace

    return replace(effort, sites=tuple(sorted(set(sites)))) if sites else effort


def _show(result: CoreBenchmark, tables: tuple[tuple[str, object, list[list[str]]], ...], page: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for title, head, rows in tables:
        assert isinstance(head, tuple)
        table = Table(*head, title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print()
    if result.host.busy_cores > 0.5:
        console.print(f"[yellow]Other work kept {result.host.busy_cores:.1f} processors busy: measure again.[/yellow]")
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)
