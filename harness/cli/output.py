"""Files and directories that a command's user named: one that cannot be written is bad input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import InputError


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Within, what the system has against writing is an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or output} cannot be written: {error.strerror}") from None


def make_directory(output: Path) -> None:
    """Make it, with those above it, before hours of measuring are to be written there. Raises InputError."""
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)


def require_writable(output: Path) -> None:
    """The same for a file, which is not touched yet. Raises InputError."""
    if not output.absolute().parent.is_dir() or output.is_dir():
        raise InputError(f"{output} cannot be written", hint="A file in a directory that exists.")
