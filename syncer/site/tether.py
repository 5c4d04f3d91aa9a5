"""Run a command that dies with its parent and logs to a file: ``python -m syncer.site.tether LOG PARENT -- COMMAND``.

An orphan would run beside its successor. PARENT is the pid of the expected parent; 0: the process that was tethered
before, which passes its pid on in the environment. Without it, a parent that died while this one started would not be
missed where orphans get another parent than init.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
TETHER = "SYNCER_TETHER"


def die_with_parent(parent: int = 0) -> None:
    """Ask the kernel for SIGKILL when the parent dies; exit if ``parent`` has died already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if (parent and os.getppid() != parent) or os.getppid() == 1:
        os._exit(1)


def main() -> None:
    log, parent, separator, *command = sys.argv[1:]
    assert separator == "--"
    die_with_parent(int(parent) or int(os.environ.get(TETHER, "0")))
    os.environ[TETHER] = str(os.getpid())
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
