"""What a peer may ask to have installed."""

from __future__ import annotations

import os

from syncer.core.records import DIGEST_SIZE, Entry, Kind
from syncer.errors import WireError
from syncer.files.root import PATH_MAX, TIME_LIMIT_NS, is_valid_path


def check_entry(entry: Entry) -> None:
    """Raises WireError for an entry that no honest peer sends: a path that leads elsewhere, impossible values.

    The installer asks this of everything; ask it of a peer's entries as they come, to drop a peer that breaks it.
    """
    check_path(entry.path)
    if entry.deleted:
        return
    if not 0 <= entry.mode <= 0o7777:
        raise _impossible(entry, f"mode {entry.mode:o}")
    if not -TIME_LIMIT_NS <= entry.mtime_ns < TIME_LIMIT_NS:
        raise _impossible(entry, f"mtime {entry.mtime_ns}")
    if entry.kind is Kind.SYMLINK and (not 0 < len(entry.target) < PATH_MAX or b"\0" in entry.target):
        raise _impossible(entry, "symlink target")
    if entry.kind is Kind.FILE:
        content = entry.content
        if content is None or content.size < 0 or content.block_size <= 0 or len(content.digest) != DIGEST_SIZE:
            raise _impossible(entry, "content")
        if len(content.blocks) != DIGEST_SIZE * -(-content.size // content.block_size):
            raise _impossible(entry, "number of blocks")


def check_path(path: bytes) -> None:
    """Raises WireError for a path that leads elsewhere or is private."""
    if not is_valid_path(path):
        raise WireError(f"{os.fsdecode(path)!r} is no path that may be synced")


def _impossible(entry: Entry, what: str) -> WireError:
    return WireError(f"{os.fsdecode(entry.path)!r} has an impossible {what}")
