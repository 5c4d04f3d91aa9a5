"""Judges what becomes of packets: lost, in bursts, out of order, twice, damaged. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from harness.model.impairment import Impairment
from harness.model.measurement import Depth, Quantity
from harness.plan import precision
from harness.plan.intervals import mean_run, proportion
from harness.plan.loss_process import variance_inflation
from harness.plan.prober_protocol import Observation
from harness.plan.quantities import failed, judged, untold

_ETHERNET_HEADER = 14
_IP_AND_UDP = 28
_PROBE_HEADER = 32
_EARLY_US = 2000
"""A packet that skips a delay longer than this is told from the others by its own."""

_EXACT = "share of all packets, interval by Clopper and Pearson"
_CLUMPED = "share of all packets, interval by Clopper and Pearson for a sample worth {worth:.0f} independent packets"
_RUNS = "losses in a row in a stream that is alone on the link; interval of the chance that a run ends"
_ORDER = "share of packets that came after one that was sent later (RFC 4737), interval by Clopper and Pearson"
_SKIPPED = "share of packets that took less than half of the delay, interval by Clopper and Pearson"
_COPIES = "copies beyond the first, as a share of packets sent; interval by Clopper and Pearson"
_DAMAGED = "share of packets without checksum whose payload was damaged, of those that arrived"


def expected_loss(impairment: Impairment) -> float:
    """The share of packets of which nothing arrives whole.

    A damaged packet is dropped for its checksum. A packet that is sent twice outlives the loss of one copy.
    """
    if impairment.blocked:
        return 1.0
    twice = 0.0 if impairment.duplicate is None else impairment.duplicate.share
    damaged = 0.0 if impairment.corrupt is None else impairment.corrupt.share
    lost = (1 - twice) * impairment.mean_loss + twice * _both_lost(impairment)
    return 1 - (1 - lost) * (1 - damaged)


def _both_lost(impairment: Impairment) -> float:
    """The chance that two packets in a row are both lost: the run of losses does not end at the first."""
    if impairment.blocked or impairment.loss is None:
        return impairment.mean_loss
    return impairment.loss.mean * (1 - 1 / max(1.0, impairment.loss.mean_burst))


def judge(
    counting: Sequence[Observation], dense: Sequence[Observation], forward: Impairment, depth: Depth
) -> list[Quantity]:
    """Loss, bursts, order and copies. ``dense``: the streams among ``counting`` that were alone on the link."""
    sent = sum(len(one.counted) for one in counting)
    lost = sum(sum(one.lost) for one in counting)
    wanted = expected_loss(forward)
    if sent == 0:
        return [failed("loss", "share", requested=wanted, samples=0, method=_EXACT, reason="no probe was sent")]
    quantities = [_loss(sent, lost, wanted, forward, depth)]
    if dense and forward.loss is not None and 0 < wanted < 1 and forward.duplicate is None:
        quantities.append(_burst(dense, forward, depth))
    if lost < sent:
        quantities.append(_order(counting, forward, depth))
        quantities.append(_copies(counting, sent, forward, depth))
    return quantities


def _loss(sent: int, lost: int, wanted: float, forward: Impairment, depth: Depth) -> Quantity:
    inflation = variance_inflation(forward)
    return judged(
        "loss",
        "share",
        requested=wanted,
        measured=lost / sent,
        interval=proportion(sent, lost, inflation),
        within=precision.share(wanted, depth),
        samples=sent,
        method=_EXACT if inflation == 1 else _CLUMPED.format(worth=sent / inflation),
    )


def _burst(dense: Sequence[Observation], forward: Impairment, depth: Depth) -> Quantity:
    assert forward.loss is not None
    wanted = forward.loss.mean_burst
    lengths = [length for one in dense for length in runs(one.lost)]
    if not lengths:
        reason = f"no packet of {sum(len(one.counted) for one in dense)} was lost"
        return untold("burst", "packets", reason, requested=wanted, method=_RUNS, undecided=True)
    if forward.corrupt is not None:
        reason = "damaged packets are lost among the others"
        return untold("burst", "packets", reason, requested=wanted, method=_RUNS, samples=len(lengths))
    # The last run may have been cut short by the end of the stream, and its last loss says nothing of its end.
    open_ends = sum(bool(one.lost) and one.lost[-1] for one in dense)
    failures, ends = sum(lengths) - open_ends, len(lengths) - open_ends
    return judged(
        "burst",
        "packets",
        requested=wanted,
        measured=sum(lengths) / len(lengths),
        interval=mean_run(failures, ends),
        within=precision.length(wanted, depth),
        samples=len(lengths),
        method=_RUNS,
    )


def runs(lost: Sequence[bool]) -> list[int]:
    """Lengths of the runs of lost packets, in order."""
    return [len(list(run)) for is_lost, run in groupby(lost) if is_lost]


def _order(counting: Sequence[Observation], forward: Impairment, depth: Depth) -> Quantity:
    arrived = sum(len(one.first_arrivals) for one in counting)
    late = sum(one.reordered[0] for one in counting)
    extent = max(one.reordered[1] for one in counting)
    method = f"{_ORDER}; at most {extent} places late" if late else _ORDER
    if forward.reorder is not None:
        return _skipped(counting, arrived, late, forward, depth)
    if forward.jitter_us and not forward.in_order:
        reason = "jitter may reorder packets here, and how many depends on their pace"
        return untold("reordering", "share", reason, measured=late / arrived, samples=arrived, method=method)
    return judged(
        "reordering",
        "share",
        requested=0.0,
        measured=late / arrived,
        interval=proportion(arrived, late),
        within=precision.share(0.0, depth),
        samples=arrived,
        method=method,
    )


def _skipped(counting: Sequence[Observation], arrived: int, late: int, forward: Impairment, depth: Depth) -> Quantity:
    """netem reorders by letting packets skip the delay: one in ``1/share``, after ``gap - 1`` that may not."""
    assert forward.reorder is not None
    share, gap = forward.reorder.share, forward.reorder.gap
    wanted = 1 / (gap - 1 + 1 / share) if share else 0.0
    light = [one for one in counting if one.common_clock]
    delays = [delay for one in light for delay in one.delays_us]
    if forward.delay_us < _EARLY_US or not delays:
        reason = "a packet that skips so short a delay cannot be told from the others"
        return untold(
            "reordering", "share", reason, requested=wanted, measured=late / arrived, samples=arrived, method=_ORDER
        )
    early = sum(delay < forward.delay_us / 2 for delay in delays)
    return judged(
        "reordering",
        "share",
        requested=wanted,
        measured=early / len(delays),
        interval=proportion(len(delays), early),
        within=precision.share(wanted, depth),
        samples=len(delays),
        method=_SKIPPED,
    )


def _copies(counting: Sequence[Observation], sent: int, forward: Impairment, depth: Depth) -> Quantity:
    twice = 0.0 if forward.duplicate is None else forward.duplicate.share
    # Copies are made before the link, and both must live.
    wanted = twice * (1 - 2 * forward.mean_loss + _both_lost(forward))
    copies = sum(one.duplicates for one in counting)
    return judged(
        "duplication",
        "share",
        requested=wanted,
        measured=copies / sent,
        interval=proportion(sent, min(copies, sent)),
        within=precision.share(wanted, depth),
        samples=sent,
        method=_COPIES,
    )


def judge_damage(damage: Observation, forward: Impairment, depth: Depth) -> Quantity:
    """netem flips one bit anywhere in the frame. In the payload it arrives damaged; in a header the packet is lost."""
    assert forward.corrupt is not None
    share = forward.corrupt.share
    payload = damage.stream.payload_bytes - _PROBE_HEADER
    frame = damage.stream.payload_bytes + _IP_AND_UDP + _ETHERNET_HEADER
    arrived = len(damage.arrivals)
    seen, gone = share * payload / frame, share * (frame - payload) / frame
    wanted = seen / (1 - gone)
    if not arrived:
        return failed("corruption", "share", requested=wanted, samples=0, method=_DAMAGED, reason="no packet arrived")
    return judged(
        "corruption",
        "share",
        requested=wanted,
        measured=damage.damaged / arrived,
        interval=proportion(arrived, min(damage.damaged, arrived)),
        within=precision.share(wanted, depth),
        samples=arrived,
        method=_DAMAGED,
    )
