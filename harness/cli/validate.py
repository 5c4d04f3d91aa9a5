"""``longhaul validate``: check topology files."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("validate")(validate)


def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Topology files, or names of shipped ones.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON on standard output.")] = False,
) -> int:
    """Check topology files; builds nothing. Says every problem with file, line and column.

    Exit code 2 when a file has a problem.

    Examples:

        longhaul validate topologies/four-sites.yaml mine.yaml

        longhaul validate --json mine.yaml | jq -r '.files[].problems[] | "\\(.line): \\(.message)"'
    """
    from rich.console import Console

    from harness.config.problems import DocumentError, Problem
    from harness.config.shipped import find_topology
    from harness.config.topology_file import load_topology
    from harness.errors import InputError

    out, err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)
    findings = []
    for name in files:
        topology = None
        problems: tuple[Problem, ...] = ()
        try:
            topology = load_topology(find_topology(name))
        except DocumentError as error:
            problems = error.problems
        except InputError as error:
            message = error.message if error.hint is None else f"{error.message}; {error.hint}"
            problems = (Problem(file=name, line=None, column=None, message=message),)
        finding: dict[str, object] = {"file": name, "valid": not problems}
        finding["problems"] = [problem.model_dump() for problem in problems]
        if topology is not None:
            finding["topology"] = {"name": topology.name, "sites": topology.site_names, "links": len(topology.links)}
        findings.append(finding)
        if as_json:
            continue
        for problem in problems:
            err.print(f"[red]{_plain(problem.where)}[/red]: {_plain(problem.message)}")
        if topology is not None:
            scheduled = f", {len(topology.timeline)} timeline entries" if topology.timeline else ""
            sites = f"{len(topology.sites)} sites, {len(topology.links)} links{scheduled}"
            out.print(f"[green]ok[/green] {_plain(name)}: {sites}")
    if as_json:
        print(json.dumps({"valid": all(finding["valid"] for finding in findings), "files": findings}, indent=2))
    return ExitCode.PASSED if all(finding["valid"] for finding in findings) else ExitCode.BAD_INPUT


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
