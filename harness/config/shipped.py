"""Where the topologies and suites that come with the package lie, and finding one by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import harness
from harness.config.problems import did_you_mean
from harness.errors import InputError
from harness.model.units import quote


def shipped_dir(kind: Literal["topologies", "suites"]) -> Path:
    """The checkout's directory when the package is run from one, otherwise the installed copy."""
    package = Path(harness.__file__).resolve().parent
    checkout = package.parent / kind
    if checkout.is_dir() and (package.parent / "pyproject.toml").is_file():
        return checkout
    return package / "shipped" / kind


def shipped_topologies() -> tuple[str, ...]:
    """Names of the shipped topologies."""
    return tuple(sorted(path.stem for path in shipped_dir("topologies").glob("*.yaml")))


def find_topology(name_or_path: str) -> Path:
    """A topology's file: a path, or the name of a shipped one. Raises InputError with the names that there are."""
    try:
        path = Path(name_or_path)
        if path.is_file():
            return path
    except (OSError, ValueError):
        path = None
    shipped = shipped_topologies()
    if name_or_path in shipped:
        return shipped_dir("topologies") / f"{name_or_path}.yaml"
    wanted = path.stem if path is not None else name_or_path
    raise InputError(
        f"there is no topology {quote(name_or_path)}{did_you_mean(wanted, shipped)}",
        hint=f"give a file, or one of the shipped: {', '.join(shipped)}",
    )
