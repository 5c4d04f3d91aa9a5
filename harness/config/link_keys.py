"""The keys that say what a link does to packets, shared by links, defaults and profiles."""

from __future__ import annotations

from pydantic import Field, StrictBool

from harness.config.delay_keys import (
    ChanceText,
    DistributionText,
    ReorderText,
    SlotsDocument,
    to_chance,
    to_distribution,
    to_reordering,
    to_slots,
)
from harness.config.fields import Buffer, BufferText, Delay, Document, Jitter, Rate, Share
from harness.config.loss_keys import LossText, to_loss
from harness.config.queue_keys import FramingText, QueueText, to_active_queue, to_framing
from harness.model.impairment import Impairment

__all__ = ["IMPAIRMENT_KEYS", "LinkKeys", "buffer_of", "to_impairment", "to_loss"]


class LinkKeys(Document):
    """What one direction does to packets. Every key is optional where it is used."""

    delay: Delay | None = Field(default=None, description="One-way propagation delay of each direction (us, ms, s).")
    jitter: Jitter | None = Field(
        default=None,
        description="How much each packet's delay varies (us, ms, s): by up to this much either way when the "
        "distribution is uniform, with this standard deviation otherwise. At most the delay.",
    )
    distribution: DistributionText | None = Field(
        default=None,
        description="How the delay varies: uniform, normal, pareto, paretonormal, a table of iproute2 (FILE.dist), or "
        "{samples: FILE} with a measured delay on each line. Uniform unless stated.",
    )
    delay_correlation: Share | None = Field(
        default=None, description="How much of each packet's jitter is that of the one before."
    )
    in_order: StrictBool | None = Field(
        default=None, description="Whether packets keep their order however much the delay varies; true unless stated."
    )
    loss: LossText | None = Field(
        default=None,
        description="Packets lost in each direction, apart from those that a full buffer drops: a share (1%), "
        "burst loss as {mean, burst}, or a two-state or four-state model's own numbers.",
    )
    ecn_marks: StrictBool | None = Field(
        default=None, description="Where a packet of a transport that knows ECN would be lost, mark it instead."
    )
    duplicate: ChanceText | None = Field(default=None, description="Packets that arrive twice: a share (0.1%).")
    corrupt: ChanceText | None = Field(default=None, description="Packets with one bit turned over: a share (0.1%).")
    reorder: ReorderText | None = Field(
        default=None,
        description="Packets that skip the delay and overtake those before them: a share (1%), or {share, gap}.",
    )
    slots: SlotsDocument | None = Field(
        default=None, description="The link opens only from time to time and then lets a bundle of packets through."
    )
    rate: Rate | None = Field(
        default=None,
        description="Bottleneck rate of each direction (kbit/s, Mbit/s, Gbit/s), counted in IP bytes. "
        "Unlimited when nothing states one.",
    )
    framing: FramingText | None = Field(
        default=None,
        description="What the link layer adds to each packet before it counts against the rate: ethernet, docsis, "
        "vdsl-pppoe, adsl-pppoe, adsl-pppoa, or {overhead, cell, cell_overhead}. Nothing unless stated. Needs a rate.",
    )
    buffer: BufferText | None = Field(
        default=None,
        description="The bottleneck's queue in each direction, apart from what is in flight: a size (250 kB), a time "
        "at the link's rate (200 ms), or packets (100 packets). Needs a rate, and holds at least one packet of the "
        "MTU. Default with a rate: the bandwidth-delay product of the link's RTT, at least 64 KiB; with an active "
        "queue what its kernel module has, 1000 packets for codel and 10240 for fq_codel.",
    )
    queue: QueueText | None = Field(
        default=None,
        description="What happens in the bottleneck's queue: drop-tail, codel, fq_codel, or {codel: {target, interval, "
        "ecn}} and {fq_codel: {..}}. Drop-tail unless stated. Needs a rate.",
    )
    down: StrictBool | None = Field(
        default=None, description="The link is closed from the start: it loses everything until it is opened."
    )


IMPAIRMENT_KEYS = tuple(key for key in LinkKeys.model_fields if key != "delay")
"""Keys that one layer (a link, its profile, the defaults) gives when the one before leaves them out."""


def to_impairment(keys: LinkKeys, delay_us: int) -> Impairment:
    """One line of a path by itself. Without a ``buffer`` it has none: the default is the whole path's affair."""
    size, packets = buffer_of(keys.buffer, keys.rate)
    return Impairment(
        delay_us=delay_us,
        jitter_us=keys.jitter or 0,
        distribution=to_distribution(keys.distribution),
        delay_correlation=keys.delay_correlation or 0.0,
        in_order=keys.in_order is not False,
        loss=to_loss(keys.loss),
        loss_marks=bool(keys.ecn_marks),
        duplicate=to_chance(keys.duplicate),
        corrupt=to_chance(keys.corrupt),
        reorder=to_reordering(keys.reorder),
        slots=to_slots(keys.slots),
        rate_bps=keys.rate,
        framing=to_framing(keys.framing),
        buffer_bytes=size,
        buffer_packets=packets,
        active_queue=to_active_queue(keys.queue),
        blocked=bool(keys.down),
    )


def buffer_of(written: Buffer | None, rate_bps: int | None) -> tuple[int | None, int | None]:
    """Bytes or packets of a buffer; both None for none, and for a time without a rate."""
    if written is None:
        return None, None
    if written.time_us is not None:
        return (max(bytes_in(written.time_us, rate_bps), 1) if rate_bps else None), None
    return written.size_bytes, written.packets


def bytes_in(time_us: int, rate_bps: int) -> int:
    """Bytes that leave at a rate in a time, rounded up."""
    return -(-time_us * rate_bps // 8_000_000)
