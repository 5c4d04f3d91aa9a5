"""Things that a lab makes on the host, written to the ledger before they are made, so that any crash can be undone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

from pydantic import ConfigDict

from harness.model.base import Value


class Resource(Value):
    """One thing made on the host.

    ``kind`` and ``name`` identify it:
    ``netns`` (name under /run/netns), ``link`` (interface name in the host's root namespace), ``process`` (pid in
    decimal, with ``start_ticks`` of /proc/PID/stat field 22 so that a reused pid is never killed),
    ``mount`` (mount point), ``directory`` (removed with its content), ``file``,
    ``route`` (prefix in the root namespace), ``cgroup`` (path), ``sysctl`` (of the host; ``note`` is its value before).
    What a later version notes beside these is passed over: it is a resource all the same.
    """

    model_config = ConfigDict(extra="ignore")

    kind: Literal["netns", "link", "process", "mount", "directory", "file", "route", "cgroup", "sysctl"]
    name: str
    start_ticks: int | None = None
    note: str = ""


class Recorder(Protocol):
    """Where builders record what they are about to make. The lab's ledger is one; tests use a list."""

    def record(self, resource: Resource) -> None:
        """Durably note the resource. Call before making it (for a process: right after, it dies with its parent)."""

    def forget(self, resource: Resource) -> None:
        """The resource is gone again."""


class BatchRecorder(Recorder, Protocol):
    """A recorder that can note several resources at the price of one."""

    def record_all(self, resources: Iterable[Resource]) -> None:
        """As ``record`` for each, in order."""
