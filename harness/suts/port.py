"""The SUT port: what a system must be able to do to be run through the suites."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from harness.model.base import Value
from harness.model.topology import Topology
from harness.nodes.port import Node


class SutProcess(Value):
    """One process of the SUT on a node; ``role`` is what the fault suites name (``coordinator``, ``mover-udt`` ...)."""

    role: str
    pid: int


class Sut(Protocol):
    """A system that keeps a folder the same at all sites."""

    name: str

    def check(self, topology: Topology) -> None:
        """Asked before a lab is built. Raises InputError when the system cannot work on such a WAN at all."""

    def start(self, nodes: Mapping[str, Node], workspace: str) -> None:
        """Configure and start it at every node with a fresh folder below ``data_dir/workspace``; return when it serves.
        Raises SutError with the log's tail when it does not."""

    def stop(self) -> None:
        """Stop it at every node; idempotent."""

    def revive(self, site: str) -> bool:
        """As a service manager would after a crash: start it again where it does not run. True when it did."""

    def folder(self, site: str) -> str:
        """Absolute path of the replicated folder at a site."""

    def ignored(self, relative: bytes) -> bool:
        """Whether a path in the folder belongs to the SUT itself and is no user data."""

    def conflict_original(self, relative: bytes) -> bytes | None:
        """The path of which this is a conflict copy; None when it is not one."""

    def settled(self, timeout_s: float) -> bool:
        """Wait until the SUT itself says that all sites agree; False when the deadline passes."""

    def processes(self, site: str) -> tuple[SutProcess, ...]:
        """Its processes at a site now."""

    def versions(self) -> Mapping[str, str]:
        """Names and versions for the report."""

    def collect_logs(self, directory: Path) -> None:
        """Copy every log to ``directory/<site>/``."""
