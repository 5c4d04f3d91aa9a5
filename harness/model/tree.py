"""A folder as it was seen at one site, and how its raw names are written as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

EntryKind = Literal["file", "directory", "symlink", "other"]

_ESCAPED = re.compile(r"\\x([0-9a-f]{2})|\\\\")


class TreeEntry(NamedTuple):
    """What stands at one path.

    ``digest`` is the hex BLAKE2b-256 of a file's bytes or of a symlink's target, empty for a directory.
    ``mode`` is permission bits; 0 for a symlink. ``size`` is in bytes, files only.
    """

    kind: EntryKind
    digest: str = ""
    mode: int = 0
    size: int = 0

    @property
    def content(self) -> str:
        """Names the content: two entries hold the same when this is equal, whatever their modes."""
        return f"{self.kind}:{self.digest}" if self.digest else self.kind


Tree = Mapping[bytes, TreeEntry]
"""Relative path, raw bytes, '/'-separated, to what stands there. The root itself is not in it."""


def path_text(raw: bytes) -> str:
    r"""A raw path as printable text that can be undone: ``\xNN`` for an unprintable byte, ``\\`` for a backslash."""
    shown = []
    for character in raw.decode("utf-8", "surrogateescape"):
        if character == "\\":
            shown.append("\\\\")
        elif character.isprintable():
            shown.append(character)
        else:
            shown.extend(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
    return "".join(shown)


def path_bytes(text: str) -> bytes:
    """The raw path that ``path_text`` wrote."""
    raw = bytearray()
    position = 0
    for match in _ESCAPED.finditer(text):
        raw += text[position : match.start()].encode()
        raw += bytes([int(match[1], 16)]) if match[1] else b"\\"
        position = match.end()
    return bytes(raw + text[position:].encode())


def tree_to_json(tree: Tree) -> list[list[Any]]:
    """Rows ``[path text, kind, digest, mode, size]`` in path order."""
    return [[path_text(path), *entry] for path, entry in sorted(tree.items())]


def tree_from_json(rows: list[list[Any]]) -> dict[bytes, TreeEntry]:
    """The tree that ``tree_to_json`` wrote."""
    return {path_bytes(path): entry_from_json(rest) for path, *rest in rows}


def entry_to_json(entry: TreeEntry | None) -> list[Any] | None:
    """``[kind, digest, mode, size]``, None where nothing stands."""
    return None if entry is None else list(entry)


def entry_from_json(row: list[Any]) -> TreeEntry:
    """The entry that ``entry_to_json`` wrote."""
    kind, digest, mode, size = row
    return TreeEntry(cast(EntryKind, kind), str(digest), int(mode), int(size))
