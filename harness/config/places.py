"""Where in a topology file each part of the topology that it became stands, for messages about the topology."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import NamedTuple

from harness.config.profile_document import ProfileDocument
from harness.config.profile_file import profile_of, read_file
from harness.config.topology_file import is_profile, topology_of
from harness.config.yaml_tree import Path, YamlTree, read_tree
from harness.model.topology import Topology

Subject = tuple[str | int, ...]


class Place(NamedTuple):
    """Lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Places:
    """Finds the place of a subject: ``("link", source, destination, key)``, ``("site", name, key)``,
    ``("timeline", index, key)``, ``("uplink", key)``, ``(key,)``; of its nearest part when it does not stand there."""

    def __init__(self, tree: YamlTree) -> None:
        self._tree = tree
        self._links = {ends: index for index, link in enumerate(_entries(tree)) for ends in _ends(link)}

    def of(self, subject: Subject) -> Place:
        """Where it is written; a link's key may stand in the link, behind its profile, or in the defaults."""
        problem = self._tree.problem(self._path(subject), "")
        return Place(problem.file, problem.line or 1, problem.column or 1)

    def _path(self, subject: Subject) -> Path:
        match subject:
            case ("link", str() as source, str() as destination, *rest):
                return self._link_path((source, destination), str(rest[0]) if rest else "")
            case ("site", *rest):
                return ("sites", *rest)
        return subject

    def _link_path(self, ends: tuple[str, str], key: str) -> Path:
        index = self._links.get(ends)
        entry: Path = ("defaults",) if index is None else ("links", index)
        written = self._tree.get(entry)
        keys = {"delay": ("delay", "rtt")}.get(key, (key,))
        if isinstance(written, dict):
            for name in keys:
                if name in written:
                    return (*entry, name)
            if "profile" in written:
                return (*entry, "profile")
        defaults = self._tree.get(("defaults",))
        if isinstance(defaults, dict):
            for name in keys:
                if name in defaults:
                    return ("defaults", name)
        return entry


class Placed(NamedTuple):
    """What a file says, and where."""

    document: Topology | ProfileDocument
    places: Places


def load_placed(path: FilePath) -> Placed:
    """Read and check a topology or a profile, whichever the file is. Raises DocumentError."""
    tree = read_tree(read_file(path), str(path))
    document = profile_of(tree, path) if is_profile(tree) else topology_of(tree, path)
    return Placed(document, Places(tree))


def _entries(tree: YamlTree) -> list[object]:
    links = tree.get(("links",))
    return list(links) if isinstance(links, list) else []


def _ends(link: object) -> list[tuple[str, str]]:
    if not isinstance(link, dict):
        return []
    between = link.get("between")
    if isinstance(between, list) and len(between) == 2:
        first, second = map(str, between)
        return [(first, second), (second, first)]
    return [(str(link.get("from")), str(link.get("to")))]
