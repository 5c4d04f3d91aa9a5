"""A node as a set of namespaces on this host: network, mounts, hostname, processes, and an sshd of its own."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import NodeError
from harness.model.base import Value
from harness.model.resource import BatchRecorder, Resource
from harness.nodes import host_network, host_processes
from harness.nodes.commands import SYSTEM_PATH, find_program
from harness.nodes.fabric_remote import FabricRemote
from harness.nodes.host_lock import host_lock
from harness.nodes.network_settings import (
    DEFAULT_CONGESTION_CONTROL,
    RECORDED_ONLY,
    allowed_in_namespaces,
    node_settings,
)
from harness.nodes.node_clock import install_clock
from harness.nodes.ssh_access import CLIENT_KEY, KNOWN_HOSTS, await_banners, sshd_config, write_key, write_known_hosts
from harness.plan.addressing import MANAGEMENT_INTERFACE, LabPlan, NodePlan, SitePlan
from harness.plan.edge import edge_settings
from harness.plan.timeline import nodes_with_clock

_INIT = Path(__file__).with_name("node_init.py")
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_START_DEADLINE_S = 120.0
_SSH_DEADLINE_S = 60.0


class NodeState(Value):
    """What another process needs to find the node again, and what the report shows of it."""

    name: str
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
    """One host of the lab, reached over its management address (implements ``Node``).

    ``wan_address`` is its own, to bind to; ``public_address`` is where other sites find it, which differs behind NAT.
    """

    def __init__(self, plan: NodePlan, layout: NodeLayout, state: NodeState, credentials: Path) -> None:
        self.name = plan.name
        self.site = plan.site
        self.netns = plan.netns
        self.wan_address = str(plan.address)
        self.wan_address6 = None if plan.address6 is None else str(plan.address6)
        self.public_address = str(plan.public_address)
        self.management_address = str(plan.management_address)
        self.data_dir = str(layout.data)
        self.log_dir = str(layout.log)
        self.state = state
        self.remote = FabricRemote(
            site=plan.name,
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
    """Builds all nodes and edges of a lab at once. Use: ``begin``, then (wire the WAN meanwhile) ``finish``.

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
        self._with_clock = nodes_with_clock(plan.topology)
        self._nursery: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._states: dict[str, NodeState] = {}

    def begin(self) -> None:
        """Make every node's namespaces, its management link and its LAN, in the ledger first. Raises NodeError."""
        sshd = find_program("sshd", "openssh-server")
        if any(site.edge is not None and site.edge.nat is not None for site in self._plan.sites):
            find_program("nft", "nftables")
        self._credentials.mkdir(mode=0o700)
        settings = node_settings(self._congestion_control, self._plan.ipv6)
        with host_lock(), allowed_in_namespaces(self._congestion_control, self._recorder):
            self._start_nursery(settings, sshd)
            self._write_all_files()
            pids = self._await_processes()
        self._record(pids)
        for netns, pid in pids.items():
            host_network.name_namespace(netns, pid)
        host_network.connect_management(self._plan.nodes)
        for site in self._plan.sites:
            if site.edge is not None:
                host_network.connect_lan(site, self._plan.topology.mtu)
        nursery = self._running_nursery()
        assert nursery.stdin is not None
        try:
            nursery.stdin.write(b"g" * len(pids))
            nursery.stdin.flush()
        except BrokenPipeError as error:
            raise NodeError("the nodes ended before they began") from error

    def finish(self) -> dict[str, NamespaceNode]:
        """Wait until every sshd answers; the nodes by name in the topology's order. Raises NodeError."""
        for _ in self._plan.nodes:
            name = self._answer()["name"]
            if host_processes.start_ticks(self._states[name].pid) is None:
                raise NodeError(f"node {name} ended as it began")
        self.close()
        silent = await_banners([str(node.management_address) for node in self._plan.nodes], _SSH_DEADLINE_S)
        if silent:
            names = [node.name for node in self._plan.nodes if str(node.management_address) in silent]
            raise NodeError(f"no sshd answers at {', '.join(names)} within {_SSH_DEADLINE_S:g} s")
        return open_nodes(
            self._plan, [self._states[node.name] for node in self._plan.nodes], self._root, self._credentials
        )

    def close(self) -> None:
        """Let go of the builder's pipes: a node that was not told to go ends by itself."""
        nursery, self._nursery = self._nursery, None
        if nursery is None:
            return
        for stream in (nursery.stdin, nursery.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue
        nursery.wait()

    def _start_nursery(self, settings: Mapping[str, str], sshd: str) -> None:
        edges = [site.netns for site in self._plan.sites if site.edge is not None]
        specs = {
            "nodes": [self._spec(node, settings, sshd) for node in self._plan.nodes],
            "edges": [{"name": netns, "sysctls": edge_settings(self._plan.ipv6)} for netns in edges],
        }
        self._nursery = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_INIT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )
        assert self._nursery.stdin is not None
        self._nursery.stdin.write(json.dumps(specs).encode() + b"\n")
        self._nursery.stdin.flush()

    def _write_all_files(self) -> None:
        client = write_key(self._credentials / CLIENT_KEY)
        accounts = _accounts()
        host_keys = {}
        for site in self._plan.sites:
            hosts = _hosts(self._plan, site)
            for node in site.nodes:
                host_keys[str(node.management_address)] = self._write_files(node, client, accounts, hosts)
        write_known_hosts(self._credentials / KNOWN_HOSTS, host_keys)

    def _await_processes(self) -> dict[str, int]:
        """A process in each network namespace that is to have a name, by that name."""
        nodes = {node.name: node.netns for node in self._plan.nodes}
        edges = sum(site.edge is not None for site in self._plan.sites)
        pids = {}
        for _ in range(len(nodes) + edges):
            answer = self._answer()
            name, pid = answer["name"], int(answer["pid"])
            pids[nodes.get(name, name)] = pid
            if name in nodes:
                ticks = host_processes.start_ticks(pid)
                if ticks is None:
                    raise NodeError(f"node {name} ended before it began")
                self._states[name] = NodeState(name=name, pid=pid, start_ticks=ticks, sysctls=answer["sysctls"])
        return pids

    def _record(self, pids: Mapping[str, int]) -> None:
        resources = [
            Resource(kind="netns", name=site.netns, note=f"edge of {site.site}")
            for site in self._plan.sites
            if site.edge is not None
        ]
        for node in self._plan.nodes:
            link, pid = node.management_host_interface, str(pids[node.netns])
            ticks = self._states[node.name].start_ticks
            resources += [
                Resource(kind="netns", name=node.netns, note=node.name),
                Resource(kind="link", name=link, note=f"management of {node.name}"),
                Resource(kind="process", name=pid, start_ticks=ticks, note=f"init of {node.name}"),
            ]
        self._recorder.record_all(resources)

    def _running_nursery(self) -> subprocess.Popen[bytes]:
        if self._nursery is None:
            raise NodeError("the nodes have not begun")
        return self._nursery

    def _answer(self) -> dict[str, Any]:
        """The next line from any of them; one that dies without a word is told from a slow one by the deadline alone,
        since the others hold the pipe open."""
        stdout = self._running_nursery().stdout
        assert stdout is not None
        deadline = time.monotonic() + _START_DEADLINE_S
        while b"\n" not in self._said:
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise NodeError(f"a node did not start within {_START_DEADLINE_S:g} s")
            data = os.read(stdout.fileno(), 1 << 16)
            if not data:
                raise NodeError("the nodes ended without a word")
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise NodeError(f"node {answer['name']} does not start: {answer['error']}")
        return answer

    def _layout(self, node: NodePlan) -> NodeLayout:
        return NodeLayout(root=self._root / node.name)

    def _spec(self, node: NodePlan, settings: Mapping[str, str], sshd: str) -> dict[str, Any]:
        layout = self._layout(node)
        return {
            "name": node.name,
            "management_interface": MANAGEMENT_INTERFACE,
            "management_address": str(node.management_address),
            "sysctls": settings,
            "recorded_sysctls": RECORDED_ONLY,
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

    def _write_files(self, node: NodePlan, client_key: str, accounts: _Accounts, hosts: str) -> str:
        """Write the node's directories and files; return its public host key."""
        layout = self._layout(node)
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
        for name, content in (*accounts.files(layout), ("hosts", hosts), ("hostname", node.name + "\n")):
            path = layout.etc / name
            path.write_text(content)
            path.chmod(0o600 if name == "shadow" else 0o644)
        public = write_key(layout.etc / "host_key")
        authorized = layout.etc / "authorized_keys"
        authorized.write_text(client_key + "\n")
        authorized.chmod(0o600)
        config = sshd_config(
            address=str(node.management_address),
            host_key=layout.etc / "host_key",
            authorized_keys=authorized,
            environment={
                "PATH": session_path(),
                "LANG": "C.UTF-8",
                "LONGHAUL_SITE": node.site,
                "LONGHAUL_NODE": node.name,
                **(install_clock(layout.etc) if node.name in self._with_clock else {}),
            },
        )
        (layout.etc / "sshd_config").write_text(config)
        return public


def open_node(plan: NodePlan, *, root: Path, credentials: Path, state: NodeState) -> NamespaceNode:
    """A node that another process built."""
    return NamespaceNode(plan, NodeLayout(root=root / plan.name), state, credentials)


def open_nodes(plan: LabPlan, states: Sequence[NodeState], root: Path, credentials: Path) -> dict[str, NamespaceNode]:
    """All nodes of a lab by name; ``states`` in the plan's order."""
    return {
        node.name: open_node(node, root=root, credentials=credentials, state=state)
        for node, state in zip(plan.nodes, states, strict=True)
    }


def session_path() -> str:
    """PATH of every command on a node: this Python's programs (``syncer`` is one) before the system's."""
    return f"{Path(sys.prefix) / 'bin'}:{SYSTEM_PATH}"


_IDENTITY_FILES = ("passwd", "shadow", "hosts", "hostname")


class _Accounts(Value):
    """The host's accounts but for root, which on a node lives in the data directory and may log in by key."""

    passwd: str
    shadow: str

    def files(self, layout: NodeLayout) -> tuple[tuple[str, str], ...]:
        # Without PAM, sshd takes "!" for a locked account and refuses its keys too.
        return (
            ("passwd", f"root:x:0:0:root:{layout.data}:/bin/bash\n{self.passwd}"),
            ("shadow", f"root:*:19000:0:99999:7:::\n{self.shadow}"),
        )


def _accounts() -> _Accounts:
    return _Accounts(passwd=_without_root(Path("/etc/passwd")), shadow=_without_root(Path("/etc/shadow")))


def _without_root(path: Path) -> str:
    return "".join(f"{line}\n" for line in path.read_text().splitlines() if not line.startswith("root:"))


def _hosts(plan: LabPlan, viewer: SitePlan) -> str:
    """Every node by name, with both its addresses, as they are seen from one site."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    for site in plan.sites:
        for node in site.nodes:
            lines.append(f"{node.address if site is viewer else node.public_address} {node.name}")
            if node.address6 is not None:
                lines.append(f"{node.address6} {node.name}")
    return "\n".join(lines) + "\n"


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


def congestion_control_of(nodes: Mapping[str, NamespaceNode]) -> str:
    """The congestion control that the nodes run, for the record; all when they differ."""
    return ", ".join(sorted({node.state.sysctls["net.ipv4.tcp_congestion_control"] for node in nodes.values()}))
