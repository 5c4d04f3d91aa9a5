"""How the WAN is held against what was asked for: how to probe a link, what to expect, and the verdict. Pure.

A link is INVALID only when it fails three independent rounds of probes: a 99% interval alone fails one honest link in a
hundred, so that a lab of twelve links would fail in one run of nine. Each further round sends more packets, and
``judge`` looks at one round alone: a link that is wrong fails them all.

Burst loss comes in clumps, so that n packets say less than n independent ones would: the interval is computed from
the effective sample size, n divided by the variance inflation of the loss process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from harness.model.base import Value
from harness.model.impairment import GilbertElliottLoss, Impairment
from harness.model.measurement import LinkMeasurement, ProbeCount
from harness.model.verdict import Verdict

MAX_ROUNDS = 3
CONFIDENCE = 0.99
RTT_TOLERANCE_US = 1000.0
RTT_TOLERANCE_SHARE = 0.02
HEADERS_BYTES = 28
"""IPv4 and UDP."""
PAYLOAD_BYTES = 36
MAX_LOAD = 0.1
"""Share of a link's rate that probes may take."""
DURATION_US = 2_400_000
FEWEST_PACKETS = 20
USUAL_PACKETS = 120
MOST_PACKETS = 600
WANTED_LOSSES = 8
JITTER_SPACING = 8
MAX_JITTER_INTERVAL_US = 100_000
DRAIN_SLACK_US = 300_000
COMMON_CLOCK_US = 60_000_000


class ProbePlan(Value):
    """A stream of probes over one directed link: packets of ``payload_bytes`` (UDP), one in every ``interval_us``.

    ``drain_us``: how long after its last probe the sender still waits for echoes.
    """

    packets: int = Field(ge=1)
    interval_us: int = Field(ge=1)
    payload_bytes: int = PAYLOAD_BYTES
    drain_us: int

    @property
    def duration_us(self) -> int:
        """From the first probe to the end of the wait."""
        return self.packets * self.interval_us + self.drain_us


