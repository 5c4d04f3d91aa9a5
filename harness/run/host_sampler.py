"""Watches the host while a run goes on: steal, CPU pressure, the core's CPU, and how late a timer fires. Stand-alone.

Run as ``python -I -S host_sampler.py '{"file": ..., "core_pid": ..., "hertz": 50}'`` in a process of its own, so that
what keeps the run busy is not taken for a late machine. It writes one JSON object a second to ``file`` and ends at the
end of its standard input, so that it never outlives the run:

    {"at_s", "seconds", "steal", "busy", "pressure", "late_us": [..], "core_cpu", "core_busiest", "backlog_dropped"}

All shares are of the window: ``steal`` and ``busy`` of all CPUs' time, ``pressure`` the time in which some task waited
for a CPU (PSI, absent where the kernel has none), ``core_cpu`` the CPUs that the core's process used and
``core_busiest`` the share of its busiest thread; without a process, those of the kernel's soft interrupts on the CPUs.
``backlog_dropped`` are packets that the kernel's input queues dropped.
"""

# The import of pathlib would double the time that it takes to start.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import Any

WINDOW_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")
_SOFTIRQ, _STEAL = 6, 7
_UTIME, _STIME = 11, 12


def _cpu_times() -> list[list[int]]:
    """Ticks of all CPUs together, then of each: user, nice, system, idle, iowait, irq, softirq, steal."""
    with open("/proc/stat") as stat:
        return [[int(part) for part in line.split()[1:9]] for line in stat if line.startswith("cpu")]


def _pressure_us() -> int | None:
    try:
        with open("/proc/pressure/cpu") as pressure:
            return int(pressure.readline().rsplit("total=", 1)[1])
    except (OSError, IndexError, ValueError):
        return None


def _backlog_dropped() -> int:
    with open("/proc/net/softnet_stat") as table:
        return sum(int(line.split()[1], 16) for line in table)


def _thread_ticks(pid: int | None) -> dict[str, int]:
    found: dict[str, int] = {}
    if pid is None:
        return found
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
            found[thread] = int(fields[_UTIME]) + int(fields[_STIME])
    except OSError:
        return found
    return found


def _snapshot(pid: int | None) -> dict[str, Any]:
    return {
        "at": time.monotonic(),
        "cpu": _cpu_times(),
        "pressure": _pressure_us(),
        "dropped": _backlog_dropped(),
        "threads": _thread_ticks(pid),
    }


def _window(before: dict[str, Any], now: dict[str, Any], late_us: list[int], pid: int | None) -> dict[str, Any]:
    seconds = now["at"] - before["at"]
    used = [[b - a for a, b in zip(old, new, strict=True)] for old, new in zip(before["cpu"], now["cpu"], strict=False)]
    total = max(1, sum(used[0]))
    waiting = used[0][3] + used[0][4]
    if pid is None:
        shares = [cpu[_SOFTIRQ] / max(1, sum(cpu)) for cpu in used[1:]]
        core_cpu, busiest = sum(shares), max(shares, default=0.0)
    else:
        gains = [ticks - before["threads"].get(thread, ticks) for thread, ticks in now["threads"].items()]
        core_cpu, busiest = (value / _TICKS / seconds for value in (sum(gains), max(gains, default=0)))
    found = {
        "at_s": round(now["at"], 3),
        "seconds": round(seconds, 4),
        "steal": round(used[0][_STEAL] / total, 4),
        "busy": round(1 - waiting / total, 4),
        "late_us": late_us,
        "core_cpu": round(core_cpu, 4),
        "core_busiest": round(busiest, 4),
        "backlog_dropped": now["dropped"] - before["dropped"],
    }
    if now["pressure"] is not None and before["pressure"] is not None:
        found["pressure"] = round(min(1.0, (now["pressure"] - before["pressure"]) / 1e6 / seconds), 4)
    return found


def main() -> None:
    """Sample until standard input ends."""
    spec = json.loads(sys.argv[1])
    pid, period = spec.get("core_pid"), 1.0 / spec.get("hertz", 50)
    with open(spec["file"], "a", buffering=1) as out:
        before = _snapshot(pid)
        late_us: list[int] = []
        due = time.monotonic() + period
        ended = False
        while not ended:
            ready, _, _ = select.select([0], [], [], max(0.0, due - time.monotonic()))
            ended = bool(ready)
            now = time.monotonic()
            if not ended:
                late_us.append(max(0, round((now - due) * 1e6)))
                # What was missed is one lateness, not many.
                due = max(due + period, now + period / 2)
            if ended or now - before["at"] >= WINDOW_S:
                after = _snapshot(pid)
                if after["at"] - before["at"] >= WINDOW_S / 10:
                    out.write(json.dumps(_window(before, after, late_us, pid)) + "\n")
                before, late_us = after, []


if __name__ == "__main__":
    main()
