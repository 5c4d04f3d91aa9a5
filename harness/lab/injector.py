"""Runs a topology's timeline against a lab, on a monotonic schedule, and heals what it did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from harness.errors import LabError, LonghaulError, ShapingError
from harness.lab.lab import Lab
from harness.plan.timeline import Transition, links_of, transitions


class Injector:
    """Applies the timeline's outages in a thread of its own, from ``start`` until ``stop``.

    Each change carries its planned and its actual time. An outage cuts links off in its own name, so that it overlaps
    with other faults in any order. ``on_fault`` is called with ("outage" or "heal", site, planned seconds, actual
    seconds), both since the lab's epoch. An error ends the timeline and is raised by ``stop``.
    """

    HOLDER = "outage of "

    def __init__(self, lab: Lab, *, on_fault: Callable[[str, str, float, float], None] | None = None) -> None:
        self._lab = lab
        self._on_fault = on_fault
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._cut: frozenset[str] = frozenset()

    def start(self) -> None:
        """Begin the timeline now; a topology without one does nothing. Once for each injector."""
        if self._thread is not None:
            raise RuntimeError("this injector has been started already")
        self._thread = threading.Thread(target=self._run, args=(time.monotonic(),), name="injector", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the timeline, heal every outage, and verify by read-back. Idempotent.

        Raises what ended the timeline early, and ShapingError when a link is not healed.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        error, self._error = self._error, None
        if self._lab.broken is None:
            self._heal()
        if error is not None:
            raise error

    def _run(self, begin_s: float) -> None:
        try:
            for transition in transitions(self._lab.topology.timeline):
                if self._stop.wait(timeout=max(0.0, begin_s + transition.at_s - time.monotonic())):
                    return
                self._apply(transition, begin_s + transition.at_s - self._lab.epoch_s)
        except Exception as error:
            # A thread has no caller: ``stop`` raises what happens here, whatever it is.
            self._error = error if isinstance(error, LonghaulError) else LabError(f"the timeline ended: {error!r}")

    def _apply(self, transition: Transition, planned_s: float) -> None:
        for site in sorted(transition.sites - self._cut):
            self._lab.hold(links_of(self._lab.topology, site), self._holder(site), f"outage of {site}", planned_s)
            self._tell("outage", site, planned_s)
        for site in sorted(self._cut - transition.sites):
            self._let_go(site, planned_s)
        self._cut = transition.sites

    def _let_go(self, site: str, planned_s: float | None) -> None:
        links = links_of(self._lab.topology, site)
        self._lab.let_go(links, self._holder(site), f"end of the outage of {site}", planned_s)
        now_s = time.monotonic() - self._lab.epoch_s
        self._tell("heal", site, now_s if planned_s is None else planned_s)

    def _heal(self) -> None:
        for site in sorted(self._cut):
            self._let_go(site, None)
        healed, self._cut = self._cut, frozenset()
        if not healed:
            return
        found = self._lab.read_back()
        wrong = [
            f"{source}>{destination}"
            for site in healed
            for source, destination in links_of(self._lab.topology, site)
            if found[source, destination].blocked != self._lab.in_force(source, destination).blocked
        ]
        if wrong:
            raise ShapingError(f"not healed after the timeline: {', '.join(sorted(set(wrong)))}")

    def _tell(self, action: str, site: str, planned_s: float) -> None:
        if self._on_fault is not None:
            self._on_fault(action, site, planned_s, time.monotonic() - self._lab.epoch_s)

    def _holder(self, site: str) -> str:
        return self.HOLDER + site
