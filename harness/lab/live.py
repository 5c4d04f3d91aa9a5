"""Looks at a running lab: the core's counters, and how much CPU each node's processes have used."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from harness.lab.core_process import core_pid, processes_of
from harness.lab.lab import Lab
from harness.plan.live import LabLook

_TICKS = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12
_CHILDREN = 13, 14


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
    """CPU time of all living processes of each node."""
    used = dict.fromkeys(init_pids, 0.0)
    for pid, node in processes_of(init_pids).items():
        used[node] += _process_seconds(pid) or 0.0
    return used


def node_cpu_seconds_in_all(init_pids: Mapping[str, int]) -> dict[str, float]:
    """CPU time of each node's processes, with that of those that have ended and were waited for: its difference over a
    time is what was used in that time, whoever came and went."""
    used = dict.fromkeys(init_pids, 0.0)
    for pid, node in processes_of(init_pids).items():
        used[node] += _process_seconds(pid, with_children=True) or 0.0
    return used


def _process_seconds(pid: int, *, with_children: bool = False) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    places = (_UTIME, _STIME, *_CHILDREN) if with_children else (_UTIME, _STIME)
    return sum(int(fields[place]) for place in places) / _TICKS
