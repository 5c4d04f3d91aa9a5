"""``longhaul validate``: check topologies and profiles."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import complete
from harness.cli.lab_choice import JsonOption
from harness.cli.lint_report import StrictOption, lint_document, print_findings
from harness.cli.lint_report import as_json as finding_as_json
from harness.errors import ExitCode

if TYPE_CHECKING:
    from harness.config.places import Places
    from harness.config.problems import Problem
    from harness.config.profile_document import ProfileDocument
    from harness.model.topology import Topology
    from harness.plan.lint import LintFinding
    from harness.plan.lint_finding import Capacity


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("validate")(validate)


def validate(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Topology or profile files, or names of shipped topologies.",
            autocompletion=complete.topologies,
        ),
    ],
    strict: StrictOption = False,
    wan: Annotated[
        Literal["auto", "netns", "vm"] | None,
        typer.Option(help="Check also whether a WAN core that is placed so can carry it. auto: as on this machine."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Check topologies and profiles; builds nothing. Says every problem with file, line and column.

    Then the linter tells which settings do not do as they read, why, and what to write instead: errors (nothing is
    built with them), warnings (most likely not what was meant; errors with --strict) and notes.

    Exit code 2 when a file has a problem or the linter refuses it.

    Examples:

        longhaul validate topologies/four-sites.yaml mine.yaml

        longhaul validate --strict --wan vm mine.yaml

        longhaul validate --json mine.yaml | jq -r '.files[].lint[] | "\\(.line): \\(.reason)"'
    """
    from rich.console import Console

    from harness.run.capacity import capacity_of

    out, err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)
    capacity = None if wan is None else capacity_of(wan)
    reports = [_examine(name, capacity, strict) for name in files]
    for report in reports:
        if as_json:
            continue
        for problem in report.problems:
            err.print(f"[red]{_plain(problem.where)}[/red]: {_plain(problem.message)}")
        if report.places is not None:
            print_findings(report.findings, report.places)
        if report.valid:
            out.print(f"[green]ok[/green] {_plain(report.name)}: {report.told}")
    valid = all(report.valid for report in reports)
    if as_json:
        print(json.dumps({"valid": valid, "files": [report.as_json() for report in reports]}, indent=2))
    return ExitCode.PASSED if valid else ExitCode.BAD_INPUT


@dataclass
class _Report:
    """What is to say of one file."""

    name: str
    problems: tuple[Problem, ...] = ()
    document: Topology | ProfileDocument | None = None
    places: Places | None = None
    findings: tuple[LintFinding, ...] = ()
    valid: bool = False

    @property
    def told(self) -> str:
        from harness.model.topology import Topology

        if not isinstance(self.document, Topology):
            return f"profile {self.document.name}" if self.document is not None else ""
        scheduled = f", {len(self.document.timeline)} scheduled" if self.document.timeline else ""
        return f"{len(self.document.sites)} sites, {len(self.document.links)} links{scheduled}"

    def as_json(self) -> dict[str, Any]:
        from harness.model.topology import Topology

        found: dict[str, Any] = {"file": self.name, "valid": self.valid}
        found["problems"] = [problem.model_dump() for problem in self.problems]
        if self.places is not None:
            found["lint"] = [finding_as_json(finding, self.places) for finding in self.findings]
        if isinstance(self.document, Topology):
            sites = self.document.site_names
            found["topology"] = {"name": self.document.name, "sites": sites, "links": len(self.document.links)}
        elif self.document is not None:
            found["profile"] = {"name": self.document.name}
        return found


def _examine(name: str, capacity: Capacity | None, strict: bool) -> _Report:
    from harness.config.places import load_placed
    from harness.config.problems import DocumentError, Problem
    from harness.config.shipped import find_topology
    from harness.errors import InputError
    from harness.plan.lint import LintSummary

    try:
        document, places = load_placed(find_topology(name))
    except DocumentError as error:
        return _Report(name, error.problems)
    except InputError as error:
        message = error.message if error.hint is None else f"{error.message}; {error.hint}"
        return _Report(name, (Problem(file=name, line=None, column=None, message=message),))
    findings = lint_document(document, capacity)
    valid = not LintSummary.of(findings).refuses(strict=strict)
    return _Report(name, (), document, places, findings, valid)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
