"""Syncthing as Debian ships it, driven by its command line and its REST interface on each node's loopback.

Closed to the outside: no announcements, relays, NAT traversal, upgrades, reports or crash reports; sites find each
other by their addresses alone.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.errors import InputError, LabError, SutError
from harness.model.topology import Topology
from harness.nodes.port import Node, RemoteProcess
from harness.suts.port import SutProcess
from harness.suts.syncthing_config import FOLDER_ID, GUI_PORT, api_key_of, configured

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0
POLL_S = 0.3
LOG_TAIL_LINES = 25

_CONFLICT = re.compile(rb"(.*)\.sync-conflict-[0-9]{8}-[0-9]{6}-[A-Z0-9]{7}((?:\.[^/.]*)?)", re.DOTALL)
_OWN = (b".stfolder", b".stversions", b".stignore")
_TEMPORARY = re.compile(rb"(?:.*/)?(?:\.syncthing\.[^/]*\.tmp|~syncthing~[^/]*\.tmp)", re.DOTALL)
_ASK = """
import sys, urllib.request
method, url, key = sys.argv[1:4]
request = urllib.request.Request(url, data=b"" if method == "POST" else None, headers={"X-API-Key": key}, method=method)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
sys.stdout.write(opener.open(request, timeout=15).read().decode())
"""
_NO_UPGRADE = {"STNOUPGRADE": "1", "STNODEFAULTFOLDER": "1"}


class SyncthingSut:
    """A Sut. ``command`` is the program on the nodes."""

    name = "syncthing"

    def __init__(self, command: str = "syncthing") -> None:
        self._command = command
        self._nodes: dict[str, Node] = {}
        self._homes: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._runs: dict[str, RemoteProcess] = {}
        self._versions: dict[str, str] = {}

    def check(self, topology: Topology) -> None:
        """See Sut: without relays and NAT traversal every site must be reachable."""
        hidden = [site.name for site in topology.sites if site.nat is not None]
        if hidden:
            raise InputError(
                f"syncthing cannot be reached behind NAT, where {', '.join(hidden)} is",
                hint="Take `nat` away from the topology: relays and NAT traversal would need the Internet.",
            )

    def start(self, nodes: Mapping[str, Node], workspace: str) -> None:
        """See Sut. Every site shares the one folder with every other one."""
        self._nodes = dict(nodes)
        self._homes = {site: f"{node.data_dir}/{workspace}/home" for site, node in nodes.items()}
        written = self._everywhere(self._generate)
        self._ids = {site: identity for site, (identity, _) in written.items()}
        self._everywhere(lambda site: self._configure(site, written[site][1]))
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
        """See Sut: its markers and temporary files."""
        return relative.split(b"/", 1)[0] in _OWN or _TEMPORARY.fullmatch(relative) is not None

    def conflict_original(self, relative: bytes) -> bytes | None:
        """See Sut: ``<stem>.sync-conflict-<date>-<time>-<device><extension>``."""
        match = _CONFLICT.fullmatch(relative)
        return match[1] + match[2] if match else None

    def settled(self, timeout_s: float) -> bool:
        """See Sut. Every site scans, then all must be idle and lack nothing, themselves and by the others' word, twice
        in a row: what one site has just found the others may not have heard of."""
        deadline = time.monotonic() + timeout_s
        self._everywhere(
            lambda site: self._rest(site, f"db/scan?folder={FOLDER_ID}", method="POST", timeout_s=timeout_s)
        )
        agreed = 0
        while agreed < 2:
            states = self._everywhere(self._state)
            same = len({(one["files"], one["bytes"]) for one in states.values()}) == 1
            agreed = agreed + 1 if same and all(one["settled"] for one in states.values()) else 0
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def processes(self, site: str) -> tuple[SutProcess, ...]:
        """See Sut. Roles: monitor, and syncthing which it watches over."""
        run = self._runs.get(site)
        if run is None or not self._alive(site, run.pid):
            raise SutError(f"syncthing does not run at {site}", hint=self._tail(site))
        children = self._nodes[site].remote.run(["pgrep", "-P", str(run.pid)], check=False).stdout.split()
        return (
            SutProcess(role="monitor", pid=run.pid),
            *(SutProcess(role="syncthing", pid=int(pid)) for pid in children),
        )

    def versions(self) -> Mapping[str, str]:
        """See Sut."""
        if not self._versions and self._nodes:
            site = next(iter(self._nodes))
            said = self._nodes[site].remote.run([self._command, "--version"], check=False).stdout.split()
            self._versions = {self.name: said[1] if len(said) > 1 else "unknown"}
        return self._versions

    def collect_logs(self, directory: Path) -> None:
        """See Sut."""
        for site, run in self._runs.items():
            place = directory / site
            place.mkdir(parents=True, exist_ok=True)
            label = Path(self._homes[site]).parent.name
            self._nodes[site].remote.get(run.log, place / f"{label}-syncthing.log")

    def _generate(self, site: str) -> tuple[str, str]:
        """The device's id and the configuration as the program makes it."""
        remote, home = self._nodes[site].remote, self._homes[site]
        remote.run(["mkdir", "-p", f"{self.folder(site)}/.stfolder", home])
        argv = [self._command, "generate", "--home", home, "--no-default-folder", "--skip-port-probing"]
        remote.run(argv, timeout_s=60, env=_NO_UPGRADE)
        identity = remote.run([self._command, "--home", home, "--device-id"], env=_NO_UPGRADE).stdout.strip()
        return identity, remote.run(["cat", f"{home}/config.xml"]).stdout

    def _configure(self, site: str, text: str) -> None:
        devices = {self._ids[other]: (other, node.public_address) for other, node in self._nodes.items()}
        document = configured(
            text, own=self._ids[site], devices=devices, folder=self.folder(site), address=self._nodes[site].wan_address
        )
        self._keys[site] = api_key_of(document)
        script = 'cat > "$1/config.xml"'
        self._nodes[site].remote.run(["sh", "-c", script, "sh", self._homes[site]], stdin=document)

    def _launch(self, site: str) -> None:
        argv = [self._command, "serve", "--home", self._homes[site], "--no-browser", "--no-upgrade", "--no-restart"]
        self._runs[site] = self._nodes[site].remote.start("syncthing", argv, env=_NO_UPGRADE)

    def _wait_until_connected(self, site: str, deadline: float) -> None:
        while True:
            state = "does not answer"
            try:
                peers = self._rest(site, "system/connections")["connections"]
                missing = [other for other in self._nodes if other != site and not _connected(peers, self._ids[other])]
                if not missing:
                    return
                state = f"is not connected to {', '.join(missing)}"
            except SutError:
                pass
            if time.monotonic() > deadline:
                raise SutError(
                    f"syncthing at {site} {state}, {START_DEADLINE_S:.0f} s after its start", hint=self._tail(site)
                )
            time.sleep(POLL_S)

    def _state(self, site: str) -> dict[str, Any]:
        """Whether a site is idle and lacks nothing, and what it has."""
        own = self._rest(site, f"db/status?folder={FOLDER_ID}")
        others = [identity for other, identity in self._ids.items() if other != site]
        lacking = [
            self._rest(site, f"db/completion?folder={FOLDER_ID}&device={identity}")["needItems"] for identity in others
        ]
        settled = own["state"] == "idle" and own["needTotalItems"] == 0 and not any(lacking)
        return {"settled": settled, "files": own["globalFiles"], "bytes": own["globalBytes"]}

    def _rest(self, site: str, path: str, *, method: str = "GET", timeout_s: float = 30.0) -> Any:
        url = f"http://127.0.0.1:{GUI_PORT}/rest/{path}"
        argv = ["python3", "-I", "-c", _ASK, method, url, self._keys[site]]
        try:
            done = self._nodes[site].remote.run(argv, check=False, timeout_s=timeout_s + 20)
        except LabError as error:
            raise SutError(f"syncthing at {site} does not answer: {error.message}", hint=self._tail(site)) from error
        if done.exit_code != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
            raise SutError(f"syncthing at {site} does not answer {path}: {reason}", hint=self._tail(site))
        return json.loads(done.stdout) if done.stdout.strip() else None

    def _halt(self, site: str) -> None:
        run = self._runs.get(site)
        if run is None:
            return
        remote = self._nodes[site].remote
        for signal in ("TERM", "KILL"):
            # The monitor passes TERM on; a KILL must reach its child too.
            remote.run(["sh", "-c", f"kill -s {signal} -- -{int(run.pid)}"], check=False)
            deadline = time.monotonic() + STOP_DEADLINE_S
            while time.monotonic() < deadline:
                if not self._alive(site, run.pid):
                    return
                time.sleep(POLL_S)
        raise SutError(f"syncthing at {site} did not end {STOP_DEADLINE_S:.0f} s after SIGKILL", hint=self._tail(site))

    def _alive(self, site: str, pid: int) -> bool:
        # A zombie answers signals, but runs no more.
        state = self._nodes[site].remote.run(["ps", "-o", "state=", "-p", str(pid)], check=False)
        return state.exit_code == 0 and state.stdout.strip() not in ("", "Z", "X")

    def _tail(self, site: str) -> str:
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


def _connected(connections: Mapping[str, Mapping[str, Any]], identity: str) -> bool:
    return bool(connections.get(identity, {}).get("connected"))
