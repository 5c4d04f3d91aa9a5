"""A node as a set of namespaces on this host: network, mounts, hostname, processes, and an sshd of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import NodeError
from harness.model.base import Value
from harness.model.resource import BatchRecorder, Resource
from harness.nodes import host_network, host_processes
from harness.nodes.fabric_remote import FabricRemote
from harness.nodes.host_lock import host_lock
from harness.nodes.network_settings import (
    DEFAULT_CONGESTION_CONTROL,
    allowed_in_namespaces,
    apply_settings,
    node_settings,
)
from harness.nodes.ssh_access import CLIENT_KEY, KNOWN_HOSTS, sshd_config, write_key, write_known_hosts
from harness.plan.addressing import LabPlan, SitePlan

_INIT = Path(__file__).with_name("node_init.py")
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NodeState(Value):
    """What another process needs to find the node again, and what the report shows of it."""

    site: str
    pid: int
    start_ticks: int
    sysctls: dict[str, str]


class NodeLayout(Value):
    """Where a node's files are, the same path on the host and on the node."""

    root: Path

    @property
    def data(self) -> Path:
        """HOME of its sessions."""
        return self.root / "data"

    @property
    def log(self) -> Path:
        """Its logs; also its /var/log."""
        return self.root / "log"

    @property
    def etc(self) -> Path:
        """Its keys and identity files."""
        return self.root / "etc"

    @property
    def tmp(self) -> Path:
        """Its /tmp."""
        return self.root / "tmp"

    @property
    def run(self) -> Path:
        """Its /run."""
        return self.root / "run"


class NamespaceNode:
    """One host of the lab, reached over its management address (implements ``Node``)."""

    def __init__(self, plan: SitePlan, layout: NodeLayout, state: NodeState, credentials: Path) -> None:
        self.site = plan.site
        self.netns = plan.netns
        self.wan_address = str(plan.wan_address)
        self.management_address = str(plan.management_address)
        self.data_dir = str(layout.data)
        self.log_dir = str(layout.log)
        self.state = state
        self.remote = FabricRemote(
            site=plan.site,
            address=self.management_address,
            key=credentials / CLIENT_KEY,
            known_hosts=credentials / KNOWN_HOSTS,
            home=self.data_dir,
            log_dir=self.log_dir,
        )

    @property
    def alive(self) -> bool:
        """Whether the node's first process runs."""
        return host_processes.start_ticks(self.state.pid) == self.state.start_ticks


