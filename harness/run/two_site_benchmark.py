"""How fast a system under test fills one long link, beside scp and rsync on the same link in the same run.

    python -m harness.run.two_site_benchmark --rtt 80ms --loss 0% --loss 1% --json result.json

One 100 MB file, then a real tree of some thousands of files, from one site to the other, each timed at the destination
from the moment it is there in full at the source. The baselines run over SSH with the kernel's cubic, as on most hosts.
What did not end before the deadline is reported with what had arrived by then.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import LonghaulError, RemoteTimeout
from harness.lab.lab import Lab
from harness.lab.signals import termination_as_interrupt
from harness.model.base import Value
from harness.model.impairment import Impairment, IndependentLoss
from harness.model.topology import Link, Site, Topology
from harness.model.units import parse_duration, parse_rate, parse_share
from harness.nodes.port import Node
from harness.run.real_data import RealTree, pack_tree
from harness.suts.registry import create_sut

LARGE_BYTES = 100_000_000
SOURCE, DESTINATION = "left", "right"
BASELINE_PORT = "2222"
_COUNT = "find {0} -type f -printf '%s\\n' 2>/dev/null | awk '{{n += 1; s += $1}} END {{print n + 0, s + 0}}'"


class Result(Value):
    """One transfer. ``seconds`` is None when it did not end before the deadline; then the rest says how far it came."""

    tool: str
    workload: str
    loss: float
    seconds: float | None
    files: int
    bytes: int
    deadline_s: float

    @property
    def text(self) -> str:
        """Goodput, and files per second of a tree."""
        if self.seconds is None:
            return f"unfinished after {self.deadline_s:.0f} s: {self.files} files, {self.bytes / 1e6:.1f} MB"
        rate = f"{self.bytes * 8 / self.seconds / 1e6:.1f} Mbit/s"
        return f"{self.seconds:.1f} s, {rate}" + (
            f", {self.files / self.seconds:.0f} files/s" if self.files > 1 else ""
        )


def two_sites(rtt_us: int, rate_bps: int, loss: float) -> Topology:
    """A pair of sites; buffer of one BDP, the same loss in both directions."""
    impairment = Impairment(
        delay_us=rtt_us // 2,
        rate_bps=rate_bps,
        buffer_bytes=max(65_536, rate_bps * rtt_us // 8_000_000),
        loss=IndependentLoss(probability=loss) if loss else None,
    )
    links = ((SOURCE, DESTINATION), (DESTINATION, SOURCE))
    return Topology(
        name="two-sites",
        sites=(Site(name=SOURCE), Site(name=DESTINATION)),
        links=tuple(Link(source=a, destination=b, impairment=impairment) for a, b in links),
    )


class Bench:
    """The transfers of one lab."""

    def __init__(self, lab: Lab, tree: RealTree, loss: float, deadline_s: float) -> None:
        self._source, self._destination = lab.nodes[SOURCE], lab.nodes[DESTINATION]
        self._nodes: dict[str, Node] = dict(lab.nodes)
        self._tree = tree
        self._loss = loss
        self._deadline_s = deadline_s

    def prepare(self) -> None:
        """The files at the source, outside of any folder, and an sshd on the WAN at the destination."""
        source, remote = self._source, self._source.remote
        remote.put(self._tree.archive, f"{source.data_dir}/tree.tar")
        remote.run(["mkdir", "-p", "stage/tree"], cwd=source.data_dir)
        remote.run(["tar", "xf", "tree.tar", "-C", "stage/tree"], cwd=source.data_dir, timeout_s=120)
        remote.run(["sh", "-c", f"head -c {LARGE_BYTES} /dev/urandom > stage/large"], cwd=source.data_dir)
        remote.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key"], cwd=source.data_dir)
        public = remote.run(["cat", "key.pub"], cwd=source.data_dir).stdout
        there = self._destination
        there.remote.run(["sh", "-c", "cat > authorized"], cwd=there.data_dir, stdin=public)
        there.remote.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "host_key"], cwd=there.data_dir)
        options = [
            f"ListenAddress={there.wan_address}",
            f"HostKey={there.data_dir}/host_key",
            f"AuthorizedKeysFile={there.data_dir}/authorized",
            "StrictModes=no",
            "PidFile=none",
        ]
        argv = ["/usr/sbin/sshd", "-D", "-f", "/dev/null", "-p", BASELINE_PORT]
        there.remote.start("baseline-sshd", [*argv, *(part for option in options for part in ("-o", option))])

    def sut(self, name: str) -> Iterator[Result]:
        """The system under test: moved into its folder at the source, timed until it is in the other folder."""
        sut = create_sut(name)
        sut.start(self._nodes, "benchmark")
        try:
            source, destination = sut.folder(SOURCE), sut.folder(DESTINATION)
            stage = f"{self._source.data_dir}/stage"
            for item, files, size in self._workloads():
                copy = ["cp", "-a", f"{stage}/{item}", f"{stage}/{item}.ready"]
                self._source.remote.run(copy, timeout_s=120)
                began = time.monotonic()
                self._source.remote.run(["mv", f"{stage}/{item}.ready", f"{source}/{item}"])
                yield self._awaited(name, item, f"{destination}/{item}", files, size, began)
        finally:
            sut.stop()

    def baselines(self) -> Iterator[Result]:
        """scp of the large file, rsync of both."""
        ssh = f"ssh -p {BASELINE_PORT} -i {self._source.data_dir}/key -o StrictHostKeyChecking=no"
        ssh += " -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        target = f"root@{self._destination.wan_address}:{self._destination.data_dir}"
        stage = f"{self._source.data_dir}/stage"
        self._destination.remote.run(["mkdir", "-p", "scp", "rsync"], cwd=self._destination.data_dir)
        for item, files, size in self._workloads():
            if item == "large":
                scp = ["scp", "-O", "-q", *ssh.replace("-p ", "-P ", 1).split()[1:], f"{stage}/large", f"{target}/scp/"]
                yield self._timed("scp", item, scp, "scp/large", files, size)
            rsync = ["rsync", "-a", "--whole-file", "-e", ssh, f"{stage}/{item}", f"{target}/rsync/"]
            yield self._timed("rsync", item, rsync, f"rsync/{item}", files, size)

    def _workloads(self) -> Iterator[tuple[str, int, int]]:
        yield "large", 1, LARGE_BYTES
        yield "tree", self._tree.files, self._tree.bytes

    def _timed(self, tool: str, item: str, argv: list[str], where: str, files: int, size: int) -> Result:
        began = time.monotonic()
        try:
            self._source.remote.run(argv, timeout_s=self._deadline_s)
        except RemoteTimeout:
            files, size = self._arrived(f"{self._destination.data_dir}/{where}")
            return self._result(tool, item, None, files, size)
        return self._result(tool, item, time.monotonic() - began, files, size)

    def _awaited(self, tool: str, item: str, where: str, files: int, size: int, began: float) -> Result:
        count = _COUNT.format(where)
        script = f'until [ "$({count})" = "{files} {size}" ]; do sleep 0.1; done'
        try:
            self._destination.remote.run(["sh", "-c", script], timeout_s=self._deadline_s)
        except RemoteTimeout:
            return self._result(tool, item, None, *self._arrived(where))
        return self._result(tool, item, time.monotonic() - began, files, size)

    def _arrived(self, where: str) -> tuple[int, int]:
        files, size = self._destination.remote.run(["sh", "-c", _COUNT.format(where)]).stdout.split()
        return int(files), int(size)

    def _result(self, tool: str, item: str, seconds: float | None, files: int, size: int) -> Result:
        return Result(
            tool=tool,
            workload=item,
            loss=self._loss,
            seconds=seconds,
            files=files,
            bytes=size,
            deadline_s=self._deadline_s,
        )


@contextmanager
def benchmark_lab(topology: Topology) -> Iterator[Lab]:
    """A lab that is gone afterwards."""
    lab = Lab.up(topology)
    try:
        yield lab
    finally:
        lab.down()


def run(options: argparse.Namespace) -> list[Result]:
    """All transfers at every loss; each result is printed as it comes."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as scratch, termination_as_interrupt():
        tree = pack_tree(None, Path(scratch) / "tree.tar")
        for loss in [parse_share(text) for text in options.loss or ("0%", "1%")]:
            with benchmark_lab(two_sites(parse_duration(options.rtt), parse_rate(options.rate), loss)) as lab:
                bench = Bench(lab, tree, loss, options.deadline)
                bench.prepare()
                for transfers in (bench.sut(options.sut), bench.baselines()):
                    for result in transfers:
                        print(f"{loss:6.1%} loss  {result.workload:6} {result.tool:8} {result.text}", flush=True)
                        results.append(result)
    return results


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.run.two_site_benchmark", description=__doc__)
    parser.add_argument("--sut", default="syncer")
    parser.add_argument("--rtt", default="80 ms")
    parser.add_argument("--rate", default="100 Mbit/s")
    parser.add_argument("--loss", action="append", help="repeatable; default 0%% and 1%%")
    parser.add_argument("--deadline", type=float, default=120.0, help="seconds for one transfer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    options = parser.parse_args()
    try:
        results = run(options)
    except LonghaulError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ValueError as error:
        parser.error(str(error))
    if options.json is not None:
        options.json.write_text(json.dumps([result.model_dump() for result in results], indent=2) + "\n")


if __name__ == "__main__":
    main()
