"""From what was seen of a real path to a link that behaves like it. Pure.

With one-way times each direction is fitted by itself. A log of round trips cannot tell the two apart: the profile then
has half of the base delay (the smallest seen) in each direction, and all that varies or gets lost in the uplink, so
that a round trip over it is what was measured.
"""

from __future__ import annotations

from harness.model.base import Value
from harness.model.path_sample import PathSample, PathStream
from harness.plan.fit_delay import DelayFit, fit_delay
from harness.plan.fit_loss import LossFit, fit_loss


class DirectionFit(Value):
    """One direction: ``delay_us`` and ``jitter_us`` as a link takes them; shares of what arrived, 0 to 1.

    ``reordered`` counts packets that arrived after one that was sent later (RFC 4737). ``delay`` is None where nothing
    arrived, or nothing is known of this direction by itself.
    """

    delay_us: int
    jitter_us: int = 0
    delay: DelayFit | None = None
    loss: LossFit | None = None
    reordered: float | None = None
    duplicated: float | None = None


class PathFit(Value):
    """Both directions. ``from_round_trips``: what varies stands in the uplink alone. ``mirrored``: the downlink was not
    seen, and is taken to be like the uplink."""

    source: str
    from_round_trips: bool
    mirrored: bool = False
    uplink: DirectionFit
    downlink: DirectionFit


def fit_path(sample: PathSample) -> PathFit:
    """The link that behaves like the path. Raises ValueError when the sample says too little."""
    if sample.round_trip is not None:
        return _of_round_trips(sample.source, sample.round_trip)
    if sample.uplink is None:
        raise ValueError("the log has neither round trips nor a direction")
    if sample.downlink is None:
        seen = _direction(sample.uplink)
        return PathFit(source=sample.source, from_round_trips=False, mirrored=True, uplink=seen, downlink=seen)
    up, down = sample.uplink, sample.downlink
    if not sample.shared_clock:
        # Two clocks: only their sum and each one's variation are true, so that the base is halved.
        base = (min(up.arrived_us, default=0.0) + min(down.arrived_us, default=0.0)) / 2
        up, down = (_on_base(stream, base) for stream in (up, down))
    return PathFit(source=sample.source, from_round_trips=False, uplink=_direction(up), downlink=_direction(down))


def _of_round_trips(source: str, stream: PathStream) -> PathFit:
    there = _direction(stream)
    assert there.delay is not None
    half = there.delay.minimum_us / 2 if there.jitter_us else there.delay_us / 2
    uplink = there.model_copy(update={"delay_us": max(0, round(there.delay_us - half))})
    return PathFit(source=source, from_round_trips=True, uplink=uplink, downlink=DirectionFit(delay_us=round(half)))


def _direction(stream: PathStream) -> DirectionFit:
    delay = fit_delay(stream.arrived_us)
    return DirectionFit(
        delay_us=max(0, round(delay.delay_us)),
        jitter_us=round(delay.jitter_us),
        delay=delay,
        loss=fit_loss(stream.lost),
        reordered=reordered_share(stream),
        duplicated=_duplicated(stream),
    )


def _on_base(stream: PathStream, base_us: float) -> PathStream:
    """The same packets on a clock by which the fastest took ``base_us``."""
    shift = base_us - min(stream.arrived_us, default=0.0)
    moved = tuple(None if delay is None else delay + shift for delay in stream.delays_us)
    return stream.model_copy(update={"delays_us": moved})


def reordered_share(stream: PathStream) -> float | None:
    """Share of what arrived that came after a packet sent later (RFC 4737, type-P-reordered); None when the order is
    not known. Second copies do not count."""
    if not stream.arrivals:
        return None
    highest, late, seen = -1, 0, set()
    for number in stream.arrivals:
        if number in seen:
            continue
        seen.add(number)
        late += number < highest
        highest = max(highest, number)
    return late / len(seen)


def _duplicated(stream: PathStream) -> float | None:
    if not stream.arrivals:
        return None
    distinct = len(set(stream.arrivals))
    return (len(stream.arrivals) - distinct) / distinct
