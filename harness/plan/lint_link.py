"""The linter's rules on what one directed link does. Pure.

``_RULES`` lists them; each gets the link's impairment and yields findings. Keys are named as in topology files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from harness.model.impairment import (
    Chance,
    DelayDistribution,
    FourStateLoss,
    GilbertElliottLoss,
    Impairment,
    IndependentLoss,
)
from harness.model.topology import Link
from harness.model.units import brief_duration, brief_number, brief_rate, brief_share, brief_size
from harness.plan.lint_finding import Capacity, LintFinding, Severity, Subject, link_subject

IPV6_LEAST_MTU = 1280
"""RFC 8200, section 5."""
SHALLOW_SHARE = 0.05
"""A buffer below this share of the BDP starves up to 400 long-lived flows: BDP / sqrt(flows) fills a link (Appenzeller,
Keslassy and McKeown, SIGCOMM 2004)."""
SHALLOW_PACKETS = 20
BLOATED_S = 10.0
FEWEST_MANAGED_PACKETS = 8
RESOLUTION = 2.0**-32
"""netem keeps probabilities in 32 bits."""
_REACH_BELOW = {"uniform": 1.0, "normal": 3.0, "pareto": 0.6, "paretonormal": 1.5}
"""How many jitters a distribution reaches below its mean: all of a uniform one, 99.9% of a normal one; the tail of
Pareto's (shape 3) is above its mean."""


class _Seen(NamedTuple):
    impairment: Impairment
    subject: Subject
    mtu: int
    round_trip_us: int
    capacity: Capacity | None

    def says(self, severity: Severity, rule: str, key: str, reason: str, instead: str = "") -> LintFinding:
        return LintFinding(severity=severity, rule=rule, subject=(*self.subject, key), reason=reason, instead=instead)


def check_impairment(
    impairment: Impairment, subject: Subject, *, mtu: int, round_trip_us: int, capacity: Capacity | None
) -> Iterator[LintFinding]:
    """What is wrong with one direction on a path with this MTU and round trip."""
    if impairment.blocked:
        return
    seen = _Seen(impairment, subject, mtu, round_trip_us, capacity)
    for rule in _RULES:
        yield from rule(seen)


def check_link(link: Link, back: Link, topology_mtu: int, capacity: Capacity | None) -> Iterator[LintFinding]:
    """All rules on a link whose other direction is ``back``."""
    subject = link_subject(link.source, link.destination)
    mtu = topology_mtu if link.mtu is None else min(link.mtu, topology_mtu)
    round_trip_us = link.impairment.delay_us + back.impairment.delay_us
    yield from check_impairment(link.impairment, subject, mtu=mtu, round_trip_us=round_trip_us, capacity=capacity)
    if link.mtu is not None and link.mtu > topology_mtu:
        yield LintFinding(
            severity="warning",
            rule="mtu-above-topology",
            subject=(*subject, "mtu"),
            reason=f"no packet above the topology's MTU of {topology_mtu} B reaches this link, so {link.mtu} B "
            "changes nothing",
            instead=f"mtu: {link.mtu} at the top of the file, and smaller ones on the other links",
        )
    if link.mtu is not None and link.mtu < IPV6_LEAST_MTU <= topology_mtu:
        yield LintFinding(
            severity="note",
            rule="mtu-below-ipv6",
            subject=(*subject, "mtu"),
            reason=f"IPv6 needs {IPV6_LEAST_MTU} B on every link (RFC 8200), and the core grants them: {link.mtu} B "
            "are for IPv4 alone",
        )


def _correlated_loss(seen: _Seen) -> Iterator[LintFinding]:
    loss = seen.impairment.loss
    if not isinstance(loss, IndependentLoss) or not loss.correlation or not 0 < loss.probability < 1:
        return
    mean, memory = loss.probability, loss.correlation
    good_to_bad, bad_to_good = (1 - memory) * mean, (1 - memory) * (1 - mean)
    if bad_to_good <= 0:
        equivalent = "loss: {mean: .., burst: ..}; with 100% correlation a loss would never end"
    else:
        burst = max(1.0, 1 / bad_to_good)
        equivalent = (
            f"loss: {{mean: {brief_share(mean)}, burst: {brief_number(burst)} packets}}, the same mean and the same "
            f"correlation of neighbours as Gilbert-Elliott (good_to_bad: {brief_share(good_to_bad)}, "
            f"bad_to_good: {brief_share(bad_to_good)})"
        )
    yield seen.says(
        "error",
        "correlated-loss",
        "loss",
        f"{_collapse(memory)} {brief_share(mean)} is then almost never reached: 20,000 packets at 1% with 25% "
        "correlation lost none",
        equivalent,
    )


