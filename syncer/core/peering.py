"""What a replica knows of one peer, and how fast the two may talk. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from syncer.core.lanes import Lane, large_lane, small_lane
from syncer.core.ports import Progress
from syncer.core.records import Entry

DELTA_ENTRIES = 100
DELTA_BYTES = 64 << 10
"""Of paths, targets and block lists in one delta; a delta has at least one entry. A delta that takes a slow link longer
than the silence that counts as a broken path would never arrive."""
DELTAS_IN_FLIGHT = 20
PARTIAL_IN_FLIGHT = 5
"""With so many in flight a delta waits until it is full: many small ones would use up the credit of a long link."""


@dataclass(slots=True, eq=False)
class Peer:
    """One configured peer. Sequence numbers called ``their_...`` count the peer's index, ``our_...`` this site's.

    ``unsettled`` is in the order of sequence numbers. ``agreed``: records that the peer announced over this connection,
    of paths that this site did not have, and that stand here now, just so: it need not be told of them. (Of a path that
    we had it must be told in any case: it may wait to hear that our earlier record is gone.)
    """

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
    agreed: dict[bytes, Entry] = field(default_factory=dict)
    small: Lane = field(default_factory=small_lane)
    large: Lane = field(default_factory=large_lane)

    @property
    def progress(self) -> Progress:
        """What is worth remembering over a restart."""
        return Progress(self.epoch, self.their_durable, self.our_acked)

    @property
    def jobs(self) -> list[int]:
        """What is being fetched from the peer."""
        return [*self.small.jobs, *self.large.jobs]

    @property
    def bytes_wanted(self) -> int:
        """Of the files that are being fetched from the peer."""
        return self.small.wanted + self.large.wanted

    def lane(self, size: int) -> Lane:
        """The lane of a file of ``size`` bytes."""
        return self.small if self.small.takes(size) else self.large

    def lanes_with_room(self) -> list[Lane]:
        """Those in which one more file may be asked for; small files first."""
        if not self.connected or not self.has_data_path:
            return []
        return [lane for lane in (self.small, self.large) if lane.wants and lane.has_room]

    def announced(self, path: bytes, seq: int) -> None:
        """The peer's index has an entry for ``path``, with a higher number than all before; it is unsettled."""
        self.unsettled.pop(path, None)
        self.unsettled[path] = seq

    def settle(self) -> bool:
        """Move ``their_durable`` up to the first unsettled entry; whether the peer has to be told."""
        upto = next(iter(self.unsettled.values())) - 1 if self.unsettled else self.their_received
        self.their_durable = max(self.their_durable, upto)
        return self.their_durable > self.their_told

    def end_job(self, job: int) -> None:
        for lane in (self.small, self.large):
            lane.end(job)

    def may_be_told(self, last_seq: int) -> bool:
        """Whether a delta may go out now, of an index that has come to ``last_seq``."""
        if not self.connected or self.our_sent >= last_seq:
            return False
        is_full = last_seq - self.our_sent >= DELTA_ENTRIES
        return self.deltas_in_flight < (DELTAS_IN_FLIGHT if is_full else PARTIAL_IN_FLIGHT)

    def news(self, entries: Sequence[tuple[int, Entry]]) -> list[tuple[int, Entry]]:
        """Those of the entries that the peer did not announce itself, just so."""
        if not self.agreed:
            return list(entries)
        return [(seq, entry) for seq, entry in entries if self.agreed.get(entry.path) != entry]

    def told(self, entries: Sequence[tuple[int, Entry]], upto: int) -> None:
        """A delta that says all of the entries, and that there are no others up to ``upto``, is on its way."""
        self.our_sent = upto
        self.deltas_in_flight += 1
        if self.agreed:
            for _, entry in entries:
                self.agreed.pop(entry.path, None)

    def forget_connection(self) -> None:
        """What is true only while connected."""
        self.connected = self.has_data_path = self.caught_up = False
        self.their_received = self.their_durable
        self.our_sent = self.our_acked
        self.deltas_in_flight = 0
        self.unsettled.clear()
        self.agreed.clear()
        self.small.clear()
        self.large.clear()

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
