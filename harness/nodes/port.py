"""The node ports: a place to run things, and the remote through which everything on it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from harness.model.base import Value


class Completed(Value):
    """A command that ended. Streams are text (UTF-8 with surrogateescape); seconds of wall time."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str
    seconds: float


class RemoteProcess(Value):
    """A detached process on a node. ``pid`` is the one that commands on the node see; ``log`` is on the node."""

    name: str
    pid: int
    log: str


class Remote(Protocol):
    """The only way in which anything is run on a node (Fabric over SSH on the management network)."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: str | None = None,
    ) -> Completed:
        """Run and wait. Raises RemoteTimeout past the deadline (the process is killed) and, when ``check``,
        NodeError with both streams for a non-zero exit."""

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> RemoteProcess:
        """Start a process that outlives the SSH session; its streams go to a log file in the node's log directory."""

    def signal(self, pid: int, signal: str) -> bool:
        """Send TERM, KILL, STOP ... to a process on the node; False when there is no such process. After KILL, returns
        when the process is gone, so that whoever looks next does not take it for alive."""

    def put(self, local: Path, remote: str) -> None:
        """Copy a file to the node."""

    def get(self, remote: str, local: Path) -> None:
        """Copy a file from the node."""

    def close(self) -> None:
        """Close the SSH connection."""


class Node(Protocol):
    """One host at a site. ``data_dir`` and ``log_dir`` are absolute paths as seen on the node.

    ``wan_address`` is its own, to bind to; ``public_address`` is where other sites find it, which differs behind NAT.
    """

    name: str
    site: str
    wan_address: str
    public_address: str
    data_dir: str
    log_dir: str

    @property
    def remote(self) -> Remote:
        """Runs things on it."""