def _collapse(correlation: float) -> str:
    """What netem's correlation does: it averages the dice, so that extreme throws vanish."""
    spread = math.sqrt((1 - correlation) / (1 + correlation))
    return (
        f"netem's correlation of {brief_share(correlation)} averages its dice (their spread falls to "
        f"{brief_share(spread)}) instead of making bursts;"
    )


def _correlated_chances(seen: _Seen) -> Iterator[LintFinding]:
    chances: tuple[tuple[str, Chance | None], ...] = (
        ("duplicate", seen.impairment.duplicate),
        ("corrupt", seen.impairment.corrupt),
    )
    named = [(key, one.share, one.correlation) for key, one in chances if one is not None]
    reorder = seen.impairment.reorder
    if reorder is not None:
        named.append(("reorder", reorder.share, reorder.correlation))
    for key, share, correlation in named:
        if correlation and 0 < share < 1:
            yield seen.says(
                "error",
                f"correlated-{key}",
                key,
                f"{_collapse(correlation)} a share of {brief_share(share)} is then not what happens",
                f"{key}: {brief_share(share)} without a correlation; for bursts, change it over time by a timeline",
            )


def _correlated_delay(seen: _Seen) -> Iterator[LintFinding]:
    impairment, correlation = seen.impairment, seen.impairment.delay_correlation
    if not correlation or not impairment.jitter_us:
        return
    spread = math.sqrt((1 - correlation) / (1 + correlation)) if correlation < 1 else 0.0
    wider = f"jitter: {brief_duration(impairment.jitter_us / spread)}" if spread else "a correlation below 100%"
    yield seen.says(
        "warning",
        "correlated-delay",
        "jitter",
        f"{_collapse(correlation)} a jitter of {brief_duration(impairment.jitter_us)} shrinks to about "
        f"{brief_duration(impairment.jitter_us * spread)}, and its distribution loses its shape",
        f"no correlation, or {wider} to keep the spread; a slowly moving delay is a trace",
    )


def _loss_that_sticks(seen: _Seen) -> Iterator[LintFinding]:
    match seen.impairment.loss:
        case GilbertElliottLoss() as loss:
            if loss.good_to_bad > 0 and loss.bad_to_good == 0:
                yield seen.says(
                    "error",
                    "loss-never-ends",
                    "loss",
                    "bad_to_good is 0%: the first bad spell never ends, so what is lost depends on when it begins",
                    "bad_to_good above 0% (1 / mean length of a spell); to cut a link off use a timeline",
                )
            elif loss.good_to_bad == 0 and loss.loss_in_bad > loss.loss_in_good:
                yield seen.says(
                    "warning",
                    "loss-never-begins",
                    "loss",
                    f"good_to_bad is 0%: the link never gets into its bad state, and {brief_share(loss.loss_in_bad)} "
                    "there never happens",
                    f"loss: {brief_share(loss.loss_in_good)}, or a good_to_bad above 0%",
                )
        case FourStateLoss() as states:
            if states.p13 > 0 and states.p31 == 0:
                yield seen.says(
                    "error",
                    "loss-never-ends",
                    "loss",
                    "p31 is 0%: the first burst never ends",
                    "p31 above 0% (1 / mean number of packets lost in a row)",
                )
            elif states.p32 > 0 and states.p23 == 0:
                yield seen.says(
                    "error",
                    "loss-never-ends",
                    "loss",
                    "p23 is 0%: once among the good packets of a burst, nothing is ever lost again",
                    "p23 above 0%",
                )
        case None:
            return
    mean = seen.impairment.mean_loss
    if 0 < mean < RESOLUTION:
        yield seen.says(
            "warning",
            "loss-below-resolution",
            "loss",
            f"netem keeps a probability in 32 bits: {mean:.3g} becomes none at all",
            "a loss of at least 0.0000001%, or none",
        )


def _buffer(seen: _Seen) -> Iterator[LintFinding]:
    impairment = seen.impairment
    if impairment.rate_bps is None:
        return
    size = _buffer_bytes(impairment, seen.mtu)
    if size is None:
        return
    rate, bdp = impairment.rate_bps, impairment.rate_bps * seen.round_trip_us / 8e6
    drain_s = size * 8 / rate
    if size < seen.mtu:
        yield seen.says(
            "error",
            "buffer-below-packet",
            "buffer",
            f"{brief_size(size)} is below one packet of the MTU ({seen.mtu} B): nothing full-sized could wait at all",
            f"buffer: {brief_size(max(bdp, 10 * seen.mtu))} "
            f"({'one BDP' if bdp > 10 * seen.mtu else 'ten packets'}), at least {seen.mtu} B",
        )
    elif size < SHALLOW_SHARE * bdp and size < SHALLOW_PACKETS * seen.mtu:
        yield seen.says(
            "warning",
            "buffer-below-bdp",
            "buffer",
            f"{brief_size(size)} is {brief_share(size / bdp)} of the BDP ({brief_size(bdp)}): a loss-based flow fills "
            "only a part of this link, and bursts of a sender are lost",
            f"buffer: {brief_size(bdp)} (one BDP), or at least {brief_size(bdp / 10)} for many flows",
        )
    elif drain_s > BLOATED_S:
        yield seen.says(
            "warning",
            "buffer-bloated",
            "buffer",
            f"a full buffer of {brief_size(size)} takes {brief_duration(drain_s * 1e6)} to drain at "
            f"{brief_rate(rate)}: timeouts of the software under test end before a packet leaves",
            f"buffer: 1 s ({brief_size(rate / 8)}) is a bloated mobile uplink already",
        )


