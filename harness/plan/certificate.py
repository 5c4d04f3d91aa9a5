"""The verdict on a link: what was observed held against what was asked for, quantity by quantity. Pure.

A quantity is INVALID when its whole 99% interval lies beyond the tolerance. A link is INVALID only when it fails three
independent rounds of probes: an interval alone fails one honest link in a hundred, so that a lab of twelve links would
fail in one run of nine. ``certify`` looks at one round alone: a link that is wrong fails them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.model.impairment import Impairment
from harness.model.measurement import QUANTILE_SHARES, Depth, LinkCertificate, MeasuringNoise, Quantity
from harness.model.verdict import Verdict
from harness.plan import judge_delay, judge_flow, judge_loss
from harness.plan.intervals import quantile
from harness.plan.prober_protocol import Observation
from harness.plan.probing import MAX_ROUNDS, Kind
from harness.plan.quantities import told


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
        quantities += judge_loss.judge(counting, dense, forward)
    idle, saturating = _of(seen, "idle"), _of(seen, "saturating")
    if idle and saturating:
        quantities += judge_flow.judge(idle[0], saturating[0], forward, mtu)
    damage = _of(seen, "damage")
    if damage:
        quantities.append(judge_loss.judge_damage(damage[0], forward))
    reasons = [told(quantity) for quantity in quantities if quantity.verdict is Verdict.INVALID]
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
        verdict=Verdict.INVALID if reasons else Verdict.PASS,
        reason="; ".join(reasons),
    )


def probe_again(certificate: LinkCertificate) -> bool:
    """Whether this link deserves another round before its verdict stands."""
    return certificate.verdict is Verdict.INVALID and certificate.rounds < MAX_ROUNDS


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
