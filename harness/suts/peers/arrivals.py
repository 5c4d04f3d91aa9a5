"""Watching at the destination what a program writes, for programs that do not say so themselves."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from harness.model.bench import Workload
from harness.nodes.port import Node, RemoteProcess
from harness.plan.bench_figures import from_samples
from harness.suts.peers.port import Job, Received

INTERVAL_S = {"stream": 0.25, "large": 0.25, "small": 0.5}
"""A look at many files costs processor time that what is measured needs."""

_LOOK_S = 0.4
_LEAST_ROOM_S = 240.0
_SCRIPT = Path(__file__).with_name("arrival_sampler.py")


class Sample(NamedTuple):
    """One look; see ``arrival_sampler``."""

    at_s: float
    bytes: int
    files: int
    first_at_s: float
    last_at_s: float


class Arrivals:
    """What arrives below one directory of a node while it is watched."""

    def __init__(self, node: Node, process: RemoteProcess, workload: Workload) -> None:
        self._node = node
        self._process = process
        self._workload = workload

    def samples(self) -> list[Sample]:
        """The first is what was there before."""
        text = self._node.remote.run(["cat", self._process.log]).stdout
        return [_sample(line) for line in text.splitlines() if line.startswith("[") and line.endswith("]")]

    def latest(self) -> tuple[int, int]:
        """Bytes and files that have come."""
        ends = self._node.remote.run(["sed", "-n", "1p;$p", self._process.log]).stdout.splitlines()
        whole = [_sample(line) for line in ends if line.startswith("[") and line.endswith("]")]
        return (whole[-1].bytes - whole[0].bytes, whole[-1].files - whole[0].files) if whole else (0, 0)

    def follow(self, job: Job, began_s: float, start_up_s: float, ended: Callable[[], str]) -> Received:
        """Wait until ``job.seconds`` after the first byte, or all is there, or the program has ``ended`` (which then
        says why). Nothing at all within ``start_up_s`` is a problem."""
        problem = said = ""
        first_s: float | None = None
        while True:
            size, files = self.latest()
            now = time.monotonic()
            if first_s is None and (size or files):
                first_s = now
            if self._is_all(size, files) or (first_s is not None and now - first_s >= job.seconds):
                break
            if said:
                problem = said
                break
            if first_s is None and now - began_s > start_up_s:
                problem = f"nothing arrived within {start_up_s:.0f} s"
                break
            # What a program wrote last is seen by the look after its end.
            said = ended()
            time.sleep(_LOOK_S)
        return self._received(began_s, problem)

    def _is_all(self, size: int, files: int) -> bool:
        """Whether all of the workload is there."""
        workload = self._workload
        return files >= workload.files if workload.kind == "small" else size >= workload.bytes

    def _received(self, began_s: float, problem: str) -> Received:
        samples = self.samples()
        intervals = from_samples([(one.at_s, one.bytes, one.files) for one in samples])
        if not intervals:
            return Received(intervals=(), problem=problem or "nothing arrived")
        before = samples[0]
        first = next(
            place for place, one in enumerate(samples) if (one.bytes, one.files) > (before.bytes, before.files)
        )
        first_at_s = samples[max(0, first - 1)].at_s
        finished = next(
            (one for one in samples if self._is_all(one.bytes - before.bytes, one.files - before.files)), None
        )
        finished_at_s = None if finished is None else finished.at_s
        if finished is not None and finished.last_at_s and not before.files:
            first_at_s, finished_at_s = finished.first_at_s, finished.last_at_s
        return Received(
            intervals=intervals,
            first_at_s=first_at_s,
            set_up_s=round(max(0.0, first_at_s - began_s), 3),
            finished_s=None if finished_at_s is None else round(max(0.001, finished_at_s - first_at_s), 3),
            problem=problem,
        )


def _sample(line: str) -> Sample:
    at, size, files, first, last = json.loads(line)
    return Sample(float(at), int(size), int(files), float(first), float(last))


@contextmanager
def watching(node: Node, directory: str, job: Job) -> Iterator[Arrivals]:
    """Within, what arrives below the directory is seen."""
    workload = job.workload
    spec = {
        "directory": directory,
        "interval_s": INTERVAL_S[workload.kind],
        "seconds": job.seconds + _LEAST_ROOM_S,
        "file_bytes": workload.bytes if workload.kind == "small" else 0,
    }
    argv = [sys.executable, "-I", "-S", str(_SCRIPT), json.dumps(spec)]
    process = node.remote.start(f"arrivals-{job.name}", argv)
    arrivals = Arrivals(node, process, workload)
    try:
        deadline = time.monotonic() + 10
        while not arrivals.samples() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield arrivals
    finally:
        node.remote.signal(process.pid, "KILL")
