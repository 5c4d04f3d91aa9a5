"""Every error that syncer raises on purpose, and the exit code that each becomes.

SyncerError                                                            exit 1
├── InputError             bad command line or configuration           exit 2
├── NotRunning             no engine answers in this home              exit 3
├── NotInSync              the deadline passed before all agreed       exit 4
├── StoreError             the index is damaged: put it aside, it is rebuilt
├── SourceChanged          a file changed while it was being read
├── Unreadable             a path is there but can't be read: never taken as deleted
├── DestinationChanged     a file changed just before it was replaced
├── RootMissing            the folder's marker is gone: nothing is inferred
├── DiskFull               no space or quota is left: pause, never delete
├── DiskFailed             the disk refused to read, write or flush
├── WireError              a peer or mover sent what the protocol forbids
└── TransportError         a mover's connection broke or was refused
"""

from __future__ import annotations


class SyncerError(Exception):
    """Base of the tree. ``hint`` is one sentence that tells the user how to mend it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(SyncerError):
    """Bad command line or configuration."""

    exit_code = 2


class NotRunning(SyncerError):
    """No engine answers in this home."""

    exit_code = 3


class NotInSync(SyncerError):
    """The deadline passed before all sites agreed."""

    exit_code = 4


class StoreError(SyncerError):
    """The index does not hold what was written: put its file aside; a new one is built, and nothing is deleted."""


class SourceChanged(SyncerError):
    """A file changed while it was being read; scan it again later."""


class Unreadable(SyncerError):
    """A path is there but cannot be read (permission, I/O error): it is never taken as deleted."""


class DestinationChanged(SyncerError):
    """What stands at the destination is not what the index knows; scan before replacing."""


class RootMissing(SyncerError):
    """The folder's marker is gone, so the folder may be unmounted: halt and infer no deletes."""


class DiskFull(SyncerError):
    """No space, inodes or quota are left: nothing was changed; pause, tell the user, never infer deletes."""


class DiskFailed(SyncerError):
    """The disk refused to read, write or flush: what was being written was thrown away and must be made again."""


class WireError(SyncerError):
    """A peer or a mover sent something that the protocol forbids."""


class TransportError(SyncerError):
    """A mover's connection broke, was refused or failed authentication."""
