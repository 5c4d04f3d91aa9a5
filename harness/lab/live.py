"""Looks at a running lab: the core's counters, and how much CPU each node's processes have used."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from harness.lab.core_process import core_pid
from harness.lab.lab import Lab
from harness.plan.live import LabLook

_TICKS = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12


def look(lab: Lab) -> LabLook:
    """What its counters say now. Raises LabError."""
    pid = core_pid(lab.core.state())
    counters = lab.counters()
    return LabLook(
        at_s=time.monotonic(),
        counters=counters,
        node_cpu_s=node_cpu_seconds({name: node.state.pid for name, node in lab.nodes.items()}),
        core_cpu_s=None if pid is None else _process_seconds(pid),
    )


def node_cpu_seconds(init_pids: Mapping[str, int]) -> dict[str, float]:
    """CPU time of all living processes of each node, which are those of its process namespace."""
    node_of = {space: node for node, pid in init_pids.items() if (space := _pid_namespace(pid)) is not None}
    used = dict.fromkeys(init_pids, 0.0)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            space = _pid_namespace(int(entry.name))
            if space in node_of:
                used[node_of[space]] += _process_seconds(int(entry.name)) or 0.0
    return used


def _pid_namespace(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return None


def _process_seconds(pid: int) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS
