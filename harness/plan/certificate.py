"""The verdict on a link: what was observed held against what was asked for, quantity by quantity. Pure.

A quantity is INVALID when its whole 99% interval lies beyond the tolerance, and undecided when its interval is too wide
to say more than that (harness.plan.precision). A link is INVALID only when it fails three independent rounds of probes:
an interval alone fails one honest link in a hundred, so that a lab of twelve links would fail in one run of nine.
``certify`` looks at one round alone: a link that is wrong fails them all. A full measurement probes a link of which
something is undecided again as well, for longer each time, and leaves it without a verdict if that does not help.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.model.impairment import Impairment
from harness.model.measurement import QUANTILE_SHARES, Depth, LinkCertificate, MeasuringNoise, Quantity
from harness.model.verdict import Verdict
from harness.plan import judge_delay, judge_flow, judge_loss
from harness.plan.intervals import quantile
from harness.plan.prober_protocol import Observation
from harness.plan.probing import FASTEST_FEED_BPS, SATURATION, Kind
from harness.plan.quantities import told, untold

FAILED_ROUNDS = 3
DECIDING_ROUNDS = 3
MAX_ROUNDS = FAILED_ROUNDS + DECIDING_ROUNDS - 1
"""Two that decide nothing, and then three that fail."""


def certify(
    seen: Sequence[Observation],
    seen_back: Sequence[Observation],
    forward: Impairment,
    backward: Impairment,
    *,
    depth: Depth,
    mtu: int,
    round_number: int = 1,
) -> LinkCertificate:
    """The certificate of the link with ``forward``, whose echoes came back over ``backward``, from one round's streams;
    ``seen_back`` are those the other way, none if it was not probed beside it.

    Raises ValueError when no stream of this link is among them.
    """
    if not seen:
        raise ValueError("nothing was observed")
    quantities: list[Quantity] = []
    light, dense = _of(seen, "light"), _of(seen, "dense")
    counting = [*light, *dense]
    if light:
        light_back = _of(seen_back, "light")
        quantities += judge_delay.judge(light[0], light_back[0] if light_back else None, forward, backward, depth)
    if counting:
        quantities += judge_loss.judge(counting, dense, forward, depth)
    idle, saturating = _of(seen, "idle"), _of(seen, "saturating")
    if idle and saturating:
        quantities += judge_flow.judge(idle[0], saturating[0], forward, mtu)
    elif depth == "full" and forward.rate_bps is not None and forward.rate_bps * SATURATION > FASTEST_FEED_BPS:
        reason = "a link of this rate is not fed faster than that here"
        quantities.append(untold("rate", "bps", reason, requested=float(forward.rate_bps), undecided=True))
    damage = _of(seen, "damage")
    if damage:
        quantities.append(judge_loss.judge_damage(damage[0], forward, depth))
    reasons = [told(quantity) for quantity in quantities if quantity.verdict is Verdict.INVALID]
    undecided = depth == "full" and any(quantity.undecided for quantity in quantities)
    delays = sorted(light[0].delays_us) if light and light[0].common_clock else []
    return LinkCertificate(
        source=seen[0].stream.source,
        destination=seen[0].stream.destination,
        depth=depth,
        rounds=round_number,
        sent=sum(len(one.counted) for one in counting),
        received=sum(len(one.first_arrivals) for one in counting),
        quantities=tuple(quantities),
        delay_quantiles_us=tuple(round(quantile(delays, share), 1) for share in QUANTILE_SHARES) if delays else (),
        verdict=Verdict.INVALID if reasons else None if undecided else Verdict.PASS,
        reason="; ".join(reasons),
    )


def probe_again(certificate: LinkCertificate, failed: int) -> bool:
    """Whether this link deserves another round before its verdict stands; it failed ``failed`` rounds, this one
    counted. A round that decided nothing is no failed one."""
    if certificate.verdict is Verdict.INVALID:
        return failed < FAILED_ROUNDS
    return certificate.verdict is None and certificate.rounds < DECIDING_ROUNDS


def merged_noise(one: MeasuringNoise, other: MeasuringNoise) -> MeasuringNoise:
    """The worse of two sessions' noise."""
    return MeasuringNoise(
        loopback_median_us=_worse(one.loopback_median_us, other.loopback_median_us),
        loopback_p99_us=_worse(one.loopback_p99_us, other.loopback_p99_us),
        late_p99_us=max(one.late_p99_us, other.late_p99_us),
        late_max_us=max(one.late_max_us, other.late_max_us),
    )


def _worse(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def _of(seen: Iterable[Observation], kind: Kind) -> list[Observation]:
    return [one for one in seen if one.stream.kind == kind]
