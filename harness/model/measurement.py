"""What probes measured on the directed links, beside what was asked for; and what the core counted."""

from __future__ import annotations

from typing import Literal

from harness.model.base import Value
from harness.model.verdict import Verdict

Depth = Literal["quick", "full"]
QuantityName = Literal[
    "one-way delay",
    "rtt",
    "jitter",
    "delay distribution",
    "loss",
    "burst",
    "reordering",
    "duplication",
    "corruption",
    "rate",
    "buffer",
]
Unit = Literal["us", "share", "packets", "distance", "bps", "bytes"]


class Quantity(Value):
    """One property of a directed link: requested against measured, with the 99% interval of what was measured.

    It is INVALID when the whole interval lies further than ``tolerance`` from ``requested``: then the sample cannot be
    of a link as it was asked for. It is PASS when it is not, and the interval is narrow enough to say so. Without a
    verdict nothing can be said, and ``reason`` says why: ``undecided`` where a better measurement could have. A
    distance is the largest difference of two distribution functions, 0 to 1.
    """

    name: QuantityName
    unit: Unit
    requested: float | None
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    tolerance: float = 0.0
    samples: int = 0
    verdict: Verdict | None
    method: str
    reason: str = ""
    undecided: bool = False


class LinkCertificate(Value):
    """One directed link, quantity by quantity. INVALID when one of them is.

    A quick measurement looks for what is wrong: a link of which nothing is, is PASS. A full one says PASS only when no
    quantity is undecided either; it has no verdict then.

    ``rounds`` counts how many times the link was probed before the verdict. ``delay_quantiles_us`` are the one-way
    delays (half the RTT where the two hosts have no common clock) at the shares of ``QUANTILE_SHARES``; empty when
    nothing arrived.
    """

    source: str
    destination: str
    depth: Depth
    rounds: int = 1
    sent: int = 0
    received: int = 0
    quantities: tuple[Quantity, ...] = ()
    delay_quantiles_us: tuple[float, ...] = ()
    verdict: Verdict | None
    reason: str = ""

    @property
    def name(self) -> str:
        """``source>destination``."""
        return f"{self.source}>{self.destination}"

    @property
    def verdict_word(self) -> str:
        """The verdict for a table."""
        return "UNDECIDED" if self.verdict is None else self.verdict.value

    @property
    def undecided(self) -> tuple[QuantityName, ...]:
        """What was not measured precisely enough to say that it is as asked for."""
        return tuple(quantity.name for quantity in self.quantities if quantity.undecided)

    def quantity(self, name: QuantityName) -> Quantity | None:
        """One of its quantities; None when it was not looked at."""
        return next((quantity for quantity in self.quantities if quantity.name == name), None)


QUANTILE_SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


class MeasuringNoise(Value):
    """What the measuring itself added while it ran, in microseconds: the delay of packets that a node sent to itself,
    and how late packets left."""

    loopback_median_us: float | None = None
    loopback_p99_us: float | None = None
    late_p99_us: float = 0.0
    late_max_us: float = 0.0


class Certificate(Value):
    """The WAN as measured. ``links`` are those that were probed, of ``links_in_lab``; if they are fewer, ``note`` says
    how they were chosen. ``common_clock``: all nodes share a clock, so that one-way delays are exact."""

    depth: Depth
    started_at: str
    elapsed_s: float
    links_in_lab: int
    note: str = ""
    common_clock: bool = True
    noise: MeasuringNoise = MeasuringNoise()
    links: tuple[LinkCertificate, ...] = ()

    @property
    def verdict(self) -> Verdict | None:
        """INVALID when one link is, else None when one is undecided."""
        verdicts = {link.verdict for link in self.links}
        if Verdict.INVALID in verdicts:
            return Verdict.INVALID
        return None if None in verdicts else Verdict.PASS

    @property
    def undecided(self) -> int:
        """How many quantities of all links are."""
        return sum(len(link.undecided) for link in self.links)


class LinkCounters(Value):
    """The core's own counters for one directed link since it was built.

    ``dropped_loss`` are packets that the loss took (or marked, where losses are marks); ``dropped_queue`` those for
    which the bottleneck had no room, of which an active queue dropped ``dropped_active`` before it was full; ``marked``
    those that it marked instead. ``bytes`` are IP bytes. ``overlimits``: how often a rate limiter had to hold a packet
    back. ``backlog_packets`` are on the whole link, ``backlog_bytes`` in the bottleneck's queue.
    """

    source: str
    destination: str
    packets: int
    bytes: int
    dropped_loss: int
    dropped_queue: int
    dropped_active: int = 0
    marked: int = 0
    overlimits: int = 0
    backlog_packets: int = 0
    backlog_bytes: int = 0
