"""Builds a lab: ledger first, then nodes and WAN core side by side, then the shaping. Any failure is undone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from harness.errors import LabError, LonghaulError, PrivilegeError
from harness.lab.claims import Claim, choose, claim_path, write_claim
from harness.lab.ledger import Ledger
from harness.lab.signals import uninterrupted
from harness.lab.state import LabPaths, LabState, write_state
from harness.lab.teardown import undo_all
from harness.lab.undo import end_processes
from harness.model.resource import Resource
from harness.model.topology import Topology
from harness.nodes.host_lock import host_lock
from harness.nodes.host_network import (
    NETNS_DIRECTORY,
    add_stray_routes,
    has_ipv6,
    is_mount_point,
    management_addresses,
    stray_prefixes,
)
from harness.nodes.namespace_node import NamespaceNode
from harness.nodes.nat import start_nat
from harness.nodes.network_settings import DEFAULT_CONGESTION_CONTROL
from harness.nodes.node_builder import NodeBuilder
from harness.plan.addressing import LabPlan, plan_lab
from harness.plan.core_needs import core_needs
from harness.wan.port import WanCore

Progress = Callable[[str], None]
WanKind = Literal["auto", "netns", "vm"]

_MOST_LOGINS = 8
"""Nodes that are logged in to before a lab is handed over; of all others it is known that their sshd answers."""

_CORE_PATIENCE_S = 60.0
_CORE_RETRY_S = 0.2


class BuiltLab:
    """What a builder hands over."""

    def __init__(self, paths: LabPaths, state: LabState, core: WanCore, nodes: dict[str, NamespaceNode]) -> None:
        self.paths = paths
        self.state = state
        self.core = core
        self.nodes = nodes


class LabBuilder:
    """Builds one lab."""

    def __init__(
        self,
        topology: Topology,
        *,
        state_root: Path,
        lab_id: str | None,
        wan: WanKind,
        seed: int | None,
        congestion_control: str = DEFAULT_CONGESTION_CONTROL,
        progress: Progress | None = None,
    ) -> None:
        self._topology = topology
        self._state_root = state_root
        self._lab_id = lab_id
        self._wan = wan
        self._seed = seed
        self._congestion_control = congestion_control
        self._progress = progress or (lambda _: None)
        self._paths: LabPaths | None = None
        self._ledger: Ledger | None = None
        self._nodes: NodeBuilder | None = None
        self._core: Future[WanCore] | None = None

    def build(self) -> BuiltLab:
        """Build it, or undo everything and raise (LabError and its kind, InputError for an id that is taken)."""
        if os.geteuid() != 0:
            raise PrivilegeError("a lab needs root", hint="Run it with sudo.")
        begin = time.monotonic()
        with ThreadPoolExecutor(max_workers=2 + _MOST_LOGINS) as pool:
            try:
                return self._build(begin, pool)
            except BaseException as failure:
                with uninterrupted():
                    self._progress("undoing")
                    self._undo(failure)
                raise
            finally:
                if self._nodes is not None:
                    self._nodes.close()
                if self._ledger is not None:
                    self._ledger.close()

    def _build(self, begin: float, pool: ThreadPoolExecutor) -> BuiltLab:
        self._progress("claiming a slot")
        with uninterrupted():
            plan = self._claim()
        paths, ledger = self._paths, self._ledger
        assert paths is not None
        assert ledger is not None
        self._progress("placing the WAN core and starting the nodes")
        self._core = pool.submit(self._place_core, paths, ledger)
        self._nodes = NodeBuilder(
            plan,
            root=paths.data,
            credentials=paths.credentials,
            recorder=ledger,
            congestion_control=self._congestion_control,
        )
        self._nodes.begin()
        core = self._core.result()
        self._progress("wiring the sites to the WAN core, shaping the links")
        initial = {(link.source, link.destination): link.impairment for link in plan.topology.links}
        wired = pool.submit(core.attach, plan, {site.site: site.netns for site in plan.sites}, initial)
        nodes = self._nodes.finish()
        tried = list(nodes.values())[:: -(-len(nodes) // _MOST_LOGINS)]
        answers = list(pool.map(lambda node: node.remote.run(["hostname"], timeout_s=20.0).stdout.strip(), tried))
        if answers != [node.name for node in tried]:
            raise LabError(f"the nodes answer with wrong names: {answers}")
        wired.result()
        for site in plan.sites:
            if site.edge is not None and site.edge.nat is not None:
                # Last, since attaching probes the core with packets that nobody inside asked for.
                start_nat(site)
        state = LabState(
            plan=plan,
            core={key: value for key, value in core.state().items() if key != "plan"},
            nodes=tuple(node.state for node in nodes.values()),
            seed=self._seed,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            up_seconds=time.monotonic() - begin,
        )
        write_state(paths, state)
        return BuiltLab(paths, state, core, nodes)

    def _claim(self) -> LabPlan:
        """Take a slot and begin the ledger, against every other process of this host."""
        with host_lock():
            lab_id, slot = choose(self._lab_id, management_addresses())
            paths = LabPaths(state_root=self._state_root, lab_id=lab_id)
            try:
                plan = plan_lab(self._topology, lab_id, slot, ipv6=has_ipv6())
            except ValueError as error:
                raise LabError(f"cannot place the topology: {error}") from error
            if paths.ledger.exists():
                raise LabError(
                    f"what is left of a lab {lab_id!r} is in the way", hint=f"`longhaul down {lab_id}` removes it."
                )
            paths.directory.mkdir(parents=True, exist_ok=True)
            self._paths = paths
            self._ledger = Ledger.create(paths.ledger)
            resources = [] if is_mount_point(NETNS_DIRECTORY) else [Resource(kind="mount", name=str(NETNS_DIRECTORY))]
            resources += [Resource(kind="directory", name=str(paths.data), note="the nodes' files")]
            resources += [Resource(kind="route", name=prefix, note="unreachable") for prefix in stray_prefixes()]
            resources += [Resource(kind="file", name=str(claim_path(slot)), note="the slot")]
            self._ledger.record_all(resources)
            write_claim(slot, Claim(lab_id=lab_id, ledger=paths.ledger))
            add_stray_routes()
            paths.data.mkdir(parents=True)
            paths.core_directory.mkdir()
            return plan

    def _place_core(self, paths: LabPaths, ledger: Ledger) -> WanCore:
        from harness.wan.placement import place_core

        needs = core_needs(self._topology)
        return place_core(self._wan, len(self._topology.sites), ledger, paths.core_directory, self._seed, needs)

    def _undo(self, failure: BaseException) -> None:
        if self._nodes is not None:
            self._nodes.close()
        if self._core is not None:
            self._abandon_core(self._core)
        if self._paths is not None and self._ledger is not None:
            try:
                undo_all(self._paths, self._ledger)
            except LonghaulError as error:
                raise LabError(f"{failure or 'interrupted'}; and then: {error}", hint=error.hint) from failure

    def _abandon_core(self, placing: Future[WanCore]) -> None:
        """A core that is just being placed still writes to the ledger, so its placing must end before the undo; that
        is soon, since its process is ended as often as one appears."""
        deadline = time.monotonic() + _CORE_PATIENCE_S
        while not placing.done() and time.monotonic() < deadline:
            if self._ledger is not None:
                end_processes(self._ledger.content())
            wait([placing], timeout=_CORE_RETRY_S)
        if placing.done() and placing.exception() is None:
            placing.result().close()