class NodeBuilder:
    """Builds all nodes of a lab side by side. Use: ``begin``, then (wire the WAN meanwhile) ``finish``.

    ``credentials`` is the directory for the lab's client key and known_hosts; ``root`` gets one for each node."""

    def __init__(
        self,
        plan: LabPlan,
        *,
        root: Path,
        credentials: Path,
        recorder: BatchRecorder,
        congestion_control: str = DEFAULT_CONGESTION_CONTROL,
    ) -> None:
        self._plan = plan
        self._root = root
        self._credentials = credentials
        self._recorder = recorder
        self._congestion_control = congestion_control
        self._sysctls: dict[str, dict[str, str]] = {}
        self._starters: dict[str, subprocess.Popen[str]] = {}
        self._pids: dict[str, int] = {}

    def begin(self) -> None:
        """Make every node's namespaces and management link, in the ledger first. Raises NodeError."""
        sshd = _program("sshd", "openssh-server")
        self._credentials.mkdir(mode=0o700)
        client = write_key(self._credentials / CLIENT_KEY)
        host_keys = {}
        for site in self._plan.sites:
            self._spawn(site, sshd)
            host_keys[str(site.management_address)] = self._write_files(site, client)
        write_known_hosts(self._credentials / KNOWN_HOSTS, host_keys)
        resources = []
        for site in self._plan.sites:
            pid = int(self._answer(site.site)["pid"])
            self._pids[site.site] = pid
            ticks = host_processes.start_ticks(pid)
            resources += [
                Resource(kind="netns", name=site.netns, note=site.site),
                Resource(kind="link", name=site.management_host_interface, note=f"management of {site.site}"),
                Resource(kind="process", name=str(pid), start_ticks=ticks, note=f"init of {site.site}"),
            ]
        self._recorder.record_all(resources)
        for site in self._plan.sites:
            host_network.name_namespace(site.netns, self._pids[site.site])
        host_network.connect_management(self._plan.sites, self._pids)
        self._tune()
        for starter in self._starters.values():
            assert starter.stdin is not None
            try:
                starter.stdin.write("go\n")
                starter.stdin.flush()
            except BrokenPipeError as error:
                raise NodeError("a node ended before it began") from error

    def finish(self) -> dict[str, NamespaceNode]:
        """Wait until every sshd listens; the nodes in the topology's order. Raises NodeError."""
        nodes = {}
        for site in self._plan.sites:
            self._answer(site.site)
            pid = self._pids[site.site]
            ticks = host_processes.start_ticks(pid)
            if ticks is None:
                raise NodeError(f"node {site.site} ended as it began")
            state = NodeState(site=site.site, pid=pid, start_ticks=ticks, sysctls=self._sysctls[site.site])
            nodes[site.site] = NamespaceNode(site, self._layout(site), state, self._credentials)
        self.close()
        return nodes

    def _tune(self) -> None:
        """Set every node's network sysctls and keep what the kernel then says."""
        settings = node_settings(self._congestion_control)
        with host_lock(), allowed_in_namespaces(self._congestion_control, self._recorder):
            for site in self._plan.sites:
                host_network.in_namespace(site.netns, partial(self._tune_node, site.site, settings))

    def _tune_node(self, site: str, settings: dict[str, str]) -> None:
        self._sysctls[site] = apply_settings(settings)

    def close(self) -> None:
        """Let go of the builder's pipes: a node that was not told to go ends by itself."""
        for starter in self._starters.values():
            for stream in (starter.stdin, starter.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except BrokenPipeError:
                        continue
            starter.wait()
        self._starters.clear()

    def _layout(self, site: SitePlan) -> NodeLayout:
        return NodeLayout(root=self._root / site.site)

    def _spawn(self, site: SitePlan, sshd: str) -> None:
        layout = self._layout(site)
        spec = {
            "site": site.site,
            "binds": [
                (str(layout.tmp), "/tmp"),
                (str(layout.run), "/run"),
                (str(layout.log), "/var/log"),
                *((str(layout.etc / name), f"/etc/{name}") for name in _IDENTITY_FILES),
            ],
            "keep": [str(path) for path in _paths_that_nodes_need(layout.root)],
            "sshd": [sshd, "-D", "-e", "-f", str(layout.etc / "sshd_config")],
            "sshd_log": str(layout.log / "sshd.log"),
        }
        starter = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_INIT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd="/",
        )
        self._starters[site.site] = starter
        assert starter.stdin is not None
        starter.stdin.write(json.dumps(spec) + "\n")
        starter.stdin.flush()

    def _write_files(self, site: SitePlan, client_key: str) -> str:
        """Write the node's directories and files; return its public host key."""
        layout = self._layout(site)
        for directory, mode in (
            (layout.root, 0o755),
            (layout.data, 0o755),
            (layout.log, 0o755),
            (layout.etc, 0o755),
            (layout.tmp, 0o1777),
            (layout.run, 0o755),
        ):
            directory.mkdir(parents=True)
            directory.chmod(mode)
        # Where sshd notes interactive logins; it complains on the user's terminal when there is none.
        (layout.log / "lastlog").touch()
        for name, content in _identity_files(self._plan, site, layout).items():
            path = layout.etc / name
            path.write_text(content)
            path.chmod(0o600 if name == "shadow" else 0o644)
        public = write_key(layout.etc / "host_key")
        authorized = layout.etc / "authorized_keys"
        authorized.write_text(client_key + "\n")
        authorized.chmod(0o600)
        config = sshd_config(
            address=str(site.management_address),
            host_key=layout.etc / "host_key",
            authorized_keys=authorized,
            environment={"PATH": session_path(), "LANG": "C.UTF-8", "LONGHAUL_SITE": site.site},
        )
        (layout.etc / "sshd_config").write_text(config)
        return public

    def _answer(self, site: str) -> dict[str, Any]:
        stdout = self._starters[site].stdout
        assert stdout is not None
        line = stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it ended without a word"}
        if "error" in answer:
            raise NodeError(f"node {site} does not start: {answer['error']}")
        return answer


def open_node(plan: SitePlan, *, root: Path, credentials: Path, state: NodeState) -> NamespaceNode:
    """A node that another process built."""
    return NamespaceNode(plan, NodeLayout(root=root / plan.site), state, credentials)


def session_path() -> str:
    """PATH of every command on a node: this Python's programs (``syncer`` is one) before the system's."""
    return f"{Path(sys.prefix) / 'bin'}:{SYSTEM_PATH}"


_IDENTITY_FILES = ("passwd", "shadow", "hosts", "hostname")


def _identity_files(plan: LabPlan, site: SitePlan, layout: NodeLayout) -> dict[str, str]:
    """The node's own /etc files: root lives in the data directory and may log in by key, sites know each other."""
    hosts = ["127.0.0.1 localhost", "::1 localhost", *(f"{other.wan_address} {other.site}" for other in plan.sites)]
    root = f"root:x:0:0:root:{layout.data}:/bin/bash"
    return {
        "passwd": _with_root_line(Path("/etc/passwd"), root),
        # Without PAM, sshd takes "!" for a locked account and refuses its keys too.
        "shadow": _with_root_line(Path("/etc/shadow"), "root:*:19000:0:99999:7:::"),
        "hosts": "\n".join(hosts) + "\n",
        "hostname": site.site + "\n",
    }


def _with_root_line(path: Path, root: str) -> str:
    others = [line for line in path.read_text().splitlines() if not line.startswith("root:")]
    return "\n".join([root, *others]) + "\n"


def _paths_that_nodes_need(root: Path) -> list[Path]:
    """What must stay visible on a node although it may lie below /tmp or /run of the host."""
    paths = {
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(os.path.realpath(sys.executable)).parent,
        _PACKAGE_ROOT,
        root,
    }
    return sorted(path for path in paths if path.is_dir() or path == root)


def _program(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if found is None:
        raise NodeError(f"this machine has no {name}", hint=f"apt-get install {package}")
    return found


def congestion_control_of(nodes: Mapping[str, NamespaceNode]) -> str:
    """The congestion control that the nodes run, for the record; all when they differ."""
    return ", ".join(sorted({node.state.sysctls["net.ipv4.tcp_congestion_control"] for node in nodes.values()}))
