"""The processes of a namespace node as the host sees them, and signals to them: works while its sshd does not."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable
from pathlib import Path

from harness.errors import InputError, NodeError
from harness.model.base import Value
from harness.nodes import host_processes


class NodeProcess(Value):
    """``pid`` and ``parent`` are the host's, ``node_pid`` is the node's own."""

    pid: int
    start_ticks: int
    node_pid: int
    parent: int
    name: str
    argv: tuple[str, ...]

    @property
    def command(self) -> str:
        """Its command line; its name in brackets when it has none."""
        return " ".join(self.argv) or f"[{self.name}]"


def node_processes(init_pid: int) -> tuple[NodeProcess, ...]:
    """Every process of the node but its first, by pid. Raises NodeError when the node is gone."""
    try:
        world = str(Path(f"/proc/{init_pid}/ns/pid").readlink())
    except FileNotFoundError:
        raise NodeError("the node's first process has ended", hint="`longhaul status` shows what is left.") from None
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != init_pid:
            process = _read(int(entry.name), world)
            if process is not None:
                found.append(process)
    return tuple(sorted(found, key=lambda process: process.pid))


def matching(processes: Iterable[NodeProcess], pattern: str) -> tuple[NodeProcess, ...]:
    """Those whose command line the regular expression matches somewhere. Raises InputError for a bad expression."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"{pattern!r} is no regular expression: {error}") from None
    return tuple(process for process in processes if expression.search(process.command))


def topmost(processes: Iterable[NodeProcess]) -> tuple[NodeProcess, ...]:
    """Those whose parent is not among them."""
    pool = tuple(processes)
    pids = {process.pid for process in pool}
    return tuple(process for process in pool if process.parent not in pids)


def send(processes: Iterable[tuple[int, int]], number: signal.Signals) -> None:
    """A signal to each (pid, start ticks) that is still the same process."""
    for pid, ticks in processes:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if host_processes.start_ticks(pid) == ticks:
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            continue
        finally:
            os.close(descriptor)


def is_stopped(pid: int, ticks: int) -> bool:
    """Whether it is the same process and stopped by a signal."""
    if host_processes.start_ticks(pid) != ticks:
        return False
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] == "T"


def environment_of(pid: int) -> dict[str, str]:
    """The environment that it was started with."""
    text = Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "surrogateescape")
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def _read(pid: int, world: str) -> NodeProcess | None:
    try:
        if str(Path(f"/proc/{pid}/ns/pid").readlink()) != world:
            return None
        ticks = host_processes.start_ticks(pid)
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
        )
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "surrogateescape")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    if ticks is None:
        return None
    return NodeProcess(
        pid=pid,
        start_ticks=ticks,
        node_pid=int(status["NSpid"].split()[-1]),
        parent=int(status["PPid"]),
        name=status["Name"].strip(),
        argv=tuple(command.rstrip("\0").split("\0")) if command else (),
    )
