"""The file system's refusals as errors of ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from syncer.errors import DestinationChanged, DiskFailed, DiskFull

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_OCCUPIED = (errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR)


@contextmanager
def changing(path: bytes) -> Iterator[None]:
    """Any OSError inside becomes DiskFull, DestinationChanged or DiskFailed, in words about ``path``."""
    try:
        yield
    except OSError as error:
        raise refusal(path, error) from error


def refusal(path: bytes, error: OSError) -> DiskFull | DestinationChanged | DiskFailed:
    shown = os.fsdecode(path)
    if error.errno in _FULL:
        return DiskFull(
            f"no room for {shown!r}: {error.strerror}", hint="free space or quota on the folder's file system"
        )
    if error.errno in _NOT_THERE:
        return DestinationChanged(f"{shown!r} or a directory above it is gone or is no directory any more")
    if error.errno in _OCCUPIED:
        return DestinationChanged(f"something stands at {shown!r} already, or it is not empty")
    return DiskFailed(
        f"the file system refused a change of {shown!r}: {error.strerror}",
        hint="see the folder's permissions and the health of its disk",
    )
