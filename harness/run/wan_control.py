"""The WAN of a running lab in the words of the suites; every change has its undo."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from harness.errors import LabError, LonghaulError
from harness.lab.lab import Lab
from harness.model.impairment import Impairment
from harness.model.run_record import WanChange
from harness.model.topology import Topology
from harness.plan.timeline import links_of
from harness.run.access import LinkEnds, behind_access
from harness.run.recorder import Recorder


class WanControl:
    """Changes the links among a run's sites. What the lab's own timeline does at the same time is left alone."""

    def __init__(self, lab: Lab, topology: Topology, recorder: Recorder) -> None:
        self._lab = lab
        self._topology = topology
        self._recorder = recorder
        self._made: list[WanChange] = []
        self._holds: set[tuple[str, str]] = set()
        self._timers: list[threading.Timer] = []
        self._lost_before: dict[str, int] = {}
        self._swallowed: dict[str, int] = {}
        self._failure: LonghaulError | None = None
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
        self._hold(site, "partition", f"{site} cut off")

    def rejoin(self, site: str) -> None:
        """Undo ``cut_off``."""
        self._let_go(site, "partition", f"{site} rejoins")

    def schedule_outage(self, site: str, after_s: float, duration_s: float) -> None:
        """Cut a site off ``after_s`` from now and let it go ``duration_s`` later, while the test goes on."""
        begin_s = self._recorder.now() + after_s
        end_s = begin_s + duration_s
        self._at(begin_s, lambda: self._begin_outage(site, begin_s))
        self._at(end_s, lambda: self._end_outage(site, end_s))

    def finish_outages(self) -> None:
        """Wait until every scheduled outage is over. Raises what went wrong in one."""
        for timer in self._timers:
            timer.join()
        self._timers.clear()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def restore(self) -> None:
        """Every link as the topology says, every cut ended; outages that have not begun are dropped."""
        for timer in self._timers:
            timer.cancel()
        self.finish_outages()
        self._swallowed.clear()
        for site, holder in sorted(self._holds):
            self._let_go(site, holder, f"end of the {holder} of {site}")
        specified = {(link.source, link.destination): link.impairment for link in self._topology.links}
        different = {ends: spec for ends, spec in specified.items() if self._lab.impairment(*ends) != spec}
        if different:
            self._lab.change(different, "restored to the topology")

    def dropped_in_outage(self, site: str) -> int:
        """Packets on the site's links that the last outage swallowed, once it is over; ``restore`` forgets them."""
        return self._swallowed.get(site, 0)

    def _begin_outage(self, site: str, planned_s: float) -> None:
        self._lost_before[site] = self.lost_packets(site)
        self._hold(site, "handover", f"handover of {site}", planned_s)

    def _end_outage(self, site: str, planned_s: float) -> None:
        self._let_go(site, "handover", f"end of the handover of {site}", planned_s)
        self._swallowed[site] = self.lost_packets(site) - self._lost_before[site]

    def _hold(self, site: str, holder: str, reason: str, planned_s: float | None = None) -> None:
        self._holds.add((site, holder))
        self._lab.hold(self._links_of(site), f"{holder} of {site}", reason, planned_s)

    def _let_go(self, site: str, holder: str, reason: str, planned_s: float | None = None) -> None:
        self._lab.let_go(self._links_of(site), f"{holder} of {site}", reason, planned_s)
        self._holds.discard((site, holder))

    def _at(self, time_s: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(max(0.0, time_s - self._recorder.now()), self._guarded, (action,))
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _guarded(self, action: Callable[[], None]) -> None:
        # A timer's thread has no caller: finish_outages raises what happens here.
        try:
            action()
        except LonghaulError as error:
            self._failure = self._failure or error
        except Exception as error:
            self._failure = self._failure or LabError(f"an outage went wrong: {error!r}")

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
