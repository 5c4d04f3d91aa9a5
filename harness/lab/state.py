"""Where labs keep their state on this host, and which labs there are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import InputError, LabError
from harness.model.base import Value
from harness.model.topology import Topology
from harness.nodes.host_lock import HOST_DIRECTORY
from harness.nodes.namespace_node import NodeState
from harness.plan.addressing import LabPlan, NodePlan, SitePlan

STATE_ROOT_VARIABLE = "LONGHAUL_STATE"
DEFAULT_STATE_ROOT = HOST_DIRECTORY
DEFAULT_DATA_ROOT = Path("/var/lib/longhaul")
"""On disk, unlike /run: nodes hold the data of the software under test."""


def resolve_state_root(explicit: Path | None = None) -> Path:
    """The argument, else the environment's LONGHAUL_STATE, else /run/longhaul; absolute."""
    chosen = explicit or Path(os.environ.get(STATE_ROOT_VARIABLE) or DEFAULT_STATE_ROOT)
    return chosen.absolute()


class LabPaths(Value):
    """The files of one lab."""

    state_root: Path
    lab_id: str

    @property
    def directory(self) -> Path:
        """Small state: ledger, plan, keys."""
        return self.state_root / "labs" / self.lab_id

    @property
    def ledger(self) -> Path:
        """What was made; see ``ledger.py``."""
        return self.directory / "ledger.jsonl"

    @property
    def state(self) -> Path:
        """A LabSummary, written last: a lab is up when this exists."""
        return self.directory / "lab.json"

    @property
    def topology(self) -> Path:
        """The topology, which grows with the square of the sites, apart from the rest."""
        return self.directory / "topology.json"

    @property
    def changes(self) -> Path:
        """Every change of a link, in order."""
        return self.directory / "changes.jsonl"

    @property
    def broken(self) -> Path:
        """Exists when the lab broke; its text says how."""
        return self.directory / "broken"

    @property
    def credentials(self) -> Path:
        """Client key and known hosts."""
        return self.directory / "ssh"

    @property
    def core_directory(self) -> Path:
        """The WAN core's own files."""
        return self.directory / "core"

    @property
    def data(self) -> Path:
        """The nodes' directories, one for each site."""
        root = DEFAULT_DATA_ROOT if self.state_root == DEFAULT_STATE_ROOT else self.state_root / "data"
        return root / "labs" / self.lab_id


class LabSummary(Value):
    """What there is to know of a lab without its links; ``created_at`` is ISO 8601 in UTC."""

    lab_id: str
    slot: int
    topology_name: str
    sites: tuple[SitePlan, ...]
    core: dict[str, Any]
    node_states: tuple[NodeState, ...]
    seed: int | None
    created_at: str
    up_seconds: float

    @property
    def nodes(self) -> tuple[tuple[NodePlan, NodeState], ...]:
        """Every node's plan and state, site by site."""
        plans = [node for site in self.sites for node in site.nodes]
        return tuple(zip(plans, self.node_states, strict=True))


class LabState(Value):
    """Everything about a lab that another process needs. ``core`` is the core's state without the plan."""

    plan: LabPlan
    core: dict[str, Any]
    nodes: tuple[NodeState, ...]
    seed: int | None
    created_at: str
    up_seconds: float

    def core_with_plan(self) -> dict[str, Any]:
        """What ``open_core`` takes."""
        return {**self.core, "plan": self.plan}

    def summary(self) -> LabSummary:
        """All but the topology."""
        return LabSummary(
            lab_id=self.plan.lab_id,
            slot=self.plan.slot,
            topology_name=self.plan.topology.name,
            sites=self.plan.sites,
            core=self.core,
            node_states=self.nodes,
            seed=self.seed,
            created_at=self.created_at,
            up_seconds=self.up_seconds,
        )


def lab_ids(state_root: Path) -> tuple[str, ...]:
    """Labs that have a directory, whole or not, by name."""
    directory = state_root / "labs"
    if not directory.is_dir():
        return ()
    return tuple(sorted(path.name for path in directory.iterdir() if path.is_dir()))


def write_state(paths: LabPaths, state: LabState) -> None:
    """Say that a lab is up."""
    # Defaults are kept: without its default `kind` a loss model cannot be told from another.
    write_durably(paths.topology, state.plan.topology.model_dump_json(exclude_none=True))
    write_durably(paths.state, state.summary().model_dump_json())


def read_state(paths: LabPaths) -> LabState:
    """The state of a lab that is up. Raises as ``read_summary``."""
    summary = read_summary(paths)
    plan = LabPlan(lab_id=summary.lab_id, slot=summary.slot, topology=read_topology(paths), sites=summary.sites)
    return LabState(
        plan=plan,
        core=summary.core,
        nodes=summary.node_states,
        seed=summary.seed,
        created_at=summary.created_at,
        up_seconds=summary.up_seconds,
    )


def read_topology(paths: LabPaths) -> Topology:
    """What a lab that is up was built from. Raises LabError."""
    try:
        return Topology.model_validate_json(paths.topology.read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise _damaged(paths) from error


def read_summary(paths: LabPaths) -> LabSummary:
    """The state of a lab that is up, without its links. Raises InputError when there is no such lab, LabError when it
    never came up."""
    if not paths.directory.is_dir():
        raise InputError(f"there is no lab {paths.lab_id!r}", hint=labs_hint(paths.state_root))
    try:
        return LabSummary.model_validate_json(paths.state.read_bytes())
    except FileNotFoundError as error:
        raise LabError(
            f"lab {paths.lab_id} is not up: it is being built, or its building was cut short",
            hint=f"`longhaul down {paths.lab_id}` removes what there is of it.",
        ) from error
    except ValidationError as error:
        raise _damaged(paths) from error


def _damaged(paths: LabPaths) -> LabError:
    return LabError(
        f"lab {paths.lab_id} was built by another version of Longhaul, or its state is damaged",
        hint=f"`longhaul down {paths.lab_id}` takes it down by its ledger.",
    )


def write_durably(path: Path, content: str) -> None:
    """Replace a file so that a crash leaves the old one or the new one."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def choose_lab(state_root: Path, lab_id: str | None) -> LabPaths:
    """The lab that was named, or the only one. Raises InputError that lists the labs."""
    labs = lab_ids(state_root)
    if lab_id is not None:
        if lab_id not in labs:
            raise InputError(f"there is no lab {lab_id!r}", hint=labs_hint(state_root))
        return LabPaths(state_root=state_root, lab_id=lab_id)
    if len(labs) != 1:
        what = "no lab is up" if not labs else f"{len(labs)} labs are up; say which with --lab"
        raise InputError(what, hint=labs_hint(state_root))
    return LabPaths(state_root=state_root, lab_id=labs[0])


def labs_hint(state_root: Path) -> str:
    """One sentence about which labs there are."""
    labs = lab_ids(state_root)
    if not labs:
        return "Bring one up with `longhaul up four-sites`."
    return f"Labs: {', '.join(labs)}."