def plan_probe(forward: Impairment, backward: Impairment, round_number: int = 1) -> ProbePlan:
    """How to probe the link with ``forward``, whose echoes come back over ``backward``.

    Bounded to about 2.5 s of sending in the first round; each further round is twice as long. Raises ValueError for a
    round below 1.
    """
    if round_number < 1:
        raise ValueError("rounds count from 1")
    duration_us = DURATION_US << (round_number - 1)
    wanted = USUAL_PACKETS
    loss = forward.mean_loss
    if 0 < loss < 1:
        wanted = max(USUAL_PACKETS, math.ceil(min(MOST_PACKETS, WANTED_LOSSES / loss)))
    interval_us = max(DURATION_US // wanted, _slowest_interval_us(forward), _slowest_interval_us(backward))
    jitter_us = max(forward.jitter_us, backward.jitter_us)
    interval_us = max(interval_us, min(JITTER_SPACING * jitter_us, MAX_JITTER_INTERVAL_US))
    packets = max(FEWEST_PACKETS, duration_us // interval_us)
    queued_us = sum(_queue_us(impairment) for impairment in (forward, backward))
    drain_us = math.ceil(expected_rtt_us(forward, backward)) + 2 * jitter_us + min(queued_us, DURATION_US)
    return ProbePlan(packets=packets, interval_us=interval_us, drain_us=drain_us + DRAIN_SLACK_US)


def expected_rtt_us(forward: Impairment, backward: Impairment, payload_bytes: int = PAYLOAD_BYTES) -> float:
    """RTT of a probe in microseconds: both delays, and the time that both bottlenecks take to send the packet."""
    bits = (payload_bytes + HEADERS_BYTES) * 8
    total = float(forward.delay_us + backward.delay_us)
    for impairment in (forward, backward):
        if impairment.rate_bps is not None:
            total += bits * 1e6 / impairment.rate_bps
    return total


def rtt_tolerance_us(forward: Impairment, backward: Impairment, samples: int, interval_us: int) -> float:
    """Largest error of the median RTT that is accepted: max(1 ms, 2%), and with jitter what chance adds to that.

    Chance: four standard errors of the median of that many samples, and the bias of links that keep packets in order,
    where a packet waits for an earlier one that was delayed more.
    """
    base = max(RTT_TOLERANCE_US, RTT_TOLERANCE_SHARE * expected_rtt_us(forward, backward))
    jitters = [impairment.jitter_us for impairment in (forward, backward)]
    variance = sum(jitter**2 / 3 for jitter in jitters)
    median_error = math.sqrt(math.pi / 2 * variance / max(1, samples))
    waiting = sum(min(jitter / 3, jitter**2 / (3 * interval_us)) for jitter in jitters)
    return base + 4 * median_error + waiting


def variance_inflation(impairment: Impairment) -> float:
    """By how much more the lost share of a stream varies than with independent loss; 1 or more."""
    loss = impairment.loss
    if impairment.blocked or not isinstance(loss, GilbertElliottLoss):
        return 1.0
    mean, memory = loss.mean, loss.memory
    if not 0 < mean < 1 or memory >= 1:
        return 1.0
    bad = loss.bad_share
    of_states = (loss.loss_in_bad - loss.loss_in_good) ** 2 * bad * (1 - bad) / (mean * (1 - mean))
    return max(1.0, 1 + 2 * of_states * memory / (1 - memory))


def loss_interval(sent: int, lost: int, inflation: float = 1.0) -> tuple[float, float]:
    """Clopper and Pearson's exact 99% interval of the loss probability, for a sample worth ``sent / inflation``.

    Raises ValueError when nothing was sent or more was lost than sent.
    """
    if sent < 1 or not 0 <= lost <= sent:
        raise ValueError(f"{lost} lost of {sent} sent")
    from scipy.special import betaincinv  # here, since importing scipy takes longer than most commands

    worth, missing = sent / inflation, lost / inflation
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if lost == 0 else float(betaincinv(missing, worth - missing + 1, tail))
    high = 1.0 if lost == sent else float(betaincinv(missing + 1, worth - missing, 1 - tail))
    return low, high


def judge(
    count: ProbeCount, forward: Impairment, backward: Impairment, plan: ProbePlan, round_number: int = 1
) -> LinkMeasurement:
    """One directed link's verdict from one round of probes: PASS or INVALID, with the reason."""
    expected = expected_rtt_us(forward, backward, plan.payload_bytes)
    tolerance = rtt_tolerance_us(forward, backward, len(count.rtt_us), plan.interval_us)
    rtts = sorted(count.rtt_us)
    median = _quantile(rtts, 0.5) if rtts else None
    low, high, loss_reason = _judge_loss(count, forward)
    reasons = [reason for reason in (loss_reason, _judge_rtt(median, expected, tolerance, forward, backward)) if reason]
    return LinkMeasurement(
        source=count.source,
        destination=count.destination,
        rtt_requested_us=expected,
        rtt_measured_us=median,
        rtt_tolerance_us=tolerance,
        rtt_min_us=rtts[0] if rtts else None,
        rtt_p99_us=_quantile(rtts, 0.99) if rtts else None,
        loss_requested=forward.mean_loss,
        loss_measured=1 - count.received / count.sent if count.sent else None,
        loss_low=low,
        loss_high=high,
        sent=count.sent,
        received=count.received,
        rounds=round_number,
        verdict=Verdict.INVALID if reasons else Verdict.PASS,
        reason="; ".join(reasons),
    )


def probe_again(measurement: LinkMeasurement) -> bool:
    """Whether this link deserves another round before its verdict stands."""
    return measurement.verdict is Verdict.INVALID and measurement.rounds < MAX_ROUNDS


def join_counts(reports: Iterable[Mapping[str, Any]]) -> tuple[ProbeCount, ...]:
    """The counts of every directed link that was probed, from the reports of the sites' probe agents (their JSON).

    What a link lost is known only from both ends: sent at one, received at the other. Probes that were sent before the
    other end's agent was there to receive do not count.
    """
    by_site = {report["site"]: report for report in reports}
    peers = {site: {peer["site"]: peer for peer in report["peers"]} for site, report in by_site.items()}
    counts = []
    for source, report in by_site.items():
        for destination, peer in peers[source].items():
            arrived = peers.get(destination, {}).get(source)
            if peer["sent"] == 0 or arrived is None:
                continue
            sent = peer["sent"] - _sent_too_early(report, peer, by_site[destination])
            counts.append(
                ProbeCount(
                    source=source,
                    destination=destination,
                    sent=sent,
                    received=min(sent, arrived["received"]),
                    rtt_us=tuple(peer["rtt_us"]),
                )
            )
    return tuple(counts)


def _sent_too_early(report: Mapping[str, Any], peer: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """How many probes left before the other end listened; 0 when the two hosts have clocks of their own."""
    ready_us = (other["bound_ns"] - report["start_ns"]) / 1000
    if abs(ready_us) > COMMON_CLOCK_US:
        return 0
    return sum(sent_at < ready_us for sent_at in peer["sent_at_us"])


def _judge_loss(count: ProbeCount, forward: Impairment) -> tuple[float | None, float | None, str]:
    if count.sent == 0:
        return None, None, "no probe was sent"
    lost = count.sent - count.received
    low, high = loss_interval(count.sent, lost, variance_inflation(forward))
    wanted = forward.mean_loss
    if low <= wanted <= high:
        return low, high, ""
    return low, high, f"loss {lost}/{count.sent} ({low:.3%} to {high:.3%}) where {wanted:.3%} was asked for"


def _judge_rtt(
    median: float | None, expected: float, tolerance: float, forward: Impairment, backward: Impairment
) -> str:
    if forward.mean_loss == 1.0 or backward.mean_loss == 1.0:
        return ""
    if median is None:
        return "no probe was echoed"
    if abs(median - expected) <= tolerance:
        return ""
    return f"RTT {median / 1000:.2f} ms where {expected / 1000:.2f} ± {tolerance / 1000:.2f} ms was asked for"


def _slowest_interval_us(impairment: Impairment) -> int:
    """The pace at which probes one way and echoes of the other way together stay below the allowed load."""
    if impairment.rate_bps is None:
        return 0
    bits = 2 * (PAYLOAD_BYTES + HEADERS_BYTES) * 8
    return math.ceil(bits * 1e6 / (impairment.rate_bps * MAX_LOAD))


def _queue_us(impairment: Impairment) -> int:
    """How long the bottleneck takes to drain a full buffer."""
    if impairment.rate_bps is None or impairment.buffer_bytes is None:
        return 0
    return math.ceil(impairment.buffer_bytes * 8e6 / impairment.rate_bps)


def _quantile(ordered: list[float], share: float) -> float:
    """Linear interpolation between the two nearest of a sorted, non-empty list."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
