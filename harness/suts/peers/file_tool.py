"""A command line tool that copies files: started, watched at the destination, and ended. One class for all of them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from harness.model.bench import Transport, WorkloadKind
from harness.nodes.port import Node, RemoteProcess
from harness.suts.peers.arrivals import watching
from harness.suts.peers.port import Ends, Job, Received
from harness.suts.peers.staging import WanSsh, cleared, empty_place, end_group, end_named, has_ended, staged

START_UP_S = 20.0


class FileTool(ABC):
    """A Peer whose program runs at one of the ends and says little."""

    name: str
    title: str
    transport: Transport = "tcp"
    workloads: frozenset[WorkloadKind] = frozenset({"large", "small"})
    programs: tuple[str, ...] = ()
    leftovers: ClassVar[Sequence[str]] = ()
    """Patterns of what may outlive the program at the other end."""

    pulls: ClassVar[bool] = False
    """Whether it runs at the destination."""

    def prepare(self, ends: Ends, job: Job) -> None:
        """See Peer."""
        staged(ends.source, job.workload)

    @abstractmethod
    def argv(self, ends: Ends, job: Job, content: str, place: str) -> list[str]:
        """The command that brings ``content`` (a file, or a directory) of the source below ``place``."""

    def before(self, ends: Ends, job: Job, place: str) -> RemoteProcess | None:
        """A server of this transfer alone, at the destination."""
        return None

    def transfer(self, ends: Ends, job: Job) -> Received:
        """See Peer."""
        content = staged(ends.source, job.workload)
        place = empty_place(ends.destination, job.name)
        runs, other = (ends.destination, ends.source) if self.pulls else (ends.source, ends.destination)
        server = self.before(ends, job, place)
        process: RemoteProcess | None = None
        try:
            with watching(ends.destination, place, job) as arrivals:
                process = runs.remote.start(f"{self.name}-{job.name}", self.argv(ends, job, content, place))
                return arrivals.follow(job, time.monotonic(), START_UP_S, lambda: _ended(runs, process))
        finally:
            for node, one in ((runs, process), (ends.destination, server)):
                if one is not None:
                    end_group(node, one.pid)
            end_named(other, self.leftovers)
            cleared(ends.destination, place)

    def version(self, node: Node) -> str:
        """See Peer."""
        said = node.remote.run([self.programs[0], "--version"], check=False)
        return next((line.strip() for line in (said.stdout + said.stderr).splitlines() if line.strip()), "unknown")


def _ended(node: Node, process: RemoteProcess | None) -> str:
    """Why it is gone; empty while it runs."""
    if process is None or not has_ended(node, process.pid):
        return ""
    tail = node.remote.run(["tail", "-n", "3", process.log], check=False).stdout.strip()
    return f"{process.name.split('-')[0]} ended before all had arrived" + (f": {tail}" if tail else "")


class SshTool(FileTool):
    """One that goes over SSH, and so over the node's own TCP."""

    def __init__(self, ssh: WanSsh) -> None:
        self._ssh = ssh

    def prepare(self, ends: Ends, job: Job) -> None:
        """See Peer."""
        super().prepare(ends, job)
        self._ssh.prepare(ends)
