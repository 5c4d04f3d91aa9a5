"""What a replica knows of one peer, and how fast the two may talk. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from syncer.core.ports import Progress
from syncer.core.records import Entry

DELTA_ENTRIES = 100
DELTA_BYTES = 64 << 10
"""Of paths, targets and block lists in one delta; a delta has at least one entry. A delta that takes a slow link longer
than the silence that counts as a broken path would never arrive."""
DELTAS_IN_FLIGHT = 20
WINDOW_FILES = 2_000
WINDOW_BYTES = 32 << 20


@dataclass(slots=True, eq=False)
class Peer:
    """One configured peer. Sequence numbers called ``their_...`` count the peer's index, ``our_...`` this site's."""

    site: str
    epoch: int = 0
    connected: bool = False
    has_data_path: bool = False
    their_last: int = 0
    their_received: int = 0
    their_durable: int = 0
    their_told: int = 0
    caught_up: bool = False
    our_sent: int = 0
    our_acked: int = 0
    deltas_in_flight: int = 0
    unsettled: dict[bytes, int] = field(default_factory=dict)
    jobs: dict[int, int] = field(default_factory=dict)
    bytes_wanted: int = 0
    wants: deque[bytes] = field(default_factory=deque)

    @property
    def progress(self) -> Progress:
        """What is worth remembering over a restart."""
        return Progress(self.epoch, self.their_durable, self.our_acked)

    @property
    def has_room(self) -> bool:
        """Whether one more file may be asked for: a window of files and bytes, but always at least one file."""
        if not self.connected or not self.has_data_path:
            return False
        return not self.jobs or (len(self.jobs) < WINDOW_FILES and self.bytes_wanted < WINDOW_BYTES)

    def settle(self) -> bool:
        """Move ``their_durable`` up to the first unsettled entry; whether the peer has to be told."""
        upto = min(self.unsettled.values()) - 1 if self.unsettled else self.their_received
        self.their_durable = max(self.their_durable, upto)
        return self.their_durable > self.their_told

    def start_job(self, job: int, size: int) -> None:
        self.jobs[job] = size
        self.bytes_wanted += size

    def end_job(self, job: int) -> None:
        self.bytes_wanted -= self.jobs.pop(job, 0)

    def forget_connection(self) -> None:
        """What is true only while connected."""
        self.connected = self.has_data_path = self.caught_up = False
        self.their_received = self.their_durable
        self.our_sent = self.our_acked
        self.deltas_in_flight = 0
        self.unsettled.clear()
        self.jobs.clear()
        self.bytes_wanted = 0
        self.wants.clear()

    def resume(self, epoch: int, last_seq: int) -> bool:
        """The peer is back with this index; whether it is a new one, so that its numbers start afresh."""
        fresh = epoch != self.epoch
        if fresh:
            self.epoch, self.their_durable = epoch, 0
        self.their_received = self.their_told = self.their_durable
        self.their_last = last_seq
        self.caught_up = self.their_received >= last_seq
        return fresh


def bounded(entries: Sequence[tuple[int, Entry]]) -> list[tuple[int, Entry]]:
    """As many of them as fit one message: paths and the block lists of large files are long."""
    taken: list[tuple[int, Entry]] = []
    size = 0
    for seq, entry in entries:
        size += len(entry.path) + len(entry.target) + (len(entry.content.blocks) if entry.content is not None else 0)
        if taken and size > DELTA_BYTES:
            break
        taken.append((seq, entry))
    return taken
