"""Conflicts: a conflict copy exists only for a version that was really written, and concurrently with another."""

from __future__ import annotations

from collections.abc import Mapping

from harness.checkers.finding import Finding
from harness.checkers.versions import OriginalOf, Versions
from harness.model.tree import Tree, path_text


def check_conflicts(versions: Versions, trees: Mapping[str, Tree], original_of: OriginalOf) -> tuple[Finding, ...]:
    """One finding for each conflict copy (at the first site that holds it) that should not be.

    That all sites give it the same name is for convergence to say.
    """
    findings = []
    copies: dict[bytes, tuple[str, str]] = {}
    for site, tree in trees.items():
        for path, entry in tree.items():
            if original_of(path) is not None:
                copies.setdefault(path, (site, entry.content))
    for path, (site, content) in sorted(copies.items()):
        family = versions.family(path)
        if family is None or content not in family.written():
            problem = "conflict copy of a version that nobody wrote"
        elif not family.has_rival(content):
            problem = "conflict copy of a version that was in no conflict"
        else:
            continue
        findings.append(Finding(checker="conflicts", path=path_text(path), site=site, problem=problem))
    return tuple(findings)
