"""Durability: what was written and not knowingly replaced is still there, and nothing that was replaced comes back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from harness.checkers.convergence import describe
from harness.checkers.finding import Finding
from harness.checkers.versions import Versions
from harness.model.tree import Tree, path_text


def check_durability(versions: Versions, trees: Mapping[str, Tree]) -> tuple[Finding, ...]:
    """At every site: each version that nobody saw and superseded exists, as current or as a conflict copy; each thing
    that stands was written, with a mode that someone set, and was not superseded by all who could."""
    findings: list[Finding] = []
    for site, tree in trees.items():
        findings += _lost(versions, site, tree)
        findings += _unjustified(versions, site, tree)
    return tuple(findings)


def _lost(versions: Versions, site: str, tree: Tree) -> Iterator[Finding]:
    standing: dict[bytes, set[str]] = defaultdict(set)
    for path, entry in tree.items():
        standing[versions.family_path(path)].add(entry.content)
    for family in versions.families.values():
        for write in family.required():
            if write.after is not None and write.after.content not in standing[family.path]:
                problem = (
                    f"lost: {describe(write.after)} written at {write.site} at {write.began_s:.2f} s "
                    f"stands neither here nor in a conflict copy, and nobody replaced it"
                )
                yield Finding(checker="durability", path=path_text(write.path), site=site, problem=problem)


def _unjustified(versions: Versions, site: str, tree: Tree) -> Iterator[Finding]:
    occupied = {path.rpartition(b"/")[0] for path in tree}
    for path, entry in sorted(tree.items()):
        family = versions.family(path)
        if family is None or entry.content not in family.written():
            problem = f"{describe(entry)} was never written here"
        elif entry.mode not in family.modes():
            problem = f"{describe(entry)}: nobody set this mode"
        elif entry.content not in family.allowed() and not (
            entry.kind == "directory" and (path in occupied or versions.ever_held_something(path))
        ):
            problem = f"came back: {describe(entry)} had been seen and replaced or removed"
        elif entry.kind == "file" and path == family.path and family.replaced(entry):
            problem = f"came back: {describe(entry)} had been seen and given another mode"
        else:
            continue
        yield Finding(checker="durability", path=path_text(path), site=site, problem=problem)
