"""Faults of a node's processes: kill, restart, pause, reboot, and no file descriptors left."""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import NodeError
from harness.model.timeline import Descriptors, Kill, Pause, Reboot, Restart
from harness.nodes import host_processes
from harness.nodes.commands import find_program
from harness.nodes.node_faults import Fault, FaultyNode, Undo
from harness.nodes.node_processes import NodeProcess, environment_of, is_stopped, node_processes, send, topmost

_STOP_DEADLINE_S = 5.0
_BOOT_DEADLINE_S = 20.0
_ROUNDS = 10
"""So often are the processes that a dying or stopping one still forked looked for."""


def _identities(processes: Iterable[NodeProcess]) -> list[list[int]]:
    return [[one.pid, one.start_ticks] for one in processes]


def _pairs(rows: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    return [(pid, ticks) for pid, ticks in rows]


class KillFault:
    """Nothing to undo: who supervises the process starts it again, or nobody does."""

    def prepare(self, node: FaultyNode, event: Kill, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        victims = node.processes(event.target)
        return {"processes": _identities(victims), "commands": [one.command for one in victims]}

    def make(self, node: FaultyNode, event: Kill, undo: Undo, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        host_processes.kill_all(_pairs(undo["processes"]))
        return {}

    def undo(self, node: FaultyNode, event: Kill, undo: Undo, others: Sequence[Undo]) -> None:
        """See Fault."""

    def problem(self, node: FaultyNode, event: Kill, undo: Undo, others: Sequence[Undo]) -> str | None:
        """See Fault."""
        return None


class RestartFault:
    """The topmost of the processes are started again with their own arguments, environment and directory."""

    def prepare(self, node: FaultyNode, event: Restart, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        victims = node.processes(event.target)
        services = [
            {"argv": one.argv, "env": environment_of(one.pid), "cwd": str(Path(f"/proc/{one.pid}/cwd").readlink())}
            for one in topmost(victims)
            if one.argv
        ]
        return {"processes": _identities(victims), "services": services}

    def make(self, node: FaultyNode, event: Restart, undo: Undo, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        host_processes.kill_all(_pairs(undo["processes"]))
        return {}

    def undo(self, node: FaultyNode, event: Restart, undo: Undo, others: Sequence[Undo]) -> None:
        """See Fault. A service that somebody started meanwhile is left alone."""
        for service in self._missing(node, undo):
            name = Path(service["argv"][0]).name
            node.node.remote.start(f"restarted-{name}", service["argv"], env=service["env"], cwd=service["cwd"])

    def problem(self, node: FaultyNode, event: Restart, undo: Undo, others: Sequence[Undo]) -> str | None:
        """See Fault."""
        missing = self._missing(node, undo)
        return f"{shlex.join(missing[0]['argv'])} does not run at {node.name}" if missing else None

    def _missing(self, node: FaultyNode, undo: Undo) -> list[dict[str, Any]]:
        running = {one.argv for one in node_processes(node.init_pid)}
        return [service for service in undo["services"] if tuple(service["argv"]) not in running]


class PauseFault:
    """Processes that another pause holds stay stopped."""

    def prepare(self, node: FaultyNode, event: Pause, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        return {"processes": _identities(node.processes(event.target))}

    def make(self, node: FaultyNode, event: Pause, undo: Undo, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault. What the processes forked while they were stopped is stopped as well."""
        held = _pairs(undo["processes"])
        send(held, signal.SIGSTOP)
        self._await_stopped(held)
        if event.target.role is None and event.target.command is None:
            for _ in range(_ROUNDS):
                new = [pair for pair in _pairs(_identities(node.processes(event.target))) if pair not in held]
                if not new:
                    break
                send(new, signal.SIGSTOP)
                self._await_stopped(new)
                held += new
        return {"processes": [list(pair) for pair in held]}

    def undo(self, node: FaultyNode, event: Pause, undo: Undo, others: Sequence[Undo]) -> None:
        """See Fault."""
        send(self._free(undo, others), signal.SIGCONT)

    def problem(self, node: FaultyNode, event: Pause, undo: Undo, others: Sequence[Undo]) -> str | None:
        """See Fault."""
        deadline = time.monotonic() + _STOP_DEADLINE_S
        free = self._free(undo, others)
        while stopped := [pid for pid, ticks in free if is_stopped(pid, ticks)]:
            if time.monotonic() > deadline:
                return f"processes of {node.name} are still stopped: {stopped}"
            time.sleep(0.005)
        return None

    def _free(self, undo: Undo, others: Sequence[Undo]) -> list[tuple[int, int]]:
        kept = {pair for other in others for pair in _pairs(other["processes"])}
        return [pair for pair in _pairs(undo["processes"]) if pair not in kept]

    def _await_stopped(self, processes: list[tuple[int, int]]) -> None:
        deadline = time.monotonic() + _STOP_DEADLINE_S
        for pid, ticks in processes:
            while host_processes.start_ticks(pid) == ticks and not is_stopped(pid, ticks):
                if time.monotonic() > deadline:
                    raise NodeError(f"process {pid} does not stop")
                time.sleep(0.002)


class RebootFault:
    """Kills all but the node's first process, and brings its sshd back. Files in /run go, as at a boot; others stay."""

    def prepare(self, node: FaultyNode, event: Reboot, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        node_processes(node.init_pid)
        return {}

    def make(self, node: FaultyNode, event: Reboot, undo: Undo, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        for _ in range(_ROUNDS):
            there = node_processes(node.init_pid)
            if not there:
                break
            host_processes.kill_all([(one.pid, one.start_ticks) for one in there])
        else:
            raise NodeError(f"{node.name} forks faster than it can be ended")
        node.node.remote.close()
        for directory, _, files in os.walk(node.root / "run"):
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    Path(directory, name).unlink()
        return {}

    def undo(self, node: FaultyNode, event: Reboot, undo: Undo, others: Sequence[Undo]) -> None:
        """See Fault."""
        if others:
            return
        node.node.remote.close()
        if not self._serves(node):
            self._start_sshd(node)
            if node.start_again is not None:
                node.start_again()

    def problem(self, node: FaultyNode, event: Reboot, undo: Undo, others: Sequence[Undo]) -> str | None:
        """See Fault."""
        if others:
            return None
        try:
            node.node.remote.run(["true"], timeout_s=_BOOT_DEADLINE_S)
        except NodeError as error:
            return f"{node.name} is not back: {error.message}"
        return None

    def _serves(self, node: FaultyNode) -> bool:
        return any(one.name == "sshd" and one.parent == node.init_pid for one in node_processes(node.init_pid))

    def _start_sshd(self, node: FaultyNode) -> None:
        sshd = find_program("sshd", "openssh-server")
        command = shlex.join([sshd, "-D", "-e", "-f", str(node.root / "etc" / "sshd_config")])
        log = shlex.quote(str(node.root / "log" / "sshd.log"))
        script = f"mkdir -p /run/sshd && {{ setsid {command} </dev/null >>{log} 2>&1 & }}"
        enter = ["nsenter", "-t", str(node.init_pid), "-m", "-u", "-i", "-n", "-p", "--wd=/", "sh", "-c", script]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(enter, capture_output=True, text=True, env=environment, timeout=_BOOT_DEADLINE_S)
        if done.returncode:
            raise NodeError(f"the sshd of {node.name} does not start: {done.stderr.strip()}")
        deadline = time.monotonic() + _BOOT_DEADLINE_S
        while ":0016 00000000:0000 0A" not in Path(f"/proc/{node.init_pid}/net/tcp").read_text():
            if time.monotonic() > deadline:
                raise NodeError(f"the sshd of {node.name} does not listen", hint=f"Its log is {log}.")
            time.sleep(0.005)


class DescriptorsFault:
    """Lowers the soft limit of open files of running processes; what they had before the first of the faults is put
    back when the last one ends."""

    def prepare(self, node: FaultyNode, event: Descriptors, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        limits = []
        # What another one lowered is not what a process had.
        had = {(pid, ticks): soft for other in others for pid, ticks, soft in other["limits"]}
        for one in node.processes(event.target):
            with contextlib.suppress(ProcessLookupError):
                soft, _ = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
                limits.append([one.pid, one.start_ticks, had.get((one.pid, one.start_ticks), soft)])
        return {"limits": limits}

    def make(self, node: FaultyNode, event: Descriptors, undo: Undo, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        for pid, ticks, _ in undo["limits"]:
            if host_processes.start_ticks(pid) == ticks:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    lowest = self._lowest(pid, event.spare)
                    now, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(now, lowest), hard))
        return {}

    def undo(self, node: FaultyNode, event: Descriptors, undo: Undo, others: Sequence[Undo]) -> None:
        """See Fault."""
        for pid, soft in self._free(undo, others).items():
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft if hard < 0 else min(soft, hard), hard))

    def problem(self, node: FaultyNode, event: Descriptors, undo: Undo, others: Sequence[Undo]) -> str | None:
        """See Fault."""
        for pid, soft in self._free(undo, others).items():
            with contextlib.suppress(ProcessLookupError):
                now, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                if now < soft:
                    return f"process {pid} of {node.name} may open {now} files, and {soft} before"
        return None

    def _lowest(self, pid: int, spare: int) -> int:
        """The limit that leaves ``spare``: it bounds the numbers of descriptors, and the kernel gives out the lowest
        that is free, so free numbers below the highest one in use count."""
        used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}  # noqa: PTH208 - Path has no plain names
        limit = 0
        free = 0
        while free < spare or limit in used:
            free += limit not in used
            limit += 1
        return limit

    def _free(self, undo: Undo, others: Sequence[Undo]) -> dict[int, int]:
        kept = {(pid, ticks) for other in others for pid, ticks, _ in other["limits"]}
        return {
            pid: soft
            for pid, ticks, soft in undo["limits"]
            if (pid, ticks) not in kept and host_processes.start_ticks(pid) == ticks
        }


KINDS: dict[str, Fault] = {
    "kill": KillFault(),
    "restart": RestartFault(),
    "pause": PauseFault(),
    "reboot": RebootFault(),
    "descriptors": DescriptorsFault(),
}
