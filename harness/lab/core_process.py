"""Processes of this host that belong to a lab: its WAN core's, if it has one, and its nodes'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.wan.machine import Machine


def core_machine(core: Mapping[str, Any]) -> Machine | None:
    """The micro-VM, from the core's state; None for a core in a namespace, or one that has ended."""
    if core.get("placement") != "vm":
        return None
    from harness.wan.machine import CORES_DIRECTORY, load_machine, start_ticks

    machine = load_machine(CORES_DIRECTORY / str(core["machine"]))
    if machine is None or start_ticks(machine.pid) != machine.start_ticks:
        return None
    return machine


def core_pid(core: Mapping[str, Any]) -> int | None:
    """QEMU's pid; None as ``core_machine``."""
    machine = core_machine(core)
    return None if machine is None else machine.pid


def processes_of(init_pids: Mapping[str, int]) -> dict[int, str]:
    """Every living process of these nodes, by pid on this host: those of the process namespace of a node's first."""
    node_of = {space: node for node, pid in init_pids.items() if (space := _pid_namespace(pid)) is not None}
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            node = node_of.get(_pid_namespace(int(entry.name)) or "")
            if node is not None:
                found[int(entry.name)] = node
    return found


def programs_running(program: str, init_pids: Mapping[str, int]) -> dict[int, str]:
    """Of these nodes' processes, those of a program with this in its name."""
    return {pid: node for pid, node in processes_of(init_pids).items() if program in Path(_command(pid)).name}


def _pid_namespace(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return None


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return ""
