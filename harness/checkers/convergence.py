"""Convergence: when writing has stopped, all sites hold the same tree."""

from __future__ import annotations

from collections.abc import Mapping

from harness.checkers.finding import Finding
from harness.model.tree import Tree, TreeEntry, path_text


def check_convergence(trees: Mapping[str, Tree]) -> tuple[Finding, ...]:
    """One finding for each path at which a site differs from the first one, in path order.

    Compares names as raw bytes, kinds, contents, symlink targets and permission bits.
    """
    if not trees:
        return ()
    reference_site, *others = trees
    reference = trees[reference_site]
    findings = []
    for path in sorted(set().union(*trees.values())):
        expected = reference.get(path)
        for site in others:
            found = trees[site].get(path)
            if found != expected:
                problem = f"{describe(found)}, but {describe(expected)} at {reference_site}"
                findings.append(Finding(checker="convergence", path=path_text(path), site=site, problem=problem))
    return tuple(findings)


def describe(entry: TreeEntry | None) -> str:
    """A few words on what stands at a path."""
    if entry is None:
        return "nothing"
    if entry.kind == "directory":
        return f"directory {entry.mode:04o}"
    if entry.kind == "symlink":
        return f"symlink {entry.digest[:8]}"
    return f"{entry.kind} {entry.digest[:8]} of {entry.size} bytes, mode {entry.mode:04o}"
