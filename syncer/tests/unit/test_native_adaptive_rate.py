"""The adaptive law against a simulated bottleneck: a queue, a delay and a die, in virtual time."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from syncer.native._libudt import AdaptiveRate, LossTracker

TICK_US = 10_000


@dataclass
class Bottleneck:
    """A link of ``capacity`` packets a second behind a drop-tail queue of ``queue`` packets."""

    capacity: float
    rtt_us: int
    queue: int
    loss: float = 0.0
    jitter_us: int = 0
    now_us: int = 0
    backlog: float = 0.0
    sent: float = 0.0
    arrived: float = 0.0
    dropped: float = 0.0
    die: random.Random = field(default_factory=lambda: random.Random(1))
    reports: deque[tuple[int, int, float, int]] = field(default_factory=deque)

    def run(self, law: AdaptiveRate, seconds: float, demand: float = float("inf")) -> float:
        """Packets a second that arrived on average."""
        before = self.arrived
        for _ in range(int(seconds * 1e6 / TICK_US)):
            self._tick(law, demand)
        return (self.arrived - before) / seconds

    def _tick(self, law: AdaptiveRate, demand: float) -> None:
        self.now_us += TICK_US
        offered = min(law.rate, demand) * TICK_US / 1e6
        self.sent += offered
        self.backlog += offered
        if self.backlog > self.queue:
            self.dropped += self.backlog - self.queue
            self.backlog = self.queue
        served = min(self.backlog, self.capacity * TICK_US / 1e6)
        self.backlog -= served
        survivors = served * (1 - self.loss * self.die.uniform(0.5, 1.5))
        self.arrived += survivors
        rtt = self.rtt_us + int(self.backlog / self.capacity * 1e6) + self.die.randint(0, self.jitter_us)
        self.reports.append((self.now_us + rtt, self.now_us, self.arrived, rtt))
        while self.reports and self.reports[0][0] <= self.now_us:
            _, receiver_us, arrived, rtt_us = self.reports.popleft()
            law.on_feedback(self.now_us, receiver_us, int(self.sent), int(arrived), rtt_us)


def law() -> AdaptiveRate:
    return AdaptiveRate(25.0, 1e9)


@pytest.mark.parametrize("loss", [0.0, 0.001, 0.01, 0.05])
@pytest.mark.parametrize(("mbit", "rtt_ms"), [(1, 200), (5, 60), (100, 80), (100, 310), (20, 600)])
def test_fills_the_link_whatever_random_loss(loss: float, mbit: int, rtt_ms: int) -> None:
    capacity = mbit * 1e6 / 12112
    link = Bottleneck(capacity, rtt_ms * 1000, queue=max(40, int(capacity * 0.1)), loss=loss)
    rate = law()
    link.run(rate, 30)
    assert link.run(rate, 20) > 0.88 * capacity * (1 - loss)


def test_keeps_a_deep_queue_short() -> None:
    link = Bottleneck(capacity=400, rtt_us=60_000, queue=2000)
    rate = law()
    link.run(rate, 20)
    worst = 0.0
    for _ in range(200):
        link.run(rate, 0.1)
        worst = max(worst, link.backlog / link.capacity)
    assert worst < 0.15


def test_backs_off_when_the_link_slows_down() -> None:
    link = Bottleneck(capacity=4000, rtt_us=100_000, queue=1000)
    rate = law()
    link.run(rate, 10)
    link.capacity = 400
    link.run(rate, 15)
    assert rate.rate < 600
    assert link.backlog / link.capacity < 0.3
    assert link.run(rate, 10) > 0.85 * 400


def test_finds_new_room_when_the_link_gets_faster() -> None:
    link = Bottleneck(capacity=400, rtt_us=100_000, queue=100)
    rate = law()
    link.run(rate, 10)
    link.capacity = 4000
    link.queue = 1000
    link.run(rate, 10)
    assert link.run(rate, 5) > 0.85 * 4000


def test_jitter_is_no_queue() -> None:
    link = Bottleneck(capacity=4000, rtt_us=60_000, queue=800, jitter_us=20_000)
    rate = law()
    link.run(rate, 10)
    assert link.run(rate, 10) > 0.85 * 4000


def test_little_to_send_does_not_raise_the_rate() -> None:
    link = Bottleneck(capacity=1000, rtt_us=60_000, queue=200)
    rate = law()
    link.run(rate, 20, demand=30)
    assert rate.rate < 1500


def test_stays_within_its_limits() -> None:
    rate = AdaptiveRate(100.0, 500.0)
    link = Bottleneck(capacity=4000, rtt_us=60_000, queue=800)
    link.run(rate, 10)
    assert rate.rate <= 500
    link.capacity = 10
    link.run(rate, 10)
    assert rate.rate >= 100


def test_comes_back_after_an_outage() -> None:
    link = Bottleneck(capacity=2000, rtt_us=60_000, queue=400)
    rate = law()
    link.run(rate, 10)
    link.now_us += 8_000_000
    link.sent += 4000
    link.reports.clear()
    link.run(rate, 10)
    assert link.run(rate, 5) > 0.85 * 2000


def test_missing_packets_are_asked_for_until_they_come() -> None:
    tracker = LossTracker()
    for sequence in (10, 11, 15, 17):
        assert tracker.arrived(sequence, 0)
    assert tracker.missing_packets == 4
    assert tracker.overdue(50_000, 100_000, 100) == []
    assert tracker.overdue(150_000, 100_000, 100) == [12 | 1 << 31, 14, 16]
    assert tracker.overdue(160_000, 100_000, 100) == []
    assert tracker.arrived(13, 170_000)
    assert not tracker.arrived(13, 170_000)
    assert tracker.overdue(260_000, 100_000, 100) == [12, 14, 16]
    assert tracker.overdue(400_000, 100_000, 2) == [12]
    for sequence in (12, 14, 16):
        assert tracker.arrived(sequence, 500_000)
    assert tracker.missing_packets == 0
    assert tracker.overdue(900_000, 100_000, 100) == []


def test_sequence_numbers_wrap() -> None:
    tracker = LossTracker()
    last = 2**31 - 1
    assert tracker.arrived(last - 1, 0)
    assert tracker.arrived(1, 0)
    assert tracker.missing_packets == 2
    assert tracker.arrived(last, 0)
    assert tracker.overdue(1_000_000, 0, 10) == [0]
    assert tracker.arrived(0, 0)
    assert tracker.missing_packets == 0
