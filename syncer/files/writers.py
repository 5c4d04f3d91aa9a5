"""Is a file open for writing? The kernel knows: a read lease is refused while it is."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_F_SETSIG = 10


@contextmanager
def without_writers(fd: int) -> Iterator[bool]:
    """Yields False if some process has the file open for writing (or mapped so).

    If it yields True, whoever opens it for writing meanwhile waits until the block is left. Where leases are not to be
    had (another user's file without CAP_LEASE, some network file systems) it yields True and holds nothing off.
    """
    try:
        # the default signal, SIGIO, would end the process when somebody opens the file; SIGURG is ignored
        fcntl.fcntl(fd, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        yield error.errno != errno.EAGAIN
        return
    try:
        yield True
    finally:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def has_writers(directory: int, name: bytes) -> bool:
    """Whether the regular file ``name`` is open for writing somewhere; False where that can't be found out."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except PermissionError:
        return False
    try:
        with without_writers(fd) as free:
            return not free
    finally:
        os.close(fd)
