"""What a playing of a trace came to."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from harness.model.base import Value


class Lateness(Value):
    """How long after its planned time a change was in force and read back, in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float


class PlaybackReport(Value):
    """One trace on some links, from its begin to its end. Times are seconds on the host's monotonic clock.

    ``changes`` were made, each at its place in the schedule; ``skipped`` came due when a newer one was due already.
    ``rounds`` counts how often the trace has begun anew. ``scheduling`` is how the playing process was scheduled.
    ``restored``: the links were given back. ``taken_off``: somebody else took the trace off them, which ended it.
    ``log`` has a line for each change, planned and actual time.
    """

    trace: str
    holder: str
    links: tuple[str, ...]
    began_s: float
    ended_s: float
    changes: int = 0
    skipped: int = 0
    rounds: int = 0
    lateness: Lateness | None = None
    scheduling: Literal["real-time", "raised", "normal"] = "normal"
    restored: bool = False
    taken_off: bool = False
    log: str = ""
    rate_bps: dict[str, int | None] = Field(default_factory=dict)
    """What each link's rate was last set to."""


def lateness_of(late_ms: list[float]) -> Lateness | None:
    """Quantiles by rank: the smallest value that this share of all does not exceed."""
    if not late_ms:
        return None
    ordered = sorted(late_ms)

    def at(share: float) -> float:
        return round(ordered[math.ceil(share * len(ordered)) - 1], 3)

    return Lateness(p50_ms=at(0.5), p99_ms=at(0.99), max_ms=round(ordered[-1], 3))