def _buffer_bytes(impairment: Impairment, mtu: int) -> int | None:
    if impairment.buffer_bytes is not None:
        return impairment.buffer_bytes
    return None if impairment.buffer_packets is None else impairment.buffer_packets * mtu


def _active_queue(seen: _Seen) -> Iterator[LintFinding]:
    impairment, queue = seen.impairment, seen.impairment.active_queue
    if queue is None:
        return
    if impairment.rate_bps is None:
        yield seen.says(
            "error",
            "queue-without-rate",
            "queue",
            f"{queue.discipline} manages the queue before a bottleneck, and without a rate none ever builds",
            "a rate, or no active queue",
        )
        return
    size = _buffer_bytes(impairment, seen.mtu)
    if size is not None:
        drain_us = size * 8e6 / impairment.rate_bps
        if size < FEWEST_MANAGED_PACKETS * seen.mtu or drain_us < queue.target_us:
            enough = max(FEWEST_MANAGED_PACKETS * seen.mtu, 4 * queue.target_us * impairment.rate_bps / 8e6)
            yield seen.says(
                "warning",
                "queue-starved",
                "buffer",
                f"a buffer of {brief_size(size)} is full after {brief_duration(drain_us)} and drops at its tail "
                f"before {queue.discipline} (target {brief_duration(queue.target_us)}) acts",
                f"buffer: {brief_size(enough)} or more",
            )
    serialisation_us = seen.mtu * 8e6 / impairment.rate_bps
    if serialisation_us > queue.target_us:
        yield seen.says(
            "warning",
            "queue-target-below-packet",
            "queue",
            f"one packet takes {brief_duration(serialisation_us)} at {brief_rate(impairment.rate_bps)}, longer than "
            f"the target of {brief_duration(queue.target_us)}: every queue looks standing (RFC 8289, section 5.2)",
            f"target: {brief_duration(math.ceil(1.5 * serialisation_us))}",
        )
    if queue.target_us >= queue.interval_us:
        yield seen.says(
            "warning",
            "queue-target-above-interval",
            "queue",
            f"the target ({brief_duration(queue.target_us)}) must be a small part of the interval "
            f"({brief_duration(queue.interval_us)}), 5% to 10% of it (RFC 8289)",
            f"target: {brief_duration(queue.interval_us / 20)}",
        )


def _jitter(seen: _Seen) -> Iterator[LintFinding]:
    impairment = seen.impairment
    if impairment.jitter_us:
        reach = reach_below(impairment.distribution) * impairment.jitter_us
        if reach > impairment.delay_us:
            largest = impairment.delay_us / (reach / impairment.jitter_us)
            yield seen.says(
                "warning",
                "jitter-clipped",
                "jitter",
                f"a {impairment.distribution.kind} jitter of {brief_duration(impairment.jitter_us)} reaches "
                f"{brief_duration(reach)} below a delay of {brief_duration(impairment.delay_us)}: netem clips at zero, "
                "so that mean and shape of the delay are not as asked",
                f"jitter: {brief_duration(largest)} at most, or a delay of {brief_duration(reach)}",
            )
        if not impairment.in_order:
            yield seen.says(
                "note",
                "jitter-reorders",
                "jitter",
                f"order is not kept: packets that follow within {brief_duration(impairment.jitter_us)} overtake one "
                "another, and TCP takes that for loss",
                "keep the order, and `reorder: 1%` where overtaking is what you test",
            )
    elif impairment.delay_correlation or impairment.distribution.kind != "uniform":
        yield seen.says(
            "warning",
            "distribution-without-jitter",
            "jitter",
            "a distribution gives the jitter its shape, and there is no jitter",
            "a jitter, or no distribution",
        )


def reach_below(distribution: DelayDistribution) -> float:
    """How many jitters a distribution reaches below its mean, 0 or more."""
    if distribution.kind == "custom":
        return max(0.0, -min(distribution.quantiles, default=0.0))
    return _REACH_BELOW[distribution.kind]


