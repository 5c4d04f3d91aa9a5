"""What a replica asks its surroundings to do. Each command is answered by one of the replica's event methods."""

from __future__ import annotations

from enum import Enum

import msgspec

from syncer.core.records import Entry, Fingerprint


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all commands."""


class SendDelta(Command, frozen=True):
    """Tell ``site`` these entries of our index. ``upto``: all up to this sequence number are told now. ``last``: that
    is all there is."""

    site: str
    entries: list[tuple[int, Entry]]
    upto: int
    last: bool


class SendAck(Command, frozen=True):
    """Everything of ``site``'s index up to ``seq`` is durable here."""

    site: str
    seq: int


class DeltaTaken(Command, frozen=True):
    """One of ``site``'s deltas was taken in: it may send one more."""

    site: str


class Fetch(Command, frozen=True):
    """Get ``entry``'s content from ``site`` into a temporary file. Answered by ``fetched`` or ``fetch_failed``."""

    job: int
    site: str
    entry: Entry


class CancelFetch(Command, frozen=True):
    """The content is not wanted any more; no answer is expected."""

    job: int
    site: str


class Source(Enum):
    """Where the content of what is installed comes from."""

    NONE = "none"  # a tombstone, a directory, a symlink, or only metadata differ
    TEMPORARY = "temporary"  # a complete temporary file
    LOCAL = "local"  # another file of this folder with the same digest


class Apply(Command, frozen=True):
    """Make ``entry`` stand at its path. Answered by ``applied`` or ``apply_failed``.

    ``known`` is what the index says stands there now (None or deleted: nothing); with ``fingerprint`` it is the
    precondition. ``metadata_only``: the content is right already. ``aside``: first keep what stands there under that
    path. ``local``: the file to copy from, for Source.LOCAL.
    """

    entry: Entry
    known: Entry | None
    fingerprint: Fingerprint | None
    metadata_only: bool
    source: Source
    aside: bytes | None = None
    local: bytes | None = None


class Rescan(Command, frozen=True):
    """Scan this path (and below, for a directory); then call ``observed``."""

    path: bytes


class IndexIsOld(Command, frozen=True):
    """``site`` has seen more of our index than there is: it was restored from a backup. Rebuild it from the folder,
    under a new epoch, before anything else is written."""

    site: str
