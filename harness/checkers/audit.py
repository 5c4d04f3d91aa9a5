"""All checkers at once: from a history and the trees that were read last to one list of findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.checkers.conflicts import check_conflicts
from harness.checkers.convergence import check_convergence
from harness.checkers.durability import check_durability
from harness.checkers.finding import Finding
from harness.checkers.versions import Effect, OriginalOf, Versions
from harness.model.tree import Tree


def audit(effects: Iterable[Effect], trees: Mapping[str, Tree], original_of: OriginalOf) -> tuple[Finding, ...]:
    """Convergence first, since the others are easier to read once it holds."""
    versions = Versions(effects, original_of)
    return (
        *check_convergence(trees),
        *check_durability(versions, trees),
        *check_conflicts(versions, trees, original_of),
    )
