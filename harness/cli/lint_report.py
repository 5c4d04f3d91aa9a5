"""The linter as commands show it: after the file's own problems in ``validate``, before a lab in ``run`` and ``up``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.config.places import Places
    from harness.config.profile_document import ProfileDocument
    from harness.model.topology import Topology
    from harness.plan.lint import LintFinding
    from harness.plan.lint_finding import Capacity

StrictOption = Annotated[
    bool, typer.Option("--strict", help="Take the linter's warnings for errors: exit code 2, nothing is built.")
]

_STYLES = {"error": "red", "warning": "yellow", "note": "dim"}


def lint_document(document: Topology | ProfileDocument, capacity: Capacity | None = None) -> tuple[LintFinding, ...]:
    """Every finding of a topology or of a profile, whose subjects begin with its direction."""
    from harness.model.impairment import Impairment
    from harness.model.topology import Topology
    from harness.plan.lint import lint_profile, lint_topology
    from harness.run.access import in_series

    if isinstance(document, Topology):
        return (*lint_topology(document, capacity), *_lint_traces(document))
    up, down = (in_series(Impairment(), keys) for keys in (document.uplink, document.downlink))
    return tuple(finding for _, finding in lint_profile(up, down))


def _lint_traces(topology: Topology) -> Iterator[LintFinding]:
    from pathlib import Path

    from harness.config.trace_file import load_trace
    from harness.plan.lint_time import check_playback

    for index, play in enumerate(topology.traces):
        yield from check_playback(load_trace(Path(play.file)), index, play.speed)


def checked_topology(
    path: Path, wan: Literal["auto", "netns", "vm"], *, strict: bool, sites: int | None = None
) -> Topology:
    """A topology that may be built, cut to its first ``sites``; what the linter warns of goes to standard error.

    Raises DocumentError for a file that is wrong, InputError when the linter refuses it.
    """
    from harness.config.places import load_placed
    from harness.config.profile_document import ProfileDocument
    from harness.config.topology_file import load_topology
    from harness.errors import InputError
    from harness.plan.lint import LintSummary
    from harness.run.capacity import capacity_of
    from harness.run.sites import first_sites

    placed = load_placed(path)
    if isinstance(placed.document, ProfileDocument):
        # The topology's own reader says best what is missing.
        return load_topology(path)
    topology = first_sites(placed.document, sites)
    findings = lint_document(topology, capacity_of(wan))
    if sites is not None:
        # Entries of the cut topology are numbered anew: their findings stand at the section's begin.
        findings = tuple(_without_index(finding) for finding in findings)
    grave = [finding for finding in findings if finding.severity != "note"]
    if LintSummary.of(findings).refuses(strict=strict):
        raise InputError(
            "the linter refuses this topology\n" + "\n".join(in_words(finding, placed.places) for finding in grave),
            hint=f"longhaul validate {path} says more"
            + ("; without --strict a warning is only told" if strict else ""),
        )
    print_findings(grave, placed.places)
    return topology


def _without_index(finding: LintFinding) -> LintFinding:
    match finding.subject:
        case (str() as section, int(), *_):
            return finding.model_copy(update={"subject": (section,)})
    return finding


def in_words(finding: LintFinding, places: Places) -> str:
    """``file:line:column: warning: reason; write ... instead [rule]``."""
    instead = f"; write {finding.instead}" if finding.instead else ""
    return (
        f"{places.of(finding.subject)}: {finding.severity}: {finding.where}: {finding.reason}{instead} [{finding.rule}]"
    )


def print_findings(findings: Sequence[LintFinding], places: Places) -> None:
    """One line for each, on standard error."""
    from rich.console import Console
    from rich.markup import escape

    err = Console(stderr=True, highlight=False, soft_wrap=True)
    for finding in findings:
        style = _STYLES[finding.severity]
        instead = f"; write {finding.instead}" if finding.instead else ""
        err.print(
            f"{escape(str(places.of(finding.subject)))}: [{style}]{finding.severity}[/{style}]: "
            f"{escape(f'{finding.where}: {finding.reason}{instead}')} [dim]{escape(f'[{finding.rule}]')}[/dim]"
        )


def as_json(finding: LintFinding, places: Places) -> dict[str, object]:
    """One finding with its place in the file."""
    place = places.of(finding.subject)
    return {
        "severity": finding.severity,
        "rule": finding.rule,
        "where": finding.where,
        "subject": list(finding.subject),
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "reason": finding.reason,
        "instead": finding.instead,
    }
