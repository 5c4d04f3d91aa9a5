"""The process of this host that is a lab's WAN core, if it has one of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def core_pid(core: Mapping[str, Any]) -> int | None:
    """QEMU's pid, from the core's state in ``lab.json``; None for a core in a namespace, or one that has ended."""
    if core.get("placement") != "vm":
        return None
    from harness.wan.machine import CORES_DIRECTORY, load_machine, start_ticks

    machine = load_machine(CORES_DIRECTORY / str(core["machine"]))
    if machine is None or start_ticks(machine.pid) != machine.start_ticks:
        return None
    return machine.pid
