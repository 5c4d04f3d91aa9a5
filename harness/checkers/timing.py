"""Timing: how long the sites needed to agree after the last write."""

from __future__ import annotations

from collections.abc import Iterable

from harness.model.base import Value
from harness.model.history import Event


class ConvergenceLag(Value):
    """One round of writing and settling, in seconds. ``last_write_s`` and ``settled_s`` count from the run's start."""

    last_write_s: float
    settled_s: float

    @property
    def lag_s(self) -> float:
        """From the last write to agreement."""
        return self.settled_s - self.last_write_s


def convergence_lags(events: Iterable[Event]) -> tuple[ConvergenceLag, ...]:
    """One for each ``sut`` event ``settled`` that follows an operation."""
    lags = []
    last_write_s: float | None = None
    for event in events:
        if event.kind == "operation":
            ended_s = float(event.data.get("ended_s", event.at_s))
            last_write_s = ended_s if last_write_s is None else max(last_write_s, ended_s)
        elif event.kind == "sut" and event.action == "settled" and last_write_s is not None:
            lags.append(ConvergenceLag(last_write_s=last_write_s, settled_s=event.at_s))
            last_write_s = None
    return tuple(lags)


def last_write_s(events: Iterable[Event], site: str, path: str) -> float | None:
    """When the last operation of a site on a path (as ``path_text`` writes it) ended; None when there was none."""
    ends = [
        float(event.data.get("ended_s", event.at_s))
        for event in events
        if event.kind == "operation" and event.site == site and event.path == path
    ]
    return max(ends, default=None)
