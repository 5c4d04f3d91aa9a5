"""The options of the qdiscs that shape a link, in the kernel's own units. Pure values; what they are for is shaping's.

Tuples, since a full mesh of 128 sites has 32,512 of them: cheap to make, to compare and to keep in a cache.
Probabilities and correlations are in units of 1/(2**32-1), times in nanoseconds, rates in bytes per second (0:
unlimited), sizes in bytes.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

U32_MAX = 2**32 - 1


class GilbertElliottSettings(NamedTuple):
    """netem's four parameters: p, r, h = 1 - loss in bad, k1 = loss in good."""

    p: int
    r: int
    h: int
    k1: int


class FourStateSettings(NamedTuple):
    """netem's "general and intuitive" model; see harness.model.impairment.FourStateLoss."""

    p13: int
    p31: int
    p32: int
    p14: int
    p23: int


class SlotSettings(NamedTuple):
    """When the link opens. With a table in force the kernel goes by ``dist_delay_ns`` and ``dist_jitter_ns``."""

    min_delay_ns: int = 0
    max_delay_ns: int = 0
    packets: int = 0
    bytes: int = 0
    dist_delay_ns: int = 0
    dist_jitter_ns: int = 0


class NetemSettings(NamedTuple):
    """Every option of one netem qdisc but for its tables, which the kernel does not give back, and its seed.

    ``distribution`` is the fingerprint of the delay's table (harness.plan.delay_distribution), 0 for netem's own
    uniform distribution; ``limit`` is in packets. The correlations of chances that are 0 have no effect. ``doubled``
    is a note that another device doubles some of these packets before they come here.
    """

    limit: int
    latency_ns: int = 0
    jitter_ns: int = 0
    delay_correlation: int = 0
    distribution: int = 0
    loss: int = 0
    loss_correlation: int = 0
    gilbert_elliott: GilbertElliottSettings | None = None
    four_state: FourStateSettings | None = None
    ecn: bool = False
    duplicate: int = 0
    duplicate_correlation: int = 0
    corrupt: int = 0
    corrupt_correlation: int = 0
    reorder: int = 0
    reorder_correlation: int = 0
    gap: int = 0
    rate: int = 0
    overhead: int = 0
    cell_size: int = 0
    cell_overhead: int = 0
    slot: SlotSettings | None = None
    doubled: bool = False


class TbfSettings(NamedTuple):
    """A token bucket that lets ``rate`` through. ``limit`` is not used when the qdisc in it is no plain FIFO, and kept.

    ``overhead`` bytes are added to each packet; with ``atm`` it then fills cells of 53 bytes that carry 48.
    """

    rate: int
    burst: int
    limit: int = 0
    overhead: int = 0
    atm: bool = False


class CodelSettings(NamedTuple):
    """CoDel, or FQ-CoDel with a CoDel for each flow. ``limit`` in packets, times in microseconds."""

    kind: Literal["codel", "fq_codel"]
    limit: int
    target_us: int
    interval_us: int
    ecn: bool = False


class ActiveBottleneck(NamedTuple):
    """A rate limiter whose queue manages its own length."""

    limiter: TbfSettings
    queue: CodelSettings
