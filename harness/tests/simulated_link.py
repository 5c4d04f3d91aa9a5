"""Streams over links of known truth, without a link: what probers would have observed. For tests of the certificate."""

from __future__ import annotations

import random
from collections.abc import Iterator

from harness.model.impairment import FourStateLoss, GilbertElliottLoss, Impairment, IndependentLoss
from harness.plan.delay_law import serialisation_us, shape_quantiles
from harness.plan.intervals import quantile
from harness.plan.prober_protocol import Observation
from harness.plan.probing import HEADERS_BYTES, Stream


def losses(impairment: Impairment, dice: random.Random) -> Iterator[bool]:
    """For each packet, whether it is lost; without end."""
    loss = impairment.loss
    if impairment.blocked or loss is None:
        while True:
            yield impairment.blocked
    if isinstance(loss, IndependentLoss):
        while True:
            yield dice.random() < loss.probability
    if isinstance(loss, GilbertElliottLoss):
        bad = dice.random() < loss.bad_share
        while True:
            yield dice.random() < (loss.loss_in_bad if bad else loss.loss_in_good)
            bad = dice.random() >= loss.bad_to_good if bad else dice.random() < loss.good_to_bad
    assert isinstance(loss, FourStateLoss)
    (state,) = dice.choices((1, 2, 3, 4), loss.state_shares)
    while True:
        yield state in (3, 4)
        draw = dice.random()
        if state == 1:
            state = 3 if draw < loss.p13 else 4 if draw < loss.p13 + loss.p14 else 1
        elif state == 2:
            state = 3 if draw < loss.p23 else 2
        elif state == 3:
            state = 1 if draw < loss.p31 else 2 if draw < loss.p31 + loss.p32 else 3
        else:
            state = 1


def observe(stream: Stream, link: Impairment, dice: random.Random, back: Impairment | None = None) -> Observation:
    """The stream over ``link``, which has no queue; echoes come over ``back``."""
    fate, fate_back = losses(link, dice), losses(back or link, dice)
    sent, arrivals, rtts = [], [], []
    latest = 0.0
    for number in range(stream.packets):
        at = stream.first_us + number * stream.interval_ns / 1000
        sent.append(at)
        if next(fate):
            continue
        delay = _delay(link, stream, dice)
        if link.in_order:
            delay = max(delay, latest - at)
        latest = at + delay
        arrivals.append((number, at + delay))
        if link.duplicate is not None and dice.random() < link.duplicate.share:
            arrivals.append((number, at + delay + 1))
        if stream.echoes and not next(fate_back):
            rtts.append(delay + _delay(back or link, stream, dice))
    arrivals.sort(key=lambda arrival: arrival[1])
    return Observation(stream=stream, sent_us=tuple(sent), arrivals=tuple(arrivals), rtt_us=tuple(rtts))


def observe_bottleneck(stream: Stream, link: Impairment, mtu: int, depth: int, dice: random.Random) -> Observation:
    """The stream through a drop-tail queue of ``depth`` packets besides the one being sent."""
    each_us = serialisation_us(link, mtu)
    arrivals: list[tuple[int, float]] = []
    leaves: list[float] = []
    sent = []
    for number in range(stream.packets):
        at = stream.first_us + number * stream.interval_ns / 1000
        sent.append(at)
        leaves = [time for time in leaves if time > at]
        if len(leaves) > depth:
            continue
        leaves.append((leaves[-1] if leaves else at) + each_us)
        arrivals.append((number, leaves[-1] + link.delay_us + dice.uniform(0, 30)))
    return Observation(stream=stream, sent_us=tuple(sent), arrivals=tuple(arrivals), rtt_us=())


def _delay(link: Impairment, stream: Stream, dice: random.Random) -> float:
    variation = link.jitter_us * quantile(shape_quantiles(link.distribution), dice.random()) if link.jitter_us else 0.0
    sending = serialisation_us(link, stream.payload_bytes + HEADERS_BYTES)
    return max(0.0, link.delay_us + variation) + sending + dice.uniform(0, 20)
