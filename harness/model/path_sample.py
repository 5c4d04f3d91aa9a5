"""What was seen of a real path: one stream of packets in each direction, or there and back."""

from __future__ import annotations

from harness.model.base import Value


class PathStream(Value):
    """Packets in the order of their sending. ``delays_us`` is None for a lost one.

    ``arrivals`` are the numbers (from 0, in the order of sending) of what arrived, in the order of arriving; a packet
    that arrived twice stands there twice. Empty when the order is not known. ``sent_us``: when each left, since the
    first; empty when the log does not say.
    """

    delays_us: tuple[float | None, ...]
    arrivals: tuple[int, ...] = ()
    sent_us: tuple[float, ...] = ()

    @property
    def sent(self) -> int:
        """How many packets were sent."""
        return len(self.delays_us)

    @property
    def lost(self) -> tuple[bool, ...]:
        """For each packet whether it was lost."""
        return tuple(delay is None for delay in self.delays_us)

    @property
    def arrived_us(self) -> tuple[float, ...]:
        """Delays of what arrived, in the order of sending."""
        return tuple(delay for delay in self.delays_us if delay is not None)


class PathSample(Value):
    """All that a log says of a path. ``source`` says which log, for the profile's note.

    ``round_trip`` alone when the log has no one-way times; otherwise both directions. ``shared_clock``: both ends read
    one clock, so that one-way delays are true and not only their variation.
    """

    source: str
    round_trip: PathStream | None = None
    uplink: PathStream | None = None
    downlink: PathStream | None = None
    shared_clock: bool = False
