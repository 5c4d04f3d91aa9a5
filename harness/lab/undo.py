"""Undoes what a ledger lists: processes first, then everything else in reverse order of making.

Each step is idempotent and checks that the thing is still the one that was made; an error does not stop the others.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from harness.errors import LonghaulError
from harness.lab.claims import claims
from harness.lab.ledger import LedgerContent
from harness.model.base import Value
from harness.model.resource import Resource
from harness.nodes import host_network, host_processes
from harness.nodes.host_lock import host_lock
from harness.nodes.network_settings import write_setting
from harness.wan.machine import CORE_NOTE, end_machines

_SHORTEST_REMOVABLE = 4
"""Parts of a path below which a directory is never removed, whatever a damaged ledger says (/var/lib/x has 4)."""


class Leftover(Value):
    """A resource that could not be undone, and why."""

    resource: Resource
    reason: str


def undo(content: LedgerContent) -> tuple[Leftover, ...]:
    """Undo everything outstanding; what is left."""
    same_boot = content.boot == host_processes.boot_id()
    processes = [resource for resource in content.outstanding if resource.kind == "process"]
    machines = [resource for resource in content.outstanding if _is_machine(resource)]
    others = [resource for resource in content.outstanding if resource.kind != "process"]
    leftovers = []
    if same_boot:
        # Processes go first, so that nothing makes more while the rest is undone.
        leftovers += _attempt(processes, lambda: _end_processes(processes))
        leftovers += _attempt(machines, lambda: _end_machines(machines))
    links = [resource for resource in others if resource.kind == "link"]
    leftovers += _attempt(links, lambda: host_network.remove_links([resource.name for resource in links]))
    for resource in reversed(others):
        if resource.kind == "link" or (resource.kind == "sysctl" and not same_boot):
            continue
        leftovers += _attempt([resource], partial(_UNDO[resource.kind], resource.name, resource.note))
    return tuple(leftovers)


def end_processes(content: LedgerContent) -> None:
    """End the outstanding processes alone. Raises NodeError when one survives."""
    if content.boot == host_processes.boot_id():
        _end_processes([resource for resource in content.outstanding if resource.kind == "process"])
        _end_machines([resource for resource in content.outstanding if _is_machine(resource)])


def _attempt(resources: Sequence[Resource], act: Callable[[], None]) -> list[Leftover]:
    try:
        act()
    except (LonghaulError, OSError) as error:
        return [Leftover(resource=resource, reason=str(error)) for resource in resources]
    return []


def _end_processes(processes: Sequence[Resource]) -> None:
    host_processes.kill_all([(int(resource.name), resource.start_ticks) for resource in processes])


def _is_machine(resource: Resource) -> bool:
    return resource.kind == "directory" and resource.note == CORE_NOTE


def _end_machines(directories: Sequence[Resource]) -> None:
    """End what was started for these directories: a crash may have come before the process had its own line."""
    if directories:
        end_machines([Path(resource.name) for resource in directories])


def _remove_directory(name: str, _note: str) -> None:
    path = Path(name)
    if not path.is_absolute() or len(path.parts) < _SHORTEST_REMOVABLE:
        raise LonghaulError(f"{name} is no directory that a lab makes")
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def _remove_stray_route(name: str, _note: str) -> None:
    with host_lock():
        if not claims():
            host_network.remove_stray_route(name)


def _restore_sysctl(name: str, note: str) -> None:
    with host_lock():
        write_setting(name, note)


def _remove_cgroup(name: str, _note: str) -> None:
    with suppress(FileNotFoundError):
        Path(name).rmdir()


def _remove_mount(name: str, _note: str) -> None:
    with host_lock():
        host_network.remove_mount(Path(name))


_UNDO: dict[str, Callable[[str, str], None]] = {
    "netns": lambda name, _: host_network.remove_namespace(name),
    "mount": _remove_mount,
    "directory": _remove_directory,
    "file": lambda name, _: Path(name).unlink(missing_ok=True),
    "route": _remove_stray_route,
    "cgroup": _remove_cgroup,
    "sysctl": _restore_sysctl,
}
