"""What stands in the folder. Scans are the truth; whatever they could not see is said, never taken as deleted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from syncer.core.records import Fingerprint, Kind
from syncer.files.root import PRIVATE, Root, fingerprint_of, kind_of


class Observed(NamedTuple):
    """One path as it stands. ``target`` is a symlink's, empty for others.

    A directory's size and times change with its children: of its fingerprint only device, inode and mode mean anything.
    """

    path: bytes
    kind: Kind
    fingerprint: Fingerprint
    target: bytes


class Problem(NamedTuple):
    """A path of which the scan knows nothing: the caller infers no change and no delete at it or below it.

    ``reason`` is for the log: no permission, an I/O error, a special file, another file system, changed meanwhile.
    """

    path: bytes
    reason: str


def observe(root: Root, path: bytes) -> Observed | Problem | None:
    """One path; None when nothing stands there. Ask this of a path before taking it as deleted: a listing of a directory
    that is being written to may miss names."""
    raise NotImplementedError


def scan(root: Root, subtree: bytes = b"", recursive: bool = True) -> Iterator[Observed | Problem]:
    """Everything below directory ``subtree`` and (unless it is the root) ``subtree`` itself, which may also be a file.

    A directory comes before what is in it; names in a directory come sorted. Not recursive: its direct children only.
    Nothing is yielded for a subtree that does not exist. Entries that vanish meanwhile are left out.
    Only a scan that was read to its end says what is absent: it raises RootMissing at its start or its end when the
    folder is not, or is no longer, the one that was opened.
    """
    raise NotImplementedError
    yield
