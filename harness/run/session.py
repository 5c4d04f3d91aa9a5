"""One run from within: nodes, system under test, workload and history, behind the words of the suites."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from harness.checkers.audit import audit
from harness.checkers.convergence import check_convergence
from harness.checkers.finding import Finding, summary
from harness.checkers.versions import effects_of
from harness.errors import InputError, SutError
from harness.lab.lab import Lab
from harness.model.topology import Topology
from harness.model.tree import Tree, path_text
from harness.run.agent_client import AgentClient, EffectRow, raw_path
from harness.run.directory import RunDirectory
from harness.run.faults import RunFaults
from harness.run.real_data import RealTree, pack_tree
from harness.run.recorder import Recorder
from harness.run.recording_remote import recording
from harness.run.sites import resolve_site
from harness.run.wan_control import WanControl
from harness.run.workload import Operation, Workload, WorkloadOptions
from harness.suts.port import Sut

RETRY_S = 0.3
STUCK_PATIENCE_S = 15.0
T = TypeVar("T")


class Session:
    """Everything that a suite may do. ``measurements`` are of the test that runs; emptied before each test."""

    def __init__(
        self,
        *,
        topology: Topology,
        lab: Lab,
        sut: Sut,
        recorder: Recorder,
        directory: RunDirectory,
        seed: int,
        options: WorkloadOptions,
    ) -> None:
        self.topology = topology
        self.sites = topology.site_names
        self.nodes = {site: recording(lab.nodes[site], recorder) for site in self.sites}
        self.sut = sut
        self.recorder = recorder
        self.directory = directory
        self.options = options
        self.workload = Workload(seed)
        self.seed = seed
        lab.epoch_s = recorder.started
        self.faults = RunFaults(lab, topology, recorder, sut)
        self.wan = WanControl(lab, topology, recorder, self.faults)
        self.measurements: dict[str, float | int | str] = {}
        self.test_mark = 0
        self.real_tree: RealTree | None = None
        self._agents: dict[str, AgentClient] = {}
        self._lost_before = 0
        self._folder_mark = 0
        self._known: set[Finding] = set()
        self._stuck = False
        self._started = 0
        self._running = False

    def site(self, word: str) -> str:
        """The site that a word of a suite means; see ``resolve_site``."""
        return resolve_site(word, self.topology.sites)

    def others(self, site: str) -> tuple[str, ...]:
        """All sites but one."""
        return tuple(other for other in self.sites if other != site)

    def start_sut(self) -> None:
        """Start the system under test at every site with a fresh folder. Raises SutError."""
        if not self._agents:
            self._agents = self.everywhere(lambda site: AgentClient(self.nodes[site]))
        self._started += 1
        self._running = True
        self._folder_mark = self.recorder.mark()
        self._known.clear()
        self._stuck = False
        began = time.monotonic()
        self.sut.start(self.nodes, f"run{self._started}")
        self.recorder.record("sut", "started", data={"seconds": round(time.monotonic() - began, 3)})

    def stop_sut(self) -> None:
        """Fetch its logs and stop it everywhere; nothing when it does not run."""
        if not self._running:
            return
        self._running = False
        try:
            self.sut.collect_logs(self.directory.logs)
        finally:
            self.sut.stop()
            self.recorder.record("sut", "stopped")

    def revive_sut(self) -> tuple[str, ...]:
        """Start it again where it does not run, as a service manager would; the sites where it did not."""
        self._must_run()
        revived = tuple(site for site, did in self.everywhere(self.sut.revive).items() if did)
        for site in revived:
            self.recorder.record("sut", "revived", site=site)
        return revived

    def operate(self, plans: Mapping[str, Sequence[Operation]]) -> None:
        """Carry out each site's operations, all sites at the same time."""
        self._at_once(list(plans), lambda site: self._operate(site, plans[site]))

    def unpack_real_tree(self, site: str, path: str) -> RealTree:
        """Put the real tree into a site's folder as the new directory ``path``."""
        if self.real_tree is None:
            self.real_tree = pack_tree(self.options.data, self.directory.real_data)
        began_s = self.recorder.now()
        effects = self._agent(site).unpack(self.sut.folder(site), self.real_tree.archive, path)
        self._record_operation(site, "unpack", path, began_s, effects, "")
        return self.real_tree

    def await_tree(self, site: str, path: str, files: int, size: int, timeout_s: float) -> bool:
        """Wait until exactly so many files and bytes stand at or below ``path`` at a site."""
        return self._agent(site).await_tree(self.sut.folder(site), path, files, size, timeout_s)

    def usage(self, site: str) -> int:
        """Bytes allocated in a site's folder, the engine's temporary files included."""
        return self._agent(site).usage(self.sut.folder(site))

    def await_usage(self, site: str, size: int, timeout_s: float) -> bool:
        """Wait until a site's folder takes at least ``size`` bytes."""
        return self._agent(site).await_usage(self.sut.folder(site), size, timeout_s)

    def trees(self) -> dict[str, Tree]:
        """What users see at each site now, the engine's own files left out."""
        return self.everywhere(self._tree)

    def wait_until_in_sync(self, timeout_s: float) -> None:
        """Wait until the system under test says that all sites agree, and they do. Raises SutError at the deadline.

        A system can only speak of what it has noticed: right after a write it may still believe that all is in sync, so
        its word is taken together with the trees. Once it got stuck it is given little time until it agrees again, so
        that one fault does not cost every later test its whole deadline.
        """
        self._must_run()
        if self._stuck:
            timeout_s = min(timeout_s, STUCK_PATIENCE_S)
        deadline = time.monotonic() + timeout_s
        pause = threading.Event()
        while True:
            believes = self.sut.settled(max(1.0, deadline - time.monotonic()))
            at_s = self.recorder.now()
            findings = check_convergence(self.trees())
            if believes and not findings:
                self.recorder.record("sut", "settled", at_s=at_s)
                self._stuck = False
                return
            if time.monotonic() >= deadline:
                self._stuck = True
                belief = "believes that all sites agree" if believes else "does not say that all sites agree"
                raise SutError(
                    f"not in sync after {timeout_s:.0f} s: {self.sut.name} {belief}\n{summary(findings)}".rstrip()
                )
            pause.wait(RETRY_S)

    def lost_packets(self) -> int:
        """Packets that the WAN core dropped by loss since the test began."""
        return self.wan.lost_packets() - self._lost_before

    def begin_test(self) -> None:
        """Measurements and counts start anew."""
        self.measurements = {}
        self.test_mark = self.recorder.mark()
        self._lost_before = self.wan.lost_packets()

    def audit(self) -> tuple[Finding, ...]:
        """Read every tree, put it into the history, and judge all that was done since the folder was new.

        What an earlier audit of the same folder found already is left out, so that one loss fails one test.
        """
        trees = self.trees()
        for site, tree in trees.items():
            self.recorder.record_tree(site, tree)
        findings = audit(effects_of(self.recorder.since(self._folder_mark)), trees, self.sut.conflict_original)
        new = tuple(finding for finding in findings if finding not in self._known)
        self._known.update(new)
        return new

    def everywhere(self, action: Callable[[str], T]) -> dict[str, T]:
        """Run at all sites at once; the first error is raised when all have ended."""
        return self._at_once(self.sites, action)

    def _at_once(self, sites: Sequence[str], action: Callable[[str], T]) -> dict[str, T]:
        with ThreadPoolExecutor(max_workers=max(1, len(sites))) as pool:
            return dict(zip(sites, pool.map(action, sites), strict=True))

    def _must_run(self) -> None:
        """Raises InputError in a suite that has not started the system under test."""
        if not self._running:
            raise InputError(
                "the system under test does not run", hint="A suite begins with `Start System Under Test`."
            )

    def _agent(self, site: str) -> AgentClient:
        self._must_run()
        return self._agents[site]

    def _tree(self, site: str) -> Tree:
        tree = self._agent(site).tree(self.sut.folder(site))
        return {path: entry for path, entry in tree.items() if not self.sut.ignored(path)}

    def _operate(self, site: str, operations: Sequence[Operation]) -> None:
        began_s = self.recorder.now()
        results = self._agent(site).operate(self.sut.folder(site), operations)
        for operation, result in zip(operations, results, strict=True):
            self._record_operation(
                site,
                str(operation["do"]),
                str(operation["path"]),
                began_s,
                result["effects"],
                result["skipped"],
            )

    def _record_operation(
        self, site: str, action: str, path: str, began_s: float, effects: Sequence[EffectRow], skipped: str
    ) -> None:
        data: dict[str, object] = {
            "ended_s": round(self.recorder.now(), 6),
            "effects": [[path_text(raw_path(below)), *rest] for below, *rest in effects],
        }
        if skipped:
            data["skipped"] = skipped
        self.recorder.record("operation", action, site=site, path=path_text(raw_path(path)), at_s=began_s, data=data)
