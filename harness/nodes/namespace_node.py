"""A node as a set of namespaces on this host: network, mounts, hostname, processes, and an sshd of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.model.base import Value
from harness.nodes import host_processes
from harness.nodes.fabric_remote import FabricRemote
from harness.nodes.node_files import NodeLayout
from harness.nodes.ssh_access import CLIENT_KEY, KNOWN_HOSTS
from harness.plan.addressing import LabPlan, NodePlan


class NodeState(Value):
    """What another process needs to find the node again, and what the report shows of it."""

    name: str
    pid: int
    start_ticks: int
    sysctls: dict[str, str]


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


def open_node(plan: NodePlan, *, root: Path, credentials: Path, state: NodeState) -> NamespaceNode:
    """A node that another process built."""
    return NamespaceNode(plan, NodeLayout(root=root / plan.name), state, credentials)


def open_nodes(plan: LabPlan, states: Sequence[NodeState], root: Path, credentials: Path) -> dict[str, NamespaceNode]:
    """All nodes of a lab by name; ``states`` in the plan's order."""
    return {
        node.name: open_node(node, root=root, credentials=credentials, state=state)
        for node, state in zip(plan.nodes, states, strict=True)
    }


def congestion_control_of(nodes: Mapping[str, NamespaceNode]) -> str:
    """The congestion control that the nodes run, for the record; all when they differ."""
    return ", ".join(sorted({node.state.sysctls["net.ipv4.tcp_congestion_control"] for node in nodes.values()}))
