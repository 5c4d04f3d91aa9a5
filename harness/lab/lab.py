"""A lab that is up: its nodes, its links, and everything that one does with them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from harness.errors import InputError, LabError, LonghaulError
from harness.lab.builder import BuiltLab, LabBuilder, Progress, WanKind
from harness.lab.links import (
    LinkBook,
    LinkKey,
    LinkState,
    LoggedChange,
    Overlay,
    with_base,
    with_holder,
    with_overlay,
    with_overlay_again,
    with_state,
    without_holder,
    without_overlay,
)
from harness.lab.state import LabPaths, read_state, resolve_state_root
from harness.lab.teardown import take_down
from harness.model.impairment import Impairment
from harness.model.measurement import Certificate, Depth, LinkCounters
from harness.model.run_record import WanChange
from harness.model.topology import Topology
from harness.nodes.namespace_node import NamespaceNode, open_nodes
from harness.nodes.network_settings import DEFAULT_CONGESTION_CONTROL
from harness.nodes.node_disk import give_disk


class Lab:
    """Sites on a WAN, up and running. Make one with ``up`` or ``open``. Its methods may be called from any thread.

    ``epoch_s`` is the monotonic time from which the times of WAN changes count; a run sets it to its own beginning.
    ``on_change`` is called with every durable change that this object makes.
    Once broken, a lab stays broken: everything but ``down`` raises LabError.
    """

    def __init__(self, built: BuiltLab) -> None:
        self.paths = built.paths
        self.state = built.state
        self.plan = built.state.plan
        self.core = built.core
        self.nodes: Mapping[str, NamespaceNode] = built.nodes
        self.epoch_s = time.monotonic()
        self.on_change: Callable[[WanChange], None] | None = None
        self._links = LinkBook(self.topology, built.paths.changes)
        self._measuring = threading.Lock()

    @classmethod
    def up(
        cls,
        topology: Topology,
        *,
        lab_id: str | None = None,
        wan: WanKind = "auto",
        seed: int | None = None,
        state_root: Path | None = None,
        congestion_control: str = DEFAULT_CONGESTION_CONTROL,
        progress: Progress | None = None,
    ) -> Self:
        """Build a lab. Raises LabError and its kind, after undoing everything; InputError for an id that is taken."""
        builder = LabBuilder(
            topology,
            state_root=resolve_state_root(state_root),
            lab_id=lab_id,
            wan=wan,
            seed=seed,
            congestion_control=congestion_control,
            progress=progress,
        )
        lab = cls(builder.build())
        try:
            lab._give_disks()
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def open(cls, lab_id: str, *, state_root: Path | None = None) -> Self:
        """A lab that another process built. Raises InputError when there is none, LabError when it is not up."""
        from harness.wan.placement import open_core

        paths = LabPaths(state_root=resolve_state_root(state_root), lab_id=lab_id)
        state = read_state(paths)
        nodes = open_nodes(state.plan, state.nodes, paths.data, paths.credentials)
        try:
            core = open_core(state.core_with_plan())
        except (OSError, EOFError, KeyError) as error:
            raise LabError(
                f"the WAN core of lab {lab_id} cannot be reached: {error!r}",
                hint=f"`longhaul down {lab_id}` still works.",
            ) from error
        return cls(BuiltLab(paths, state, core, nodes))

    @property
    def lab_id(self) -> str:
        """Its name on this host."""
        return self.paths.lab_id

    @property
    def topology(self) -> Topology:
        """What it was built from."""
        return self.plan.topology

    @property
    def state_dir(self) -> Path:
        """Ledger, keys, log of changes."""
        return self.paths.directory

    @property
    def up_seconds(self) -> float:
        """How long its building took."""
        return self.state.up_seconds

    @property
    def broken(self) -> str | None:
        """Why the lab is broken; None while it is whole."""
        try:
            return self.paths.broken.read_text()
        except FileNotFoundError:
            return None

    def impairment(self, source: str, destination: str) -> Impairment:
        """What the link was last set to, whether or not a fault cuts it off now. Raises InputError for no such link."""
        return self._state(source, destination).base

    def in_force(self, source: str, destination: str) -> Impairment:
        """What the core does to the link now, faults included. Raises InputError for no such link."""
        return self._state(source, destination).in_force

    def change(
        self, changes: Mapping[LinkKey, Impairment], reason: str, planned_s: float | None = None
    ) -> list[WanChange]:
        """Set links, in one batch, read back. The links that did change. ``planned_s`` counts from ``epoch_s``."""
        return self._apply({link: with_base(impairment) for link, impairment in changes.items()}, reason, planned_s)

    def hold(
        self, links: Iterable[LinkKey], holder: str, reason: str, planned_s: float | None = None
    ) -> list[WanChange]:
        """Cut links off in the name of ``holder``; each stays cut off until all its holders have let go."""
        return self._apply({link: with_holder(holder) for link in links}, reason, planned_s)

    def let_go(
        self, links: Iterable[LinkKey], holder: str, reason: str, planned_s: float | None = None
    ) -> list[WanChange]:
        """Undo ``hold``; links that ``holder`` does not hold are left alone."""
        return self._apply({link: without_holder(holder) for link in links}, reason, planned_s)

    def overlay(
        self,
        links: Mapping[LinkKey, Mapping[str, object]],
        holder: str,
        reason: str,
        planned_s: float | None = None,
        durable: bool = True,
        again: bool = False,
    ) -> list[WanChange]:
        """Replace fields of each link's impairment in the name of ``holder``, until ``lift``.

        Several holders' overlays lie in the order in which they were first laid, the last on top; a holder has one at a
        link, and laying it again replaces it where it lies. Not ``durable`` is for changes that come many times a
        second: they are in force and known to other processes, but neither in ``changes()`` nor told to ``on_change``.
        ``again`` is for overlays that lie there: when another process has lifted one, nothing is changed and
        OverlayGone raised. Raises InputError for a field that Impairment lacks.
        """
        lay = with_overlay_again if again else with_overlay
        steps = {link: lay(Overlay.of(holder, fields)) for link, fields in links.items()}
        return self._apply(steps, reason, planned_s, durable)

    def lift(
        self,
        links: Iterable[LinkKey],
        holder: str,
        reason: str,
        planned_s: float | None = None,
        durable: bool = True,
    ) -> list[WanChange]:
        """Undo ``overlay``; links that ``holder`` has nothing on are left alone."""
        return self._apply({link: without_overlay(holder) for link in links}, reason, planned_s, durable)

    def restore(self, reason: str = "restored to the topology") -> list[WanChange]:
        """Set every link back to what the topology says, and end every overlay and hold."""
        return self._apply({link: with_state(state) for link, state in self._links.initial.items()}, reason)

    def initial_state(self, link: LinkKey) -> LinkState:
        """What the topology says of a link, and nobody holding it."""
        return self._links.initial[link]

    def link_states(self) -> Mapping[LinkKey, LinkState]:
        """Every link: its base, what lies over it, and who cuts it off."""
        return self._links.states()

    def changes(self) -> tuple[LoggedChange, ...]:
        """Every durable change since the lab came up, by whichever process."""
        return self._links.history()

    def read_back(self) -> Mapping[LinkKey, Impairment]:
        """What the core's kernel says of each link."""
        self._must_be_whole()
        with self._reaching_core():
            return self.core.read_back([state.in_force for state in self._links.states().values()])

    def counters(self) -> tuple[LinkCounters, ...]:
        """The core's own counters for each link."""
        self._must_be_whole()
        with self._reaching_core():
            return self.core.counters()

    def measure(
        self,
        progress: Progress | None = None,
        rounds: int | None = None,
        calibrate: Depth = "quick",
        *,
        links: Iterable[LinkKey] | None = None,
        advance: Callable[[float], None] | None = None,
    ) -> Certificate:
        """Probe the links between the sites, all or some, and judge them against what is in force now. One at a time.

        ``advance`` hears the share that is done. Raises InputError for a link that does not exist.
        """
        from harness.lab.fidelity import measure_links

        self._must_be_whole()
        with self._measuring:
            wanted = {link: state.in_force for link, state in self._links.states().items()}
            return measure_links(
                self.plan,
                self.nodes,
                wanted,
                depth=calibrate,
                links=links,
                rounds=rounds,
                progress=progress,
                advance=advance,
            )

    def close(self) -> None:
        """Drop this process's connections; the lab goes on."""
        for node in self.nodes.values():
            node.remote.close()
        self.core.close()

    def down(self) -> float:
        """Take the lab down; seconds. Raises LabError that lists what is left."""
        self.close()
        return take_down(self.paths)

    def _give_disks(self) -> None:
        for site in self.topology.sites:
            for name in site.node_names if site.disk_bytes is not None else ():
                node = self.nodes[name]
                assert site.disk_bytes is not None
                give_disk(node.state.pid, Path(node.data_dir), site.disk_bytes)

    def _state(self, source: str, destination: str) -> LinkState:
        state = self._links.state((source, destination))
        if state is None:
            raise self._no_link((source, destination))
        return state

    def _no_link(self, link: LinkKey) -> InputError:
        return InputError(
            f"there is no link {link[0]}>{link[1]}", hint=f"Sites: {', '.join(self.topology.site_names)}."
        )

    def _apply(
        self,
        steps: Mapping[LinkKey, Callable[[LinkState], LinkState]],
        reason: str,
        planned_s: float | None = None,
        durable: bool = True,
    ) -> list[WanChange]:
        self._must_be_whole()
        with self._links.exclusive() as states:
            for link in steps:
                if link not in states:
                    raise self._no_link(link)
            before = {link: states[link] for link in steps}
            after = {link: step(before[link]) for link, step in steps.items()}
            changed = {link: state for link, state in after.items() if state != before[link]}
            shaped = {
                link: (before[link].in_force, state.in_force)
                for link, state in changed.items()
                if state.in_force != before[link].in_force
            }
            if shaped:
                self._shape([(*link, now) for link, (_, now) in shaped.items()])
            at_s = time.monotonic()
            if durable:
                self._links.append(
                    LoggedChange(
                        source=link[0],
                        destination=link[1],
                        at_s=at_s,
                        planned_s=None if planned_s is None else self.epoch_s + planned_s,
                        reason=reason,
                        before=before[link],
                        after=state,
                    )
                    for link, state in changed.items()
                )
            elif changed:
                self._links.set_live(changed)
        made = [
            WanChange(
                source=source,
                destination=destination,
                planned_s=planned_s,
                actual_s=at_s - self.epoch_s,
                before=was,
                after=now,
                reason=reason,
            )
            for (source, destination), (was, now) in shaped.items()
        ]
        if durable and self.on_change is not None:
            for change in made:
                self.on_change(change)
        return made

    def _shape(self, batch: list[tuple[str, str, Impairment]]) -> None:
        try:
            with self._reaching_core():
                self.core.shape(batch)
        except LonghaulError as error:
            self.paths.broken.write_text(str(error))
            raise

    @contextmanager
    def _reaching_core(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError) as error:
            raise LabError(f"lab {self.lab_id} has lost its WAN core: {error!r}") from error

    def _must_be_whole(self) -> None:
        reason = self.broken
        if reason is not None:
            raise LabError(
                f"lab {self.lab_id} is broken: {reason}", hint=f"`longhaul down {self.lab_id}`, then up again."
            )
