"""What a checker says."""

from __future__ import annotations

from collections.abc import Iterable

from harness.model.base import Value
from harness.model.verdict import Verdict


class Finding(Value):
    """One thing that is wrong. ``path`` is text as ``path_text`` writes it; ``site`` is empty when it concerns all."""

    checker: str
    path: str
    site: str = ""
    problem: str

    def __str__(self) -> str:
        place = f"{self.site}: " if self.site else ""
        return f"[{self.checker}] {place}{self.path}: {self.problem}"


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """FAIL when there is any."""
    return Verdict.FAIL if any(True for _ in findings) else Verdict.PASS


def summary(findings: tuple[Finding, ...], limit: int = 12) -> str:
    """A few lines for a person; says how many were left out."""
    lines = [str(finding) for finding in findings[:limit]]
    if len(findings) > limit:
        lines.append(f"... and {len(findings) - limit} more")
    return "\n".join(lines)
