"""Builds all nodes and edges of a lab at once: namespaces, networks, files, and an sshd on each."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import NodeError
from harness.model.resource import BatchRecorder, Resource
from harness.nodes import host_network, host_processes
from harness.nodes.commands import find_program
from harness.nodes.host_lock import host_lock
from harness.nodes.namespace_node import NamespaceNode, NodeState, open_nodes
from harness.nodes.network_settings import (
    DEFAULT_CONGESTION_CONTROL,
    RECORDED_ONLY,
    allowed_in_namespaces,
    node_settings,
)
from harness.nodes.node_files import (
    IDENTITY_FILES,
    NodeLayout,
    host_accounts,
    hosts_file,
    paths_that_nodes_need,
    write_node_files,
)
from harness.nodes.ssh_access import CLIENT_KEY, KNOWN_HOSTS, await_banners, write_key, write_known_hosts
from harness.plan.addressing import MANAGEMENT_INTERFACE, LabPlan, NodePlan
from harness.plan.edge import edge_settings
from harness.plan.timeline import nodes_with_clock

_INIT = Path(__file__).with_name("node_init.py")
_START_DEADLINE_S = 120.0
_SSH_DEADLINE_S = 60.0


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
        accounts = host_accounts()
        host_keys = {}
        for site in self._plan.sites:
            hosts = hosts_file(self._plan, site)
            for node in site.nodes:
                host_keys[str(node.management_address)] = write_node_files(
                    node,
                    self._layout(node),
                    client_key=client,
                    accounts=accounts,
                    hosts=hosts,
                    with_clock=node.name in self._with_clock,
                )
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
                *((str(layout.etc / name), f"/etc/{name}") for name in IDENTITY_FILES),
            ],
            "keep": [str(path) for path in paths_that_nodes_need(layout.root)],
            "sshd": [sshd, "-D", "-e", "-f", str(layout.etc / "sshd_config")],
            "sshd_log": str(layout.log / "sshd.log"),
        }
