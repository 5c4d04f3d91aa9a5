"""``longhaul validate``: check topologies and profiles."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("validate")(validate)


def validate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Topology or profile files, or names of shipped topologies.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON on standard output.")] = False,
) -> int:
    """Check topologies and profiles; builds nothing. Says every problem with file, line and column.

    Exit code 2 when a file has a problem.

    Examples:

        longhaul validate topologies/four-sites.yaml mine.yaml

        longhaul validate --json mine.yaml | jq -r '.files[].problems[] | "\\(.line): \\(.message)"'
    """
    from rich.console import Console

    from harness.config.problems import DocumentError, Problem
    from harness.config.shipped import find_topology
    from harness.config.topology_file import load_document
    from harness.errors import InputError
    from harness.model.topology import Topology

    out, err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)
    findings = []
    for name in files:
        document = None
        problems: tuple[Problem, ...] = ()
        try:
            document = load_document(find_topology(name))
        except DocumentError as error:
            problems = error.problems
        except InputError as error:
            message = error.message if error.hint is None else f"{error.message}; {error.hint}"
            problems = (Problem(file=name, line=None, column=None, message=message),)
        finding: dict[str, object] = {"file": name, "valid": not problems}
        finding["problems"] = [problem.model_dump() for problem in problems]
        if isinstance(document, Topology):
            finding["topology"] = {"name": document.name, "sites": document.site_names, "links": len(document.links)}
        elif document is not None:
            finding["profile"] = {"name": document.name}
        findings.append(finding)
        if as_json:
            continue
        for problem in problems:
            err.print(f"[red]{_plain(problem.where)}[/red]: {_plain(problem.message)}")
        if isinstance(document, Topology):
            scheduled = f", {len(document.timeline)} scheduled" if document.timeline else ""
            sites = f"{len(document.sites)} sites, {len(document.links)} links{scheduled}"
            out.print(f"[green]ok[/green] {_plain(name)}: {sites}")
        elif document is not None:
            out.print(f"[green]ok[/green] {_plain(name)}: profile {document.name}")
    if as_json:
        print(json.dumps({"valid": all(finding["valid"] for finding in findings), "files": findings}, indent=2))
    return ExitCode.PASSED if all(finding["valid"] for finding in findings) else ExitCode.BAD_INPUT


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
