"""How much may be asked of a peer at once, in two lanes, so that a small file never waits for a large one. Pure.

What was asked for is on its way in the order of asking, so the window is also how late a file can be that is wanted
now. It begins small, grows by what arrives (doubling with each round trip) while it is what limits, and is capped at
what the path delivers in a round trip and half a second.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from syncer.core.records import BLOCK_SIZES

SMALL_FILE = BLOCK_SIZES[0]
"""Bytes in the largest file of the small lane: one block, and one record of a mover."""

FIRST_WINDOW = 8 << 20
LARGEST_WINDOW = 128 << 20
SLACK_S = 0.5
"""What the two sites take to answer, beside the round trip: disks, and batches of them."""

SMALL_FILES = 10_000
LARGE_FILES = 500
LARGE_AT_LEAST = 2
"""So many large files at once whatever their size: the next one flows when one ends, without a round trip between."""


@dataclass(slots=True, eq=False)
class Lane:
    """``wants``: paths that wait for room. ``jobs``: what was asked for, with the bytes of each."""

    most_files: int
    least_files: int
    largest_file: int | None = None
    window: int = FIRST_WINDOW
    cap: int = LARGEST_WINDOW
    wanted: int = 0
    jobs: dict[int, int] = field(default_factory=dict)
    wants: deque[bytes] = field(default_factory=deque)

    def takes(self, size: int) -> bool:
        return self.largest_file is None or size <= self.largest_file

    @property
    def has_room(self) -> bool:
        count = len(self.jobs)
        return count < self.least_files or (count < self.most_files and self.wanted < self.window)

    def start(self, job: int, size: int) -> None:
        self.jobs[job] = size
        self.wanted += size

    def end(self, job: int) -> None:
        """The job is over, or was never of this lane."""
        size = self.jobs.pop(job, None)
        if size is None:
            return
        self.wanted -= size
        if self.wants:
            self.window = min(self.window + size, self.cap)
        elif not self.jobs:
            self.window = FIRST_WINDOW

    def measured(self, bytes_per_s: float, round_trip_s: float) -> None:
        """What the path delivered lately, while this lane was in use."""
        wide = int(2 * bytes_per_s * (round_trip_s + SLACK_S))
        self.cap = max(FIRST_WINDOW, min(wide, LARGEST_WINDOW))
        self.window = min(self.window, self.cap)

    def clear(self) -> None:
        self.jobs.clear()
        self.wants.clear()
        self.wanted, self.window, self.cap = 0, FIRST_WINDOW, LARGEST_WINDOW


def small_lane() -> Lane:
    """Of files that fit one record."""
    return Lane(most_files=SMALL_FILES, least_files=1, largest_file=SMALL_FILE)


def large_lane() -> Lane:
    return Lane(most_files=LARGE_FILES, least_files=LARGE_AT_LEAST)
