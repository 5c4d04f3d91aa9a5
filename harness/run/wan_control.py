"""The WAN of a running lab in the words of the suites; every change has its undo."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from harness.errors import LonghaulError
from harness.lab.fault_desk import FaultListener
from harness.lab.injector import Injector
from harness.lab.lab import Lab
from harness.model.impairment import Impairment
from harness.model.run_record import WanChange
from harness.model.timeline import BlackHole, LinkChoice, TimelineEvent
from harness.model.topology import Topology
from harness.plan.timeline import links_of
from harness.run.access import LinkEnds, behind_access
from harness.run.faults import RunFaults
from harness.run.recorder import Recorder


class WanControl:
    """Changes the links among a run's sites. What the lab's own timeline does at the same time is left alone."""

    def __init__(self, lab: Lab, topology: Topology, recorder: Recorder, faults: RunFaults) -> None:
        self._lab = lab
        self._topology = topology
        self._recorder = recorder
        self._faults = faults
        self._made: list[WanChange] = []
        self._cut: dict[str, str] = {}
        self._scheduled: list[Injector] = []
        self._lost_before: dict[str, int] = {}
        self._swallowed: dict[str, int] = {}
        lab.on_change = self._note

    def changes(self, mark: int = 0) -> tuple[WanChange, ...]:
        """The changes of the run, the timeline's included, from a mark on (a count of changes)."""
        return tuple(self._made[mark:])

    def lost_packets(self, site: str | None = None) -> int:
        """Packets dropped by loss or a cut since the lab came up, on all of the run's links or those of a site."""
        ends = self._ends() if site is None else set(self._links_of(site))
        return sum(link.dropped_loss for link in self._lab.counters() if (link.source, link.destination) in ends)

    def edit_all(self, edit: Callable[[Impairment], Impairment], reason: str) -> None:
        """Apply an edit to every link."""
        self._lab.change({ends: edit(self._lab.impairment(*ends)) for ends in self._ends()}, reason)

    def put_behind(self, site: str, profile: str) -> None:
        """Put a site behind an access line."""
        links = {ends: self._lab.impairment(*ends) for ends in self._ends()}
        self._lab.change(behind_access(site, profile, links), f"{site} behind {profile}")

    def cut_off(self, site: str) -> None:
        """Make every link from and to the site a black hole."""
        self._cut[site] = self._faults.begin(self._black_hole(site))

    def rejoin(self, site: str) -> None:
        """Undo ``cut_off``."""
        if site in self._cut:
            self._faults.end(self._cut.pop(site))

    def schedule_outage(self, site: str, after_s: float, duration_s: float) -> None:
        """Cut a site off ``after_s`` from now and let it go ``duration_s`` later, while the test goes on."""
        outage = self._black_hole(site).model_copy(update={"at_s": after_s, "duration_s": duration_s})
        self.schedule(outage, on_fault=partial(self._count_dropped, site))

    def schedule(self, *events: TimelineEvent, on_fault: FaultListener | None = None) -> None:
        """Carry events out at their times from now on, while the test goes on."""
        self._scheduled.append(self._faults.schedule(*events, on_fault=on_fault))

    def finish_outages(self) -> None:
        """Wait until all that is scheduled is over. Raises what went wrong in it."""
        scheduled, self._scheduled = self._scheduled, []
        for injector in scheduled:
            injector.wait()
        self._stop(scheduled)

    def restore(self) -> None:
        """Every link as the topology says, every fault of the suite undone; what has not begun is dropped."""
        scheduled, self._scheduled = self._scheduled, []
        self._swallowed.clear()
        self._cut.clear()
        try:
            self._stop(scheduled)
        finally:
            self._faults.end_all()
            specified = {(link.source, link.destination): link.impairment for link in self._topology.links}
            different = {ends: spec for ends, spec in specified.items() if self._lab.impairment(*ends) != spec}
            if different:
                self._lab.change(different, "restored to the topology")

    def dropped_in_outage(self, site: str) -> int:
        """Packets on the site's links that the last outage swallowed, once it is over; ``restore`` forgets them."""
        return self._swallowed.get(site, 0)

    def _count_dropped(self, site: str, action: str, *_: object) -> None:
        if action == "begin":
            self._lost_before[site] = self.lost_packets(site)
        else:
            self._swallowed[site] = self.lost_packets(site) - self._lost_before[site]

    def _black_hole(self, site: str) -> BlackHole:
        return BlackHole(links=LinkChoice(pairs=tuple(self._links_of(site))))

    def _stop(self, scheduled: list[Injector]) -> None:
        """Stop all; the first error is raised when all have stopped."""
        failure: LonghaulError | None = None
        for injector in scheduled:
            try:
                injector.stop()
            except LonghaulError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _note(self, change: WanChange) -> None:
        self._made.append(change)
        self._recorder.record(
            "wan",
            change.reason,
            path=f"{change.source}>{change.destination}",
            at_s=change.actual_s,
            data=change.model_dump(mode="json", include={"planned_s", "before", "after"}),
        )

    def _links_of(self, site: str) -> Iterable[LinkEnds]:
        return links_of(self._topology, site)

    def _ends(self) -> set[LinkEnds]:
        return {(link.source, link.destination) for link in self._topology.links}
