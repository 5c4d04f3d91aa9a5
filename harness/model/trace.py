"""What links do over time, as recorded or made: columns of values, each in force until the next point."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from harness.model.base import Value

Direction = Literal["down", "up"]

SLOWEST_BPS = 80
"""The slowest rate of a point: a full packet takes 150 s, so in any shorter time nothing moves. What a file calls a
rate of 0 is this: packets wait in the buffer, where a ``blocked`` link would lose them."""

MOST_POINTS = 1_000_000
"""Of one trace: 20 Hz for 13 hours."""


COLUMNS = ("rate_bps", "delay_us", "jitter_us", "loss", "blocked")
"""Of a course, besides its times."""


class Point(NamedTuple):
    """What one direction does at a time. A field that its course says nothing of is None (``blocked``: False)."""

    rate_bps: int | None = None
    delay_us: int | None = None
    jitter_us: int | None = None
    loss: float | None = None
    blocked: bool = False


class Course(Value):
    """One direction over time. Point ``i`` is in force from ``at_us[i]`` until ``at_us[i + 1]``.

    Columns, not points, so that 20 Hz for hours stays small. ``at_us`` begins with 0 and ascends; each other column is
    as long, or empty: then the trace says nothing of it, and the link keeps its own. Rates in bit/s of IP packets, at
    least SLOWEST_BPS; delays one way; ``loss`` is each packet's probability, 0 to 1; a ``blocked`` link loses all.
    ``buffer_bytes`` is the bottleneck's queue where a link that plays this has none of its own.
    """

    at_us: tuple[int, ...]
    rate_bps: tuple[int, ...] = ()
    delay_us: tuple[int, ...] = ()
    jitter_us: tuple[int, ...] = ()
    loss: tuple[float, ...] = ()
    blocked: tuple[bool, ...] = ()
    buffer_bytes: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        times = self.at_us
        if not times or times[0] != 0:
            raise ValueError("a course begins at 0")
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError("times must ascend")
        columns = [getattr(self, name) for name in COLUMNS]
        if not any(columns):
            raise ValueError("a course says something of rate, delay, jitter, loss or blocked")
        if any(column and len(column) != len(times) for column in columns):
            raise ValueError("every column has a value for each time, or is empty")
        if self.rate_bps and min(self.rate_bps) < SLOWEST_BPS:
            raise ValueError(f"rates are at least {SLOWEST_BPS} bit/s")
        if min((*self.delay_us, *self.jitter_us), default=0) < 0:
            raise ValueError("delay and jitter are at least 0")
        if self.loss and not (min(self.loss) >= 0 and max(self.loss) <= 1):
            raise ValueError("loss is a probability, 0 to 1")
        return self

    def point(self, index: int) -> Point:
        """The values from ``at_us[index]`` on."""
        return Point(
            rate_bps=self.rate_bps[index] if self.rate_bps else None,
            delay_us=self.delay_us[index] if self.delay_us else None,
            jitter_us=self.jitter_us[index] if self.jitter_us else None,
            loss=self.loss[index] if self.loss else None,
            blocked=self.blocked[index] if self.blocked else False,
        )

    def compacted(self) -> Course:
        """The same without the points that change nothing."""
        rows = [self.point(index) for index in range(len(self.at_us))]
        kept = [index for index, row in enumerate(rows) if not index or row != rows[index - 1]]
        if len(kept) == len(rows):
            return self
        columns = {name: tuple(getattr(self, name)[index] for index in kept) for name in COLUMNS if getattr(self, name)}
        return self.model_copy(update={"at_us": tuple(self.at_us[index] for index in kept), **columns})

    def index_at(self, at_us: float) -> int:
        """Which point is in force at a time; the last one from its time on."""
        return max(0, bisect_right(self.at_us, at_us) - 1)


class Trace(Value):
    """A named pair of courses over ``duration_us``; then it ends or begins again. ``up`` None: the same both ways.

    ``down`` is towards the subscriber: from the WAN to the vehicle, the dish, the home. ``source_note`` says where the
    numbers come from; ``recipe`` how to make it again, when a generator made it.
    """

    name: str
    title: str = ""
    description: str = ""
    source_note: str = ""
    recipe: str = ""
    duration_us: int = Field(gt=0)
    down: Course
    up: Course | None = None

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if any(course.at_us[-1] >= self.duration_us for course in (self.down, self.up) if course is not None):
            raise ValueError("a trace lasts longer than the time of its last point")
        return self

    def course(self, direction: Direction) -> Course:
        """One direction; where the file has but one, that."""
        return self.down if direction == "down" or self.up is None else self.up


class TracePlay(Value):
    """A trace that a topology's links follow while its timeline runs. ``file`` is where it was found, with the
    ``digest`` of its content then. Either ``pairs`` become the trace (of two opposite ones the first is ``up``), or it
    is the access line of ``site``.
    """

    trace: str
    file: str
    digest: str
    pairs: tuple[tuple[str, str], ...] = ()
    site: str | None = None
    offset_s: float = Field(default=0.0, ge=0)
    speed: float = Field(default=1.0, gt=0)
    loop: bool = True
