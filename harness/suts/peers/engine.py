"""A sync engine as a peer: files that appear in its folder at the source are to arrive in that of the other end."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.model.bench import Transport, WorkloadKind
from harness.nodes.port import Node
from harness.suts.peers.arrivals import watching
from harness.suts.peers.port import Ends, Job, Received
from harness.suts.peers.staging import cleared, staged
from harness.suts.port import Sut

START_UP_S = 30.0
"""To notice, to read and to hash what is new, before the first byte moves."""


class Engine:
    """A Peer: fresh and empty for every transfer, with encryption and disk as a user has it."""

    workloads: frozenset[WorkloadKind] = frozenset({"large", "small"})

    def __init__(self, name: str, title: str, transport: Transport, create: Callable[[], Sut]) -> None:
        self.name = name
        self.title = title
        self.transport: Transport = transport
        self.programs: tuple[str, ...] = (name,)
        self._create = create
        self._started: dict[str, Sut] = {}

    def prepare(self, ends: Ends, job: Job) -> None:
        """See Peer: the content, and the engine, connected and with nothing to do."""
        staged(ends.source, job.workload)
        sut = self._create()
        try:
            sut.start({node.name: node for node in (ends.source, ends.destination)}, _workspace(job))
        except BaseException:
            sut.stop()
            raise
        self._started[job.name] = sut

    def transfer(self, ends: Ends, job: Job) -> Received:
        """See Peer. The files are copied beside the folder first and moved into it at once."""
        content = staged(ends.source, job.workload)
        sut, workspace = self._started.pop(job.name), _workspace(job)
        try:
            source, destination = sut.folder(ends.source.name), sut.folder(ends.destination.name)
            ready = f"{ends.source.data_dir}/{workspace}/ready"
            ends.source.remote.run(["cp", "-a", content, ready], timeout_s=180)
            with watching(ends.destination, destination, job) as arrivals:
                began_s = time.monotonic()
                ends.source.remote.run(["mv", ready, f"{source}/content"])
                return arrivals.follow(job, began_s, START_UP_S, lambda: "")
        finally:
            sut.stop()
            for node in (ends.source, ends.destination):
                cleared(node, f"{node.data_dir}/{workspace}")

    def version(self, node: Node) -> str:
        """See Peer."""
        said = node.remote.run([self.name, "--version"], check=False).stdout.strip()
        return said.split("\n")[0] or "unknown"


def _workspace(job: Job) -> str:
    return f"engine-{job.name}"
