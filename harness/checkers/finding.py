"""What a checker says."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.base import Value


class Finding(Value):
    """One thing that is wrong. ``path`` is text as ``path_text`` writes it; ``site`` is empty when it concerns all."""

    checker: str
    path: str
    site: str = ""
    problem: str


def summary(findings: Sequence[Finding], limit: int = 12) -> str:
    """A few lines for a person: the same problem at several sites is one line; says how many lines were left out."""
    sites: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        sites.setdefault((finding.checker, finding.path, finding.problem), []).append(finding.site)
    lines = [
        f"[{checker}] {', '.join(filter(None, where)) or 'all sites'}: {path}: {problem}"
        for (checker, path, problem), where in sites.items()
    ]
    if len(lines) > limit:
        lines[limit:] = [f"... and {len(lines) - limit} more"]
    return "\n".join(lines)
