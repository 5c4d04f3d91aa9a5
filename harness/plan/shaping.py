"""What the kernel must do to a directed link: an impairment as qdiscs on the core's egress port. Pure.

On the port towards the destination, HTB only sorts packets into one class per source site, by the interface they came
in by. In each class two stages follow one another: one qdisc cannot size its queue apart from what is in flight.

    htb 1:  ── class 1:(16+n)  came in by interface n ── propagation  netem: delay, jitter, loss, reordering,
            │                                            │            corruption, slots; a limit that is never reached
            │                                            └── bottleneck  netem: rate; limit = the drop-tail buffer
            │                                                         or tbf: rate ── codel or fq_codel: its queue
            ├── class 1:2   default: dropped, so that a packet without a shaped link never passes unimpaired
            └── class 1:16  what the core itself sends (no interface: n = 0) passes unshaped

netem hands a packet to its child when the packet's time has come, so the bottleneck sees packets as they arrive at the
far end of the path. A core takes some time of its own to forward a packet; that much is taken off the delay.
Jitter keeps the order of packets: netem with any rate never lets one overtake another, so that a rate far above every
link is set on the propagation stage. Rates count IP bytes: the root takes the Ethernet header off every packet's size.

An active queue cannot be netem's child in the bottleneck: netem's own queue comes first and would hold the packets. The
token bucket holds one packet and two milliseconds at the rate, so that late timers cost no rate; a packet that finds it
full is sent at once, so the time that sending takes is not in the delay of a packet that finds the link idle.

Duplication has a device of its own: the kernel refuses a netem that duplicates beside any other netem on a device
(older kernels loop), because the copy starts again at the root. An IFB takes the link's packets before they are sorted,
and gives them back, some of them twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from harness.model.impairment import (
    UNIFORM,
    ActiveQueue,
    Chance,
    DelayDistribution,
    FourStateLoss,
    Framing,
    Impairment,
)
from harness.plan.delay_distribution import fingerprint, table_of
from harness.plan.netem_models import (
    chance_of,
    distribution_of,
    from_u32,
    loss_of,
    loss_settings,
    reordering_of,
    slot_settings,
    slots_of,
    to_u32,
)
from harness.plan.qdisc_settings import (
    U32_MAX,
    ActiveBottleneck,
    CodelSettings,
    NetemSettings,
    TbfSettings,
)

ROOT_HANDLE = 0x0001_0000
DEFAULT_CLASS = 0x0001_0002
FIRST_CLASS_MINOR = 16
ROUTER_CLASS = ROOT_HANDLE + FIRST_CLASS_MINOR
LARGEST_INTERFACE = 0xFFFF - FIRST_CLASS_MINOR
CLASS_RATE_BYTES = 4_000_000_000
"""Far above what any core carries; below 2**32, above which HTB needs another attribute."""
NEVER_REACHED = 2**30
ORDER_KEEPING_RATE = 12_500_000_000
"""Bytes per second; adds 0.12 µs to a full packet."""
MAX_CORE_DELAY_US = 999
SIZE_CORRECTION = -14
"""Bytes: the Ethernet header, which is on a packet here and would not be on the link."""
ATM = Framing(cell=48, cell_overhead=5)
DEFAULT_BUFFER_S = 0.1
MINIMUM_BUFFER_PACKETS = 10
ACTIVE_BUFFER_PACKETS: Mapping[str, int] = {"codel": 1_000, "fq-codel": 10_240}
"""The kernel modules' own defaults."""
LARGEST_JITTER_US = (2**31 - 1) // 1000
"""netem keeps the jitter in 31 bits of nanoseconds."""
BUCKET_S = 0.002
_PROPAGATION_MAJOR = 0x0100
_BOTTLENECK_MAJOR = 0x0200
_LIMITER_MAJOR = 0x0300
_CODEL_MAJOR = 0x0400
_FQ_CODEL_MAJOR = 0x0500
_COUNTED_IN_PACKETS = 1
"""Stands in the correlation of a corruption that never happens: the buffer was asked for in packets."""

