"""Faults of one namespace node, each with its undo: processes, disk, clock, files.

Every fault has four parts. ``prepare`` looks and decides, changes nothing, and says all that the undo needs (in JSON's
types); that is put on disk before ``make`` acts. ``undo`` may run in another process, twice, or after a fault that was
never made; it is told which faults of the kind remain in force on the node, since they overlap. ``problem`` says what
is not undone, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.errors import InputError
from harness.model.timeline import NodeFault, Target
from harness.nodes.namespace_node import NamespaceNode
from harness.nodes.node_processes import NodeProcess, matching, node_processes

Undo = Mapping[str, Any]
"""What a fault's undo needs."""

_OWN_PROGRAMS = ("sshd", "sshd-session")


@dataclass(frozen=True)
class FaultyNode:
    """A node as its faults see it. ``roles`` gives the roles of its processes by the node's own pids; ``start_again``
    starts the system under test as a service manager would after a boot.
    """

    node: NamespaceNode
    name: str
    lab_id: str
    roles: Callable[[], Mapping[int, str]] | None = None
    start_again: Callable[[], None] | None = None

    @property
    def init_pid(self) -> int:
        """Its first process, as the host sees it."""
        return self.node.state.pid

    @property
    def data(self) -> Path:
        """Its data directory, the same path here."""
        return Path(self.node.data_dir)

    @property
    def root(self) -> Path:
        """The directory that holds all its files."""
        return self.data.parent

    def processes(self, target: Target) -> tuple[NodeProcess, ...]:
        """Those that a target means, without the node's own sshd. Raises InputError when there is none."""
        every = [one for one in node_processes(self.init_pid) if one.name not in _OWN_PROGRAMS]
        if target.role is not None:
            found = self._by_role(every, target.role)
        elif target.command is not None:
            found = matching(every, target.command)
        else:
            found = tuple(every)
        if not found and (target.role is not None or target.command is not None):
            there = ", ".join(sorted({one.command[:60] for one in every})) or "nothing"
            raise InputError(f"{self.name} runs no {target.role or target.command!r}", hint=f"It runs: {there}.")
        return found

    def _by_role(self, every: Sequence[NodeProcess], role: str) -> tuple[NodeProcess, ...]:
        if self.roles is None:
            # Without the system's own word, a role is a word of the command line.
            return matching(every, rf"(?<![\w-]){role}(?![\w-])")
        found: tuple[NodeProcess, ...] = ()
        known: Mapping[int, str] = {}
        # An answer may be a moment old, and the process another one by now.
        for _ in range(2):
            known = self.roles()
            found = tuple(one for one in every if known.get(one.node_pid) == role)
            if found:
                break
        if not found:
            raise InputError(
                f"the system under test has no process {role!r} at {self.name}",
                hint=f"It has: {', '.join(sorted(set(known.values()))) or 'none'}.",
            )
        return found


class Fault(Protocol):
    """One kind of fault."""

    def prepare(self, node: FaultyNode, event: Any, others: Sequence[Undo]) -> dict[str, Any]:
        """What the undo will need; ``others`` are the undos of this kind in force there. Raises InputError when the
        fault cannot be made."""

    def make(self, node: FaultyNode, event: Any, undo: Undo, others: Sequence[Undo]) -> dict[str, Any]:
        """Make it; what the undo needs besides."""

    def undo(self, node: FaultyNode, event: Any, undo: Undo, others: Sequence[Undo]) -> None:
        """Undo it as far as the others allow."""

    def problem(self, node: FaultyNode, event: Any, undo: Undo, others: Sequence[Undo]) -> str | None:
        """What is not as it was, in one sentence."""


def fault_of(event: NodeFault) -> Fault:
    """The kind of an event."""
    from harness.nodes import node_faults_clock, node_faults_disk, node_faults_file, node_faults_process

    kinds: dict[str, Fault] = {
        **node_faults_process.KINDS,
        **node_faults_disk.KINDS,
        **node_faults_clock.KINDS,
        **node_faults_file.KINDS,
    }
    return kinds[event.do]
