"""One lock for what all labs of this host share: slots, stray routes, the kernel's allowed congestion controls."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import PrivilegeError

HOST_DIRECTORY = Path("/run/longhaul")
"""The same for every state root, since interfaces, addresses and namespace names are the host's."""


@contextmanager
def host_lock() -> Iterator[Path]:
    """Hold the host's lock; gives ``HOST_DIRECTORY``, which is removed again when nothing is left in it.

    Not re-entrant. Raises PrivilegeError without root.
    """
    descriptor = _locked_directory()
    try:
        yield HOST_DIRECTORY
    finally:
        with suppress(OSError):
            HOST_DIRECTORY.rmdir()
        os.close(descriptor)


def _locked_directory() -> int:
    while True:
        try:
            HOST_DIRECTORY.mkdir(parents=True, exist_ok=True)
        except PermissionError as error:
            raise PrivilegeError(f"cannot write {HOST_DIRECTORY}", hint="Labs need root: run it with sudo.") from error
        try:
            descriptor = os.open(HOST_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Its last holder may have removed the directory while this one waited.
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == HOST_DIRECTORY.stat().st_ino:
                return descriptor
        os.close(descriptor)