Bottleneck = NetemSettings | ActiveBottleneck


class LinkShape(NamedTuple):
    """The stages of one directed link, and the delay distributions whose tables they need, by their fingerprints.

    ``slot_table`` is the fingerprint of the slots' table, 0 without slots; ``duplication`` None: no packet is doubled.
    """

    propagation: NetemSettings
    bottleneck: Bottleneck
    duplication: NetemSettings | None = None
    tables: tuple[DelayDistribution, ...] = ()
    slot_table: int = 0


class LinkHandles(NamedTuple):
    """Where a directed link is on the destination's port: ``site`` is the source's index, ``interface`` the number of
    the core's interface towards it."""

    site: int
    interface: int

    @property
    def class_id(self) -> int:
        """The HTB class."""
        return ROUTER_CLASS + self.interface

    @property
    def propagation(self) -> int:
        """Handle of the delay and loss stage."""
        return (_PROPAGATION_MAJOR + self.site) << 16

    @property
    def bottleneck(self) -> int:
        """Handle of the rate and buffer stage when it drops at its tail."""
        return (_BOTTLENECK_MAJOR + self.site) << 16

    @property
    def bottleneck_parent(self) -> int:
        """The only class of the propagation stage."""
        return self.propagation + 1

    @property
    def limiter(self) -> int:
        """Handle of the rate limiter around an active queue."""
        return (_LIMITER_MAJOR + self.site) << 16

    def active_queue(self, kind: str) -> int:
        """Handle of the active queue in the limiter, of this kind."""
        return ((_CODEL_MAJOR if kind == "codel" else _FQ_CODEL_MAJOR) + self.site) << 16


BLOCKED = Impairment(blocked=True)
"""How every link starts: closed until it is shaped."""


def shape_link(impairment: Impairment, mtu: int, core_delay_us: int = 0) -> LinkShape:
    """The stages that make ``impairment`` on a path with this MTU.

    ``core_delay_us`` is what the core itself adds to every packet's delay, MAX_CORE_DELAY_US at most.

    Raises ValueError for what no kernel can do: a buffer, a queue or framing without a rate, reordering without delay.
    """
    _check(impairment)
    jitter_ns = impairment.jitter_us * 1000
    shaped = jitter_ns > 0 and impairment.distribution != UNIFORM
    loss = NetemSettings(0, loss=U32_MAX) if impairment.blocked else loss_settings(impairment)
    corrupt, reorder = impairment.corrupt, impairment.reorder
    slot, slot_shape = slot_settings(impairment.slots)
    duplication = _duplication(impairment.duplicate)
    propagation = loss._replace(
        limit=NEVER_REACHED,
        latency_ns=_latency_ns(impairment.delay_us, core_delay_us),
        jitter_ns=jitter_ns,
        delay_correlation=to_u32(impairment.delay_correlation),
        distribution=fingerprint(impairment.distribution) if shaped else 0,
        corrupt=to_u32(corrupt.share) if corrupt else 0,
        corrupt_correlation=to_u32(corrupt.correlation) if corrupt else 0,
        reorder=to_u32(reorder.share) if reorder else 0,
        reorder_correlation=to_u32(reorder.correlation) if reorder else 0,
        gap=reorder.gap if reorder else 0,
        rate=ORDER_KEEPING_RATE if jitter_ns and impairment.in_order else 0,
        slot=slot,
        doubled=duplication is not None,
    )
    tables = tuple(
        dict.fromkeys([*([impairment.distribution] if shaped else []), *([slot_shape] if slot_shape else [])])
    )
    for distribution in tables:
        if distribution.kind == "custom":
            # Raises for quantiles that make no table.
            table_of(distribution)
    return LinkShape(
        propagation=propagation,
        bottleneck=_bottleneck(impairment, mtu),
        duplication=duplication,
        tables=tables,
        slot_table=fingerprint(slot_shape) if slot_shape else 0,
    )


