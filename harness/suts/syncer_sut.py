"""The bundled engine, ``syncer``, driven by its command line alone."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.errors import InputError, LabError, SutError
from harness.model.topology import Topology
from harness.nodes.port import Completed, Node, RemoteProcess
from harness.suts.port import SutProcess

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0
POLL_S = 0.3
LOG_TAIL_LINES = 25
NOT_IN_SYNC = 4

_CONFLICT = re.compile(rb"(.*)\.conflict-[A-Za-z0-9_-]+-[0-9a-f]{8}((?:\.[^/]*)?)", re.DOTALL)
_OWN = b".syncer"


class SyncerSut:
    """A Sut. ``command`` is the program on the nodes."""

    name = "syncer"

    def __init__(self, command: str = "syncer") -> None:
        self._command = command
        self._nodes: dict[str, Node] = {}
        self._homes: dict[str, str] = {}
        self._runs: dict[str, RemoteProcess] = {}
        self._versions: dict[str, str] = {}

    def check(self, topology: Topology) -> None:
        """See Sut: every site dials every other, so each must be reachable."""
        hidden = [site.name for site in topology.sites if site.nat is not None]
        if hidden:
            raise InputError(
                f"syncer cannot be reached behind NAT, where {', '.join(hidden)} is",
                hint="Take `nat` away from the topology, or test a system that only dials out from there.",
            )

    def start(self, nodes: Mapping[str, Node], workspace: str) -> None:
        """See Sut. Keys are made at each site and handed to every other one."""
        self._nodes = dict(nodes)
        self._homes = {site: f"{node.data_dir}/{workspace}/home" for site, node in nodes.items()}
        cards = self._everywhere(self._initialise)
        self._everywhere(lambda site: self._introduce(site, cards))
        self._everywhere(self._launch)
        deadline = time.monotonic() + START_DEADLINE_S
        self._everywhere(lambda site: self._wait_until_connected(site, deadline))

    def stop(self) -> None:
        """See Sut."""
        self._everywhere(self._halt)
        self._runs.clear()

    def revive(self, site: str) -> bool:
        """See Sut."""
        run = self._runs.get(site)
        if run is not None and self._alive(site, run.pid):
            return False
        self._launch(site)
        return True

    def folder(self, site: str) -> str:
        """See Sut."""
        return f"{self._homes[site].rpartition('/')[0]}/folder"

    def ignored(self, relative: bytes) -> bool:
        """See Sut: the engine keeps its marker and temporary files in ``.syncer`` at the folder's root."""
        return relative == _OWN or relative.startswith(_OWN + b"/")

    def conflict_original(self, relative: bytes) -> bytes | None:
        """See Sut: copies are called ``<stem>.conflict-<site>-<8 hex digits><extension>``."""
        match = _CONFLICT.fullmatch(relative)
        return match[1] + match[2] if match else None

    def settled(self, timeout_s: float) -> bool:
        """See Sut. One site is asked: the engine's word covers what was written at every site before the call."""
        site = next(iter(self._nodes))
        answer = self._call(
            site, "wait", "--in-sync", "--timeout", f"{timeout_s:.1f}", check=False, timeout_s=timeout_s + 20
        )
        if answer.exit_code not in (0, NOT_IN_SYNC):
            raise SutError(f"syncer wait at {site} failed: {answer.stderr.strip()}", hint=self._tail(site))
        return answer.exit_code == 0

    def processes(self, site: str) -> tuple[SutProcess, ...]:
        """See Sut. Roles: supervisor, circusd, coordinator, mover-<transport>."""
        status = self._status(site)
        if status is None:
            raise SutError(f"syncer does not answer at {site}", hint=self._tail(site))
        return tuple(SutProcess(role=row["role"], pid=int(row["pid"])) for row in status["processes"])

    def versions(self) -> Mapping[str, str]:
        """See Sut."""
        if not self._versions and self._nodes:
            site = next(iter(self._nodes))
            answer = self._nodes[site].remote.run([self._command, "--version"], check=False)
            self._versions = {self.name: answer.stdout.strip().removeprefix(self.name).strip() or "unknown"}
        return self._versions

    def collect_logs(self, directory: Path) -> None:
        """See Sut: what ``syncer run`` printed, and the log of each process."""
        for site, node in self._nodes.items():
            place = directory / site
            place.mkdir(parents=True, exist_ok=True)
            label = Path(self._homes[site]).parent.name
            if site in self._runs:
                node.remote.get(self._runs[site].log, place / f"{label}-run.log")
            answer = self._call(site, "log", check=False)
            (place / f"{label}-syncer.log").write_text(answer.stdout, encoding="utf-8", errors="surrogateescape")

    def _initialise(self, site: str) -> dict[str, Any]:
        node, home = self._nodes[site], self._homes[site]
        folder = self.folder(site)
        node.remote.run(["mkdir", "-p", folder, home])
        answer = self._call(
            site, "init", "--name", site, "--folder", folder, "--address", node.wan_address, "--json", timeout_s=60
        )
        card: dict[str, Any] = json.loads(answer.stdout)
        return card

    def _introduce(self, site: str, cards: Mapping[str, dict[str, Any]]) -> None:
        for other, card in cards.items():
            if other != site:
                address = f"{card['address']}:{card['control_port']}"
                self._call(site, "site", "add", other, "--address", address, "--key", card["public_key"])

    def _launch(self, site: str) -> None:
        self._runs[site] = self._nodes[site].remote.start("syncer", [self._command, "run", "--home", self._homes[site]])

    def _wait_until_connected(self, site: str, deadline: float) -> None:
        pause = threading.Event()
        while True:
            status = self._status(site)
            if status is not None and all(peer["connected"] for peer in status["peers"]):
                return
            if time.monotonic() > deadline:
                state = "does not answer" if status is None else f"is not connected to all sites: {status['peers']}"
                raise SutError(
                    f"syncer at {site} {state}, {START_DEADLINE_S:.0f} s after its start", hint=self._tail(site)
                )
            pause.wait(POLL_S)

    def _status(self, site: str) -> dict[str, Any] | None:
        answer = self._call(site, "status", "--json", check=False, timeout_s=20)
        if answer.exit_code != 0:
            return None
        status: dict[str, Any] = json.loads(answer.stdout)
        return status

    def _halt(self, site: str) -> None:
        run = self._runs.get(site)
        if run is None:
            return
        remote = self._nodes[site].remote
        pause = threading.Event()
        for signal in ("TERM", "KILL"):
            remote.signal(run.pid, signal)
            deadline = time.monotonic() + STOP_DEADLINE_S
            while time.monotonic() < deadline:
                if not self._alive(site, run.pid):
                    return
                pause.wait(POLL_S)
        raise SutError(f"syncer at {site} did not end {STOP_DEADLINE_S:.0f} s after SIGKILL", hint=self._tail(site))

    def _alive(self, site: str, pid: int) -> bool:
        # A zombie answers signals, but runs no more.
        state = self._nodes[site].remote.run(["ps", "-o", "state=", "-p", str(pid)], check=False)
        return state.exit_code == 0 and state.stdout.strip() not in ("", "Z", "X")

    def _call(self, site: str, *arguments: str, check: bool = True, timeout_s: float = 30.0) -> Completed:
        if site not in self._homes:
            raise SutError(f"syncer was not started at {site}")
        argv = [self._command, *arguments, "--home", self._homes[site]]
        try:
            return self._nodes[site].remote.run(argv, check=check, timeout_s=timeout_s)
        except LabError as error:
            raise SutError(f"syncer {arguments[0]} at {site} failed: {error.message}", hint=self._tail(site)) from error

    def _tail(self, site: str) -> str:
        """The last lines that syncer printed at a site, for an error's hint."""
        run = self._runs.get(site)
        if run is None:
            return "it was not started yet"
        answer = self._nodes[site].remote.run(["tail", "-n", str(LOG_TAIL_LINES), run.log], check=False)
        return f"its log ends:\n{answer.stdout}"

    def _everywhere(self, action: Callable[[str], Any]) -> dict[str, Any]:
        """Run at all sites at once; the first error is raised when all have ended."""
        if not self._nodes:
            return {}
        with ThreadPoolExecutor(max_workers=len(self._nodes)) as pool:
            return dict(zip(self._nodes, pool.map(action, self._nodes), strict=True))
