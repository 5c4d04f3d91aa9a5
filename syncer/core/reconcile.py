"""What one site does about another site's version of a path. Pure; decided by version vectors, never by clocks.

A record is one value, the write that made it (its dot) and every write that it has seen (its vector). Only a site that
holds a losing value on its disk resolves a conflict: it keeps the loser as a conflict copy and takes the winner with
the joined vector. The holder of the winner waits for that, so no record ever claims to have seen a value that is not
safe under a name of its own.
"""

from __future__ import annotations

from enum import Enum

import msgspec
from blake3 import blake3
from msgspec.structs import replace

from syncer.core.records import Entry, Kind
from syncer.core.version_vector import Vector, join

NAME_LIMIT = 255
MARK = b".conflict-"


class Verdict(Enum):
    """What a remote record means here."""

    SAME = "same"  # it says nothing new
    JOIN = "join"  # our value stays, with a longer vector
    TAKE = "take"  # its value replaces ours
    THEIRS = "theirs"  # it loses to ours, and its holder has to keep a copy of it: wait for that


class Outcome(msgspec.Struct, frozen=True):
    """``target`` is the record to hold next (ours, unchanged, for SAME and THEIRS). ``displaced``: our value lost to a
    concurrent one and has to be kept as a conflict copy."""

    verdict: Verdict
    target: Entry
    displaced: bool = False


def seen(vector: Vector, dot: tuple[str, int]) -> bool:
    """Whether ``vector`` holds the write ``dot``."""
    return any(actor == dot[0] and count >= dot[1] for actor, count in vector)


def precedence(entry: Entry) -> tuple[int, bytes, int, int, str, tuple[str, int]]:
    """A total order on values for ties; the highest keeps the path. The same at all sites; no clock decides between
    values that differ in content."""
    kind = 0 if entry.deleted else int(entry.kind)
    return kind, identity(entry), entry.mode, entry.mtime_ns, entry.origin, entry.dot


def identity(entry: Entry) -> bytes:
    """What makes two values of one kind different to a user: digest, or the symlink's target."""
    if entry.deleted:
        return b""
    return entry.content.digest if entry.content is not None else entry.target


def same_content(left: Entry, right: Entry) -> bool:
    """Whether replacing one with the other loses no bytes."""
    return left.deleted == right.deleted and left.kind == right.kind and identity(left) == identity(right)


def copy_needed(loser: Entry, winner: Entry) -> bool:
    """Whether ``loser`` would be lost without a conflict copy."""
    return not loser.deleted and loser.kind is not Kind.DIRECTORY and not same_content(loser, winner)


def reconcile(local: Entry | None, remote: Entry) -> Outcome:
    """What ``remote`` means to a site that holds ``local`` (None: it never heard of the path)."""
    if local is None:
        return Outcome(Verdict.TAKE, remote)
    joined = join(local.vector, remote.vector)
    we_saw, they_saw = seen(local.vector, remote.dot), seen(remote.vector, local.dot)
    concurrent = not we_saw and not they_saw
    if local.dot == remote.dot or we_saw != they_saw:
        ours_stays = we_saw
    elif not concurrent and local.vector != remote.vector and joined in (local.vector, remote.vector):
        ours_stays = joined == local.vector
    else:
        ours_stays = precedence(local) > precedence(remote)
    if ours_stays:
        if concurrent and copy_needed(remote, local):
            return Outcome(Verdict.THEIRS, local)
        if joined == local.vector:
            return Outcome(Verdict.SAME, local)
        return Outcome(Verdict.JOIN, replace(local, vector=joined))
    return Outcome(Verdict.TAKE, replace(remote, vector=joined), concurrent and copy_needed(local, remote))


def conflict_path(loser: Entry, *, digits: int = 8) -> bytes:
    """``<stem>.conflict-<origin>-<hex><ext>`` beside the loser, the same at all sites; the name fits in 255 bytes."""
    parent, slash, name = loser.path.rpartition(b"/")
    stem, dot, extension = name.rpartition(b".")
    if not stem or len(extension) > 16:
        stem, dot, extension = name, b"", b""
    digest = loser.content.digest if loser.content is not None else blake3(loser.target).digest()
    mark = MARK + loser.origin.encode() + b"-" + digest.hex().encode()[:digits]
    tail = mark + dot + extension
    return parent + slash + stem[: NAME_LIMIT - len(tail)] + tail


def conflict_copy(loser: Entry, path: bytes) -> Entry:
    """The record of ``loser`` under its conflict name: every site that keeps the copy makes the very same record."""
    actor = f"{loser.dot[0]}/{loser.dot[1]}"
    return replace(loser, path=path, vector=((actor, 1),), dot=(actor, 1))


def is_conflict_copy(path: bytes) -> bool:
    """Whether a path has the name of a conflict copy."""
    return MARK in path.rpartition(b"/")[2]