def buffer_packets(impairment: Impairment, mtu: int) -> int:
    """Depth of the bottleneck's queue in packets. No buffer given: 100 ms at the rate, but 10 packets at least; with an
    active queue what its kernel module has."""
    assert impairment.rate_bps is not None
    if impairment.buffer_packets is not None:
        return impairment.buffer_packets
    if impairment.buffer_bytes is not None:
        return max(1, impairment.buffer_bytes // mtu)
    if impairment.active_queue is not None:
        return ACTIVE_BUFFER_PACKETS[impairment.active_queue.discipline]
    return max(MINIMUM_BUFFER_PACKETS, int(impairment.rate_bps * DEFAULT_BUFFER_S / 8) // mtu)


def read_link(
    shape: LinkShape,
    mtu: int,
    core_delay_us: int = 0,
    known: Mapping[int, DelayDistribution] | None = None,
) -> Impairment:
    """The impairment that these stages make: the inverse of ``shape_link``.

    The kernel does not give tables back, only their fingerprints: ``known`` says which distribution has which, beside
    the named ones. One that is not known is a custom one without quantiles.
    """
    names = {**{fingerprint(table): table for table in shape.tables}, **(known or {})} if shape.tables else known or {}
    propagation, bottleneck, duplication = shape.propagation, shape.bottleneck, shape.duplication
    blocked = propagation.loss == U32_MAX and propagation.gilbert_elliott is None and propagation.four_state is None
    impairment = Impairment(
        delay_us=_delay_us(propagation.latency_ns, core_delay_us),
        jitter_us=propagation.jitter_ns // 1000,
        distribution=distribution_of(propagation.distribution, names) if propagation.jitter_ns else UNIFORM,
        delay_correlation=from_u32(propagation.delay_correlation),
        in_order=not propagation.jitter_ns or propagation.rate > 0,
        loss=None if blocked else loss_of(propagation),
        loss_marks=propagation.ecn,
        duplicate=chance_of(duplication.duplicate, duplication.duplicate_correlation) if duplication else None,
        corrupt=chance_of(propagation.corrupt, propagation.corrupt_correlation),
        reorder=reordering_of(propagation),
        slots=slots_of(propagation.slot, names),
        blocked=blocked,
    )
    if isinstance(bottleneck, ActiveBottleneck):
        return impairment.model_copy(update=_read_active(bottleneck))
    if not bottleneck.rate:
        return impairment
    packets = bottleneck.limit - 1
    in_packets = bottleneck.corrupt_correlation == _COUNTED_IN_PACKETS
    return impairment.model_copy(
        update={
            "rate_bps": bottleneck.rate * 8,
            "framing": _framing(
                Framing(overhead=bottleneck.overhead, cell=bottleneck.cell_size, cell_overhead=bottleneck.cell_overhead)
            ),
            "buffer_bytes": None if in_packets else packets * mtu,
            "buffer_packets": packets if in_packets else None,
        }
    )


def realised(impairment: Impairment, mtu: int) -> Impairment:
    """What the kernel can keep of ``impairment``: whole bytes per second, a buffer in whole packets, loss that is
    certain as ``blocked``, nothing of what has no effect. ``WanCore.read_back`` returns this."""
    return read_link(shape_link(impairment, mtu), mtu)


def _check(impairment: Impairment) -> None:
    if impairment.rate_bps is None:
        if impairment.buffer_bytes is not None or impairment.buffer_packets is not None:
            raise ValueError("a buffer needs a rate: without one no queue ever builds")
        if impairment.active_queue is not None:
            raise ValueError("an active queue needs a rate: without one no queue ever builds")
        if impairment.framing is not None:
            raise ValueError("framing needs a rate: it says how long a packet takes to send")
    if impairment.buffer_bytes is not None and impairment.buffer_packets is not None:
        raise ValueError("a buffer is given in bytes or in packets, not both")
    if impairment.jitter_us > LARGEST_JITTER_US:
        raise ValueError(f"a jitter of {impairment.jitter_us} µs is more than netem can keep ({LARGEST_JITTER_US} µs)")
    if impairment.reorder is not None and not impairment.delay_us:
        raise ValueError("reordering needs a delay: a packet overtakes by skipping it")
    if isinstance(impairment.loss, FourStateLoss):
        loss = impairment.loss
        if loss.p13 + loss.p14 > 1 or loss.p31 + loss.p32 > 1:
            raise ValueError("the chances to leave one state are above 1 together: p13 + p14, or p31 + p32")


def _bottleneck(impairment: Impairment, mtu: int) -> Bottleneck:
    if impairment.rate_bps is None:
        return NetemSettings(limit=NEVER_REACHED)
    framing = impairment.framing or Framing()
    rate = max(1, impairment.rate_bps // 8)
    depth = buffer_packets(impairment, mtu)
    in_packets = impairment.buffer_packets is not None
    active = impairment.active_queue
    if active is not None and (framing.overhead < 0 or (framing.cell and framing != _atm(framing.overhead))):
        raise ValueError("an active queue's limiter knows no cells but ATM's (48 B and 5 B), and no negative overhead")
    if active is None:
        return NetemSettings(
            # One more than the buffer: netem counts the packet that is being sent.
            limit=1 + depth,
            rate=rate,
            overhead=framing.overhead,
            cell_size=framing.cell,
            cell_overhead=framing.cell_overhead if framing.cell else 0,
            corrupt_correlation=_COUNTED_IN_PACKETS if in_packets else 0,
        )
    limiter = TbfSettings(
        rate=rate,
        burst=mtu + int(rate * BUCKET_S),
        limit=impairment.buffer_bytes or 0,
        overhead=framing.overhead,
        atm=framing.cell > 0,
    )
    queue = CodelSettings(
        kind="codel" if active.discipline == "codel" else "fq_codel",
        limit=depth,
        target_us=_codel_time(active.target_us),
        interval_us=_codel_time(active.interval_us),
        ecn=active.ecn,
    )
    return ActiveBottleneck(limiter, queue)


def framed_size(ip_bytes: int, framing: Framing) -> int:
    """What an IP packet of this size counts against the rate."""
    size = max(1, ip_bytes + framing.overhead)
    if not framing.cell:
        return size
    return -(-size // framing.cell) * (framing.cell + framing.cell_overhead)


def _atm(overhead: int) -> Framing:
    return ATM.model_copy(update={"overhead": overhead})


def _read_active(bottleneck: ActiveBottleneck) -> dict[str, object]:
    limiter, queue = bottleneck
    return {
        "rate_bps": limiter.rate * 8,
        "framing": _atm(limiter.overhead) if limiter.atm else _framing(Framing(overhead=limiter.overhead)),
        "buffer_bytes": limiter.limit or None,
        "buffer_packets": None if limiter.limit else queue.limit,
        "active_queue": ActiveQueue(
            discipline="codel" if queue.kind == "codel" else "fq-codel",
            target_us=queue.target_us,
            interval_us=queue.interval_us,
            ecn=queue.ecn,
        ),
    }


def _codel_time(microseconds: int) -> int:
    """The next that CoDel can keep and give back: it counts in units of 1024 ns."""
    return -(-microseconds * 1000 // 1024) * 1024 // 1000


def _framing(framing: Framing) -> Framing | None:
    return None if framing == Framing() else framing


def _duplication(duplicate: Chance | None) -> NetemSettings | None:
    if duplicate is None or not to_u32(duplicate.share):
        return None
    return NetemSettings(
        limit=NEVER_REACHED,
        duplicate=to_u32(duplicate.share),
        duplicate_correlation=to_u32(duplicate.correlation),
    )


def _latency_ns(delay_us: int, core_delay_us: int) -> int:
    """A delay that is shorter than the core's own is sent as that many nanoseconds: next to none, yet readable."""
    if delay_us > core_delay_us:
        return (delay_us - core_delay_us) * 1000
    return delay_us


def _delay_us(latency_ns: int, core_delay_us: int) -> int:
    if latency_ns <= MAX_CORE_DELAY_US:
        return latency_ns
    return latency_ns // 1000 + core_delay_us
