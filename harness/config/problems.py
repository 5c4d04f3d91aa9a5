"""A mistake in a file, where it is, and the error that carries all mistakes of a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from harness.errors import InputError
from harness.model.base import Value
from harness.model.units import quote


class Problem(Value):
    """One mistake. Lines and columns count from 1; a file that cannot be read has none."""

    file: str
    line: int | None
    column: int | None
    message: str

    @property
    def where(self) -> str:
        """``file:line:column``, or the file alone."""
        return self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class DocumentError(InputError):
    """Every problem of a file, in the file's order, one to a line of the message."""

    def __init__(self, problems: Iterable[Problem], *, hint: str | None = None) -> None:
        unique = dict.fromkeys(problems)
        ordered = sorted(unique, key=lambda problem: (problem.file, problem.line or 0, problem.column or 0))
        first, *rest = ordered
        super().__init__("\n".join([first.message, *map(str, rest)]), where=first.where, hint=hint)
        self.problems: tuple[Problem, ...] = tuple(ordered)


def did_you_mean(given: str, accepted: Sequence[str]) -> str:
    """``; did you mean 'rate'?`` when one accepted word is close, otherwise nothing."""
    close = get_close_matches(given.lower()[:80], accepted, n=1, cutoff=0.6)
    return f"; did you mean {quote(close[0])}?" if close else ""
