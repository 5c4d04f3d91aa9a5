"""Cellular links as a vehicle drives along a row of cells: fading, load of the cells, handovers, dead spots. Pure.

Each 50 ms the signal-to-noise ratio is the sum of

- the place between two masts: from ``best_db`` beside one to ``edge_db`` half way, where it is handed over;
- shadowing by houses and hills: a Gauss-Markov process in the distance driven, 8 dB deep and forgotten after 50 m
  (Gudmundson, Correlation model for shadow fading in mobile radio systems, Electronics Letters 1991);
- what is left of fast fading after 50 ms: 2 dB (own choice).

From it comes the rate by the attenuated and truncated Shannon bound of 3GPP TR 36.942, annex A: of the bandwidth, 0.6
log2(1 + SNR) but at most 4.4 bit/s/Hz down, and 0.4 and 2.0 up, nothing below -10 dB. The cell gives a share of that,
since others are in it as well; the share wanders as an Ornstein-Uhlenbeck process in its logarithm (own choice).

A handover stops the link for some tens of milliseconds, in which packets wait (the old mast forwards them); one in some
fails, and then the link is gone until the device has found another cell. In a dead spot all is lost. Delay grows where
the signal is weak, by the repetitions of the radio layer, 8 ms each in LTE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.model.trace import Course
from harness.plan.prng import Prng
from harness.plan.trace_columns import CourseBuilder

STEP_US = 50_000
_STEP_S = STEP_US / 1e6
_SHADOW_DB = 8.0
_SHADOW_METRES = 50.0
_FAST_DB = 2.0
_LOWEST_DB = -10.0


@dataclass(frozen=True)
class Radio:
    """A network and a journey. Rates follow from the bandwidths in Hz; times in seconds, distances in metres."""

    down_hz: float
    up_hz: float
    best_db: float
    edge_db: float
    down_share: float
    """Median share of a cell that this device gets."""
    up_share: float
    share_sigma: float
    speed_mps: float
    cell_m: float
    delay_ms: float
    repeat_ms: float
    """What one repetition of the radio layer adds to the delay."""
    jitter_ms: float
    handover_ms: tuple[float, float]
    failure: float
    """Share of handovers that fail."""
    failure_s: tuple[float, float]
    down_buffer: int
    up_buffer: int
    loss: float = 0.0
    down_most: float = 4.4
    """bit/s/Hz"""
    up_most: float = 2.0
    dead_every_m: float | None = None
    """Mean distance from one dead spot (a tunnel) to the next."""
    dead_m: tuple[float, float] = (0.0, 0.0)
    dead_most_m: float = 0.0


@dataclass
class _Interruption:
    """What stops the link now, and until which step."""

    until: int = 0
    lost: bool = False


def journey(radio: Radio, prng: Prng, duration_us: int) -> tuple[Course, Course]:
    """Both directions, ``down`` and ``up``, for the duration."""
    steps = max(1, duration_us // STEP_US)
    down = CourseBuilder(STEP_US, radio.down_buffer)
    up = CourseBuilder(STEP_US, radio.up_buffer)
    shadow = _Wander(prng.stream("shadow"), _SHADOW_DB, radio.speed_mps * _STEP_S / _SHADOW_METRES)
    shares = [
        _Wander(prng.stream(f"share {name}"), radio.share_sigma, _STEP_S / seconds)
        for name, seconds in (("down", 4.0), ("up", 6.0))
    ]
    fast = prng.stream("fast")
    masts, spots = prng.stream("masts"), prng.stream("dead spots")
    handovers = prng.stream("handovers")
    position, edge, cell = 0.0, _cell_length(radio, masts) / 2, _cell_length(radio, masts)
    tower = 0.0
    dead_from, dead_to = _next_dead(radio, spots, 0.0)
    stopped = _Interruption()
    for step in range(steps):
        if position >= edge:
            stopped = _hand_over(radio, handovers, step)
            tower = edge + cell / 2
            edge, cell = edge + cell, _cell_length(radio, masts)
        while position > dead_to:
            dead_from, dead_to = _next_dead(radio, spots, dead_to)
        span = max(edge - tower, 1.0)
        near = min(abs(position - tower) / span, 1.0)
        signal_db = radio.best_db + (radio.edge_db - radio.best_db) * near + shadow.next()
        down_db, up_db = (signal_db + fast.normal(0.0, _FAST_DB) for _ in range(2))
        repeats = min(4.0, max(0.0, (6.0 - signal_db) / 6.0))
        delay_ms = radio.delay_ms + radio.repeat_ms * repeats
        jitter_ms = radio.jitter_ms * (1.0 + repeats / 2)
        loss = radio.loss * (1.0 + repeats)
        dead = dead_from <= position <= dead_to
        waits = step < stopped.until and not stopped.lost
        lost = dead or (step < stopped.until and stopped.lost)
        for builder, share, hertz, median, snr_db, factor, most in (
            (down, shares[0], radio.down_hz, radio.down_share, down_db, 0.6, radio.down_most),
            (up, shares[1], radio.up_hz, radio.up_share, up_db, 0.4, radio.up_most),
        ):
            part = min(1.0, median * math.exp(share.next()))
            rate = 0.0 if waits else hertz * part * _efficiency(snr_db, factor, most)
            builder.add(max(rate, 0.0 if waits else 8_000.0), delay_ms, jitter_ms, loss, blocked=lost)
        position += radio.speed_mps * _STEP_S
    return down.course(), up.course()


class _Wander:
    """A stationary Gauss-Markov process, one value a step; ``forgetting`` is the step over its correlation length."""

    def __init__(self, prng: Prng, deviation: float, forgetting: float) -> None:
        self._prng = prng
        self._keep = math.exp(-forgetting)
        self._fresh = deviation * math.sqrt(1.0 - self._keep**2)
        self._value = prng.normal(0.0, deviation)

    def next(self) -> float:
        value = self._value
        self._value = self._keep * value + self._prng.normal(0.0, self._fresh)
        return value


def _efficiency(snr_db: float, factor: float, most: float) -> float:
    """bit/s/Hz that the link adaptation makes of a signal."""
    if snr_db < _LOWEST_DB:
        return 0.0
    return min(most, factor * math.log2(1.0 + 10.0 ** (snr_db / 10.0)))


def _cell_length(radio: Radio, prng: Prng) -> float:
    return radio.cell_m * prng.uniform(0.6, 1.4)


def _next_dead(radio: Radio, prng: Prng, after_m: float) -> tuple[float, float]:
    if radio.dead_every_m is None:
        return math.inf, math.inf
    begin = after_m + prng.exponential(radio.dead_every_m)
    return begin, begin + min(prng.lognormal(*radio.dead_m), radio.dead_most_m)


def _hand_over(radio: Radio, prng: Prng, step: int) -> _Interruption:
    if prng.uniform() < radio.failure:
        return _Interruption(step + max(1, round(prng.uniform(*radio.failure_s) / _STEP_S)), lost=True)
    return _Interruption(step + max(1, round(prng.uniform(*radio.handover_ms) / 1000 / _STEP_S)))
