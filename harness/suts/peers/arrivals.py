"""Watching at the destination what a program writes, for programs that do not say so themselves."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.model.bench import Workload
from harness.nodes.port import Node, RemoteProcess
from harness.plan.bench_figures import from_samples
from harness.suts.peers.port import Job, Received

INTERVAL_S = 0.25
_LOOK_S = 0.4
_LEAST_ROOM_S = 240.0
_SCRIPT = Path(__file__).with_name("arrival_sampler.py")


class Arrivals:
    """What arrives below one directory of a node while it is watched."""

    def __init__(self, node: Node, process: RemoteProcess, workload: Workload) -> None:
        self._node = node
        self._process = process
        self._workload = workload

    @property
    def samples(self) -> list[tuple[float, int, int]]:
        """Time, bytes, whole files; the first is what was there before."""
        text = self._node.remote.run(["cat", self._process.log]).stdout
        found = []
        for line in text.splitlines():
            if line.startswith("[") and line.endswith("]"):
                at, size, files = json.loads(line)
                found.append((float(at), int(size), int(files)))
        return found

    def latest(self) -> tuple[int, int]:
        """Bytes and files that have come."""
        ends = self._node.remote.run(["sed", "-n", "1p;$p", self._process.log]).stdout.splitlines()
        whole = [json.loads(line) for line in ends if line.startswith("[") and line.endswith("]")]
        return (whole[-1][1] - whole[0][1], whole[-1][2] - whole[0][2]) if whole else (0, 0)

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
        samples = self.samples
        intervals = from_samples(samples)
        if not intervals:
            return Received(intervals=(), problem=problem or "nothing arrived")
        _, before, files_before = samples[0]
        first = next(place for place, one in enumerate(samples) if one[1] > before or one[2] > files_before)
        first_at_s = samples[max(0, first - 1)][0]
        finished = next(
            (at - first_at_s for at, size, files in samples if self._is_all(size - before, files - files_before)),
            None,
        )
        return Received(
            intervals=intervals,
            first_at_s=first_at_s,
            set_up_s=round(max(0.0, first_at_s - began_s), 3),
            finished_s=None if finished is None else round(finished, 3),
            problem=problem,
        )


@contextmanager
def watching(node: Node, directory: str, job: Job) -> Iterator[Arrivals]:
    """Within, what arrives below the directory is seen."""
    workload = job.workload
    spec = {
        "directory": directory,
        "interval_s": INTERVAL_S,
        "seconds": job.seconds + _LEAST_ROOM_S,
        "file_bytes": workload.bytes if workload.kind == "small" else 0,
    }
    argv = [sys.executable, "-I", "-S", str(_SCRIPT), json.dumps(spec)]
    process = node.remote.start(f"arrivals-{job.name}", argv)
    arrivals = Arrivals(node, process, workload)
    try:
        deadline = time.monotonic() + 10
        while not arrivals.samples and time.monotonic() < deadline:
            time.sleep(0.05)
        yield arrivals
    finally:
        node.remote.signal(process.pid, "KILL")