def _reorder(seen: _Seen) -> Iterator[LintFinding]:
    impairment = seen.impairment
    if impairment.reorder is None or not impairment.reorder.share:
        return
    if not impairment.delay_us:
        yield seen.says(
            "warning",
            "reorder-without-delay",
            "reorder",
            "a reordered packet overtakes by skipping the delay, and there is none to skip: nothing is reordered",
            "a delay above the time between packets, such as 10 ms",
        )
    elif impairment.reorder.share == 1 and impairment.reorder.gap == 1:
        yield seen.says(
            "warning",
            "reorder-all",
            "reorder",
            "every packet skips the delay: none is overtaken, and the link has no delay at all",
            "reorder: 1%",
        )


def _delay(seen: _Seen) -> Iterator[LintFinding]:
    delay, capacity = seen.impairment.delay_us, seen.capacity
    if capacity is not None and 0 < delay < capacity.forward_us:
        yield seen.says(
            "warning",
            "delay-below-core",
            "delay",
            f"the core itself may take up to {brief_duration(capacity.forward_us)} for a packet "
            f"({capacity.source}): a delay of {brief_duration(delay)} cannot be kept",
            f"delay: {brief_duration(max(1000, capacity.forward_us))}, or a core in a namespace (--wan netns)",
        )


def _rate(seen: _Seen) -> Iterator[LintFinding]:
    rate, capacity = seen.impairment.rate_bps, seen.capacity
    if capacity is not None and rate is not None and rate > capacity.bits_per_s:
        yield seen.says(
            "warning",
            "rate-above-core",
            "rate",
            f"{brief_rate(rate)} is more than the core carries in all, {brief_rate(capacity.bits_per_s)} "
            f"({capacity.source}): the core would be the bottleneck, with losses that nobody asked for",
            f"rate: {brief_rate(capacity.bits_per_s / 4)} or less, or measure this machine with longhaul bench core",
        )


def _duplicate(seen: _Seen) -> Iterator[LintFinding]:
    duplicate, loss = seen.impairment.duplicate, seen.impairment.mean_loss
    if duplicate is None or not duplicate.share:
        return
    if loss > 0:
        yield seen.says(
            "note",
            "duplicate-with-loss",
            "duplicate",
            "netem throws for both on one packet, and one that is duplicated and lost arrives once: a share of "
            f"{brief_share(loss * (1 - duplicate.share))} gets lost, and {brief_share(duplicate.share * (1 - loss))} "
            "arrives twice",
        )
    if duplicate.share > 0.5:
        yield seen.says(
            "warning",
            "duplicate-doubles",
            "duplicate",
            f"{brief_share(duplicate.share)} of all packets twice takes {brief_share(1 + duplicate.share)} of the load",
            "duplicate: 1%",
        )


def _slots(seen: _Seen) -> Iterator[LintFinding]:
    slots, rate = seen.impairment.slots, seen.impairment.rate_bps
    if slots is None:
        return
    mean_us = slots.delay_us or (slots.min_delay_us + max(slots.max_delay_us, slots.min_delay_us)) / 2
    if not mean_us:
        yield seen.says(
            "warning", "slots-always-open", "slots", "the link is open all the time", "a time between openings"
        )
        return
    budgets = [slots.packets * seen.mtu] if slots.packets else []
    budgets += [slots.bytes] if slots.bytes else []
    if not budgets:
        return
    if 0 < slots.bytes < seen.mtu:
        yield seen.says(
            "warning",
            "slots-below-packet",
            "slots",
            f"{slots.bytes} B in an opening are less than a packet of {seen.mtu} B",
            f"bytes: {seen.mtu} B or more",
        )
    ceiling = min(budgets) * 8e6 / mean_us
    if rate is not None and rate > ceiling:
        yield seen.says(
            "warning",
            "slots-below-rate",
            "slots",
            f"the openings let {brief_rate(ceiling)} through, so the rate of {brief_rate(rate)} is never reached, and "
            "what waits for an opening is not in the buffer",
            f"rate: {brief_rate(ceiling)}, or more packets in each opening",
        )


def _marks(seen: _Seen) -> Iterator[LintFinding]:
    if seen.impairment.loss_marks and not seen.impairment.mean_loss:
        yield seen.says(
            "warning",
            "marks-without-loss",
            "loss",
            "packets are marked where others would be lost, and this link loses none",
            "a loss, or an active queue with ecn",
        )


_RULES: tuple[Callable[[_Seen], Iterator[LintFinding]], ...] = (
    _correlated_loss,
    _correlated_chances,
    _correlated_delay,
    _loss_that_sticks,
    _buffer,
    _active_queue,
    _jitter,
    _reorder,
    _delay,
    _rate,
    _duplicate,
    _slots,
    _marks,
)
