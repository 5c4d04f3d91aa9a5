"""Processes of this host, named by pid and start time so that a reused pid is never mistaken for the old process."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.errors import NodeError

_STATE_FIELD = 0
_START_TICKS_FIELD = 19
_DEAD_STATES = ("Z", "X")


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the command's name; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def start_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since boot (field 22 of its stat); None when it has ended."""
    fields = _stat_fields(pid)
    if fields is None or fields[_STATE_FIELD] in _DEAD_STATES:
        return None
    return int(fields[_START_TICKS_FIELD])


def boot_id() -> str:
    """Names this boot of the machine: pids and interfaces of another boot are gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def kill_all(processes: Sequence[tuple[int, int | None]], *, deadline_s: float = 10.0) -> None:
    """SIGKILL each (pid, start ticks) that is still the same process, and wait until all have ended.

    Raises NodeError when one survives the deadline.
    """
    watched: dict[int, int] = {}
    try:
        for pid, ticks in processes:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            if ticks is not None and start_ticks(pid) != ticks:
                os.close(descriptor)
                continue
            watched[descriptor] = pid
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        _wait_for_end(watched, time.monotonic() + deadline_s)
    finally:
        for descriptor in watched:
            os.close(descriptor)


def _wait_for_end(watched: dict[int, int], deadline: float) -> None:
    poller = select.poll()
    for descriptor in watched:
        poller.register(descriptor, select.POLLIN)
    alive = dict(watched)
    while alive:
        ready = poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready:
            raise NodeError(f"processes survive SIGKILL: {sorted(alive.values())}")
        for descriptor, _ in ready:
            poller.unregister(descriptor)
            del alive[descriptor]
