"""Which operations to carry out, from a seed alone. Pure: the same seed and calls give the same operations anywhere."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from pydantic import Field

from harness.model.base import Value

Operation = dict[str, str | int]
"""One request to the node agent: ``do`` and its arguments. Paths are text with surrogateescape."""

ODD_NAMES = (
    "two words",
    " leading and trailing ",
    "new\nline",
    "tab\there",
    "-rf",
    "~",
    ".hidden",
    "..three dots...",
    "back\\slash",
    "quote'\"`$(touch x)",
    "star*?[a-z]{b}",
    "colon:semi;pipe|amp&",
    "percent%41%00",
    "conflict.conflict",
    "κόσμος-世界-🌍",
    "e\u0301 decomposed",
    "\u202eright to left",
    "latin-1 caf\udce9",
    "bytes \udcff\udcfe\udc80",
    "long-" + "x" * 195,
)
MODES = (0o644, 0o600, 0o755, 0o640, 0o444)
SMALL_SIZES = (0, 24, 100, 4_095, 4_096, 4_097, 20_000, 140_000)


class WorkloadOptions(Value):
    """How much to do. Sizes in bytes; ``data`` is a directory on the harness's machine, None for the default tree."""

    files: int = Field(default=24, ge=1)
    operations: int = Field(default=40, ge=1)
    large_file_bytes: int = Field(default=100_000_000, ge=1)
    data: str | None = None


class Workload:
    """Draws operations. Each call draws from its own random source, so one test's draws do not disturb the next's."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._calls = 0

    def new_directory(self, label: str) -> str:
        """A name that was never given before."""
        return f"{label}-{self._next()}"

    def create_files(self, directory: str, count: int) -> list[Operation]:
        """A new directory with ``count`` files of mixed sizes and modes, some in subdirectories."""
        call, source = self._source()
        operations: list[Operation] = [{"do": "mkdir", "path": directory}]
        depth = [directory]
        for number in range(count):
            if number % 7 == 3:
                depth.append(f"{source.choice(depth)}/sub{number}")
                operations.append({"do": "mkdir", "path": depth[-1]})
            path = f"{source.choice(depth)}/file{number:03d}.dat"
            operations.append(self._create(path, call, number, source))
        return operations

    def create_file(self, path: str, size: int) -> Operation:
        """One file of ``size`` bytes."""
        call, _ = self._source()
        return {"do": "create", "path": path, "seed": self._seed(call, 0), "size": size}

    def rewrite(self, paths: Sequence[str], do: str) -> list[Operation]:
        """New content for each path; ``do`` is ``change`` (in place), ``save`` (rename over it) or ``append``."""
        call, source = self._source()
        return [
            {"do": do, "path": path, "seed": self._seed(call, number), "size": source.choice(SMALL_SIZES[1:])}
            for number, path in enumerate(paths)
        ]

    def odd_names(self, directory: str) -> list[Operation]:
        """Files, a link and directories with names that break careless programs."""
        call, source = self._source()
        operations: list[Operation] = [{"do": "mkdir", "path": directory}]
        for number, name in enumerate(ODD_NAMES):
            operations.append(self._create(f"{directory}/{name}", call, number, source))
        operations.append({"do": "mkdir", "path": f"{directory}/dir \udcff\n"})
        operations.append(self._create(f"{directory}/dir \udcff\n/inside", call, len(ODD_NAMES), source))
        return operations

    def special_entries(self, directory: str) -> list[Operation]:
        """Empty directories, symbolic links (good, dangling, to a directory) and every mode."""
        call, source = self._source()
        operations: list[Operation] = [
            {"do": "mkdir", "path": directory},
            {"do": "mkdir", "path": f"{directory}/empty", "mode": 0o700},
            {"do": "mkdir", "path": f"{directory}/empty/deeper"},
            {"do": "symlink", "path": f"{directory}/link to file", "target": "mode-644"},
            {"do": "symlink", "path": f"{directory}/link to directory", "target": "empty"},
            {"do": "symlink", "path": f"{directory}/dangling", "target": "../no/such \udcff"},
        ]
        for number, mode in enumerate(MODES):
            operations.append(self._create(f"{directory}/mode-{mode:o}", call, number, source) | {"mode": mode})
        return operations

    def mixed(self, sites: Sequence[str], existing: Sequence[str], count: int) -> Mapping[str, list[Operation]]:
        """``count`` random operations for each site at the same time, on files that all of them know.

        Sites do not coordinate, so many of these are in conflict; an operation whose path is gone is skipped there.
        """
        call, source = self._source()
        plans: dict[str, list[Operation]] = {}
        for index, site in enumerate(sites):
            known = list(existing)
            unique = f"{call}.{index}"
            plans[site] = [self._random_operation(source, known, site, unique, step) for step in range(count)]
        return plans

    def _random_operation(self, source: random.Random, known: list[str], site: str, call: str, step: int) -> Operation:
        target = source.choice(known)
        directory = str(PurePosixPath(target).parent)
        fresh = f"{directory}/{site}-{call}-{step}"
        unique = self._seed(call, step)
        size = source.choice(SMALL_SIZES[1:])
        match source.choices(
            ("create", "change", "append", "save", "rename", "delete", "mkdir", "chmod", "symlink"),
            (30, 15, 10, 10, 10, 10, 5, 5, 5),
        )[0]:
            case "create":
                known.append(fresh)
                return {"do": "create", "path": fresh, "seed": unique, "size": size}
            case "rename":
                known.remove(target)
                known.append(fresh)
                return {"do": "rename", "path": target, "to": fresh}
            case "delete":
                if len(known) > 1:
                    known.remove(target)
                return {"do": "delete", "path": target}
            case "mkdir":
                return {"do": "mkdir", "path": fresh}
            case "chmod":
                return {"do": "chmod", "path": target, "mode": source.choice(MODES)}
            case "symlink":
                return {"do": "symlink", "path": fresh, "target": unique}
            case rewrite:
                return {"do": rewrite, "path": target, "seed": unique, "size": size}

    def _create(self, path: str, call: int, number: int, source: random.Random) -> Operation:
        return {
            "do": "create",
            "path": path,
            "seed": self._seed(call, number),
            "size": source.choice(SMALL_SIZES),
            "mode": source.choice(MODES[:4]),
        }

    def _next(self) -> int:
        self._calls += 1
        return self._calls

    def _source(self) -> tuple[int, random.Random]:
        call = self._next()
        return call, random.Random(f"{self.seed}/{call}")

    def _seed(self, call: int | str, number: int) -> str:
        return f"{self.seed}/{call}/{number}"


def created_files(operations: Sequence[Operation]) -> list[str]:
    """Paths of the files that a plan creates, in its order."""
    return [str(operation["path"]) for operation in operations if operation["do"] == "create"]
