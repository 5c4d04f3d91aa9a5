"""Every model of a link, measured by the packets that come through each kind of core, and read back."""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import struct
import time
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from harness.model.impairment import (
    ActiveQueue,
    Chance,
    DelayDistribution,
    FourStateLoss,
    Framing,
    GilbertElliottLoss,
    Impairment,
    IndependentLoss,
    Reordering,
    Slots,
)
from harness.plan.delay_distribution import ENTRIES, SCALE, table_of
from harness.plan.shaping import realised
from harness.tests.impairment_strategy import impairments
from harness.tests.wan_bench import (
    FULL_PAYLOAD,
    MTU,
    Bench,
    Notes,
    make_plan,
    nodes,
    placement,
    pool,
)
from harness.wan.placement import open_core, place_core

pytestmark = [pytest.mark.root, pytest.mark.vm]

__all__ = ["placement", "pool"]

SILENCE_S = 0.6
_ECT = 0x02
_CE = 0x03
FIRST = Impairment(delay_us=7_000, rate_bps=4_000_000, buffer_packets=50)


@pytest.fixture(scope="module")
def bench(placement: str, pool: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    plan, notes = make_plan("ctre", 11, 3), Notes()
    with nodes(plan) as netns:
        core = place_core(placement, 3, notes, tmp_path_factory.mktemp("core"), 11)  # type: ignore[arg-type]
        try:
            core.attach(plan, netns, {("s2", "s1"): FIRST})
            yield Bench(core, plan, notes)
        finally:
            core.detach()


@contextlib.contextmanager
def ends(bench: Bench) -> Iterator[tuple[socket.socket, socket.socket]]:
    with contextlib.closing(bench.endpoint("s0")) as sender, contextlib.closing(bench.endpoint("s1")) as sink:
        sink.settimeout(SILENCE_S)
        yield sender, sink


def numbers(bench: Bench, packets: int, gap_s: float = 0.0, size: int = 100) -> list[int]:
    """The numbers of the packets that arrive, in the order of arrival, of so many sent from s0 to s1."""
    with ends(bench) as (sender, sink):
        arrived: list[int] = []
        begin = time.monotonic()
        for number in range(packets):
            while gap_s and (left := begin + number * gap_s - time.monotonic()) > 0:
                arrived += _take(sink, left)
            sender.sendto(number.to_bytes(4, "big") + bytes(size - 4), sink.getsockname())
        while got := _take(sink, SILENCE_S):
            arrived += got
        return arrived


def _take(sink: socket.socket, timeout_s: float) -> list[int]:
    sink.settimeout(max(0.0001, timeout_s))
    try:
        return [int.from_bytes(sink.recv(2048)[:4], "big")]
    except TimeoutError:
        return []


EVERYTHING = [
    Impairment(delay_us=9_000, jitter_us=3_000, distribution=DelayDistribution(kind="normal"), delay_correlation=0.25),
    Impairment(
        delay_us=9_000, jitter_us=3_000, distribution=DelayDistribution(kind="custom", quantiles=(-1.0, 0.0, 3.0))
    ),
    Impairment(delay_us=9_000, jitter_us=3_000, in_order=False),
    Impairment(loss=IndependentLoss(probability=0.1, correlation=0.5), loss_marks=True),
    Impairment(loss=FourStateLoss(p13=0.01, p31=0.3, p32=0.2, p23=0.7, p14=0.001)),
    Impairment(loss=GilbertElliottLoss(good_to_bad=0.001, bad_to_good=0.125, loss_in_bad=0.9, loss_in_good=0.0005)),
    Impairment(duplicate=Chance(share=0.25, correlation=0.1)),
    Impairment(corrupt=Chance(share=0.125, correlation=0.2)),
    Impairment(delay_us=4_000, jitter_us=100, reorder=Reordering(share=0.25, correlation=0.5, gap=5)),
    Impairment(slots=Slots(min_delay_us=3_000, max_delay_us=9_000, packets=20, bytes=64_000)),
    Impairment(
        slots=Slots(delay_us=8_000, jitter_us=900, packets=3, distribution=DelayDistribution(kind="pareto")),
        delay_us=4_000,
        jitter_us=2_000,
        distribution=DelayDistribution(kind="paretonormal"),
        reorder=Reordering(share=0.5),
    ),
    Impairment(rate_bps=3_000_000, framing=Framing(overhead=40, cell=48, cell_overhead=5), buffer_packets=33),
    Impairment(rate_bps=3_000_000, framing=Framing(overhead=-4), buffer_bytes=90_000),
    Impairment(rate_bps=5_000_000, active_queue=ActiveQueue(discipline="codel", target_us=7_000, interval_us=90_000)),
    Impairment(
        rate_bps=5_000_000,
        active_queue=ActiveQueue(discipline="fq-codel", ecn=True),
        framing=Framing(overhead=10, cell=48, cell_overhead=5),
        buffer_bytes=123_456,
    ),
    Impairment(delay_us=2_000, jitter_us=1_000),
    Impairment(),
]


def test_a_link_is_from_the_start_what_was_asked(bench: Bench) -> None:
    assert bench.core.read_back()["s2", "s1"] == realised(FIRST, MTU)


def test_every_model_is_read_back_whatever_was_there_before(bench: Bench) -> None:
    """One after another and backwards on one link: what sticks in the kernel would show."""
    for impairment in EVERYTHING + EVERYTHING[::-1]:
        bench.core.shape([("s0", "s1", impairment)])
        assert bench.core.read_back()["s0", "s1"] == realised(impairment, MTU)


@settings(
    max_examples=40, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(impairment=impairments())
def test_whatever_is_asked_is_read_back(bench: Bench, impairment: Impairment) -> None:
    bench.core.shape([("s0", "s1", impairment)])
    assert bench.core.read_back()["s0", "s1"] == realised(impairment, MTU)


def test_another_process_finds_what_this_one_set_and_takes_it_back(bench: Bench) -> None:
    """A table that is set stays: a process that knows nothing of it must not leave it there."""
    mine = Impairment(
        delay_us=9_000, jitter_us=3_000, distribution=DelayDistribution(kind="custom", quantiles=(-1.5, 0.5, 2.0))
    )
    twice = Impairment(delay_us=4_000, duplicate=Chance(share=0.25))
    bench.core.shape([("s0", "s1", mine), ("s1", "s0", twice)])
    with contextlib.closing(open_core(json.loads(json.dumps(bench.core.state())))) as other:
        found = other.read_back()
        assert found["s0", "s1"].distribution == DelayDistribution(kind="custom"), "its numbers are not in the kernel"
        assert found["s1", "s0"] == twice
        assert other.read_back([mine])["s0", "s1"] == mine
        plain = Impairment(delay_us=9_000, jitter_us=3_000)
        other.shape([("s0", "s1", plain), ("s1", "s0", plain)])
        assert {other.read_back()[link] for link in (("s0", "s1"), ("s1", "s0"))} == {plain}
        eighths = statistics.quantiles(delays_ms(bench, 120), n=8)
        assert eighths[6] - eighths[0] == pytest.approx(0.75 * 6, rel=0.35)
    bench.core.shape([("s0", "s1", mine)])
    assert bench.core.read_back()["s0", "s1"] == mine, "this process believed its table to be there still"


def test_duplicates_arrive_and_end(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=2_000, duplicate=Chance(share=0.3)))
    arrived = Counter(numbers(bench, 1000, gap_s=0.0004))
    twice = sum(1 for count in arrived.values() if count == 2)
    assert len(arrived) == 1000 and max(arrived.values()) == 2
    assert 230 < twice < 370  # 300 ± 14.5; five standard deviations
    before = bench.counters("s0", "s1")
    bench.shape_all(Impairment(delay_us=2_000))
    assert Counter(numbers(bench, 100)) == Counter(range(100))
    assert bench.counters("s0", "s1").packets - before.packets == 100


def test_reordered_packets_overtake(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=10_000, reorder=Reordering(share=0.1)))
    arrived = numbers(bench, 1000, gap_s=0.001)
    assert sorted(arrived) == list(range(1000))
    early = sum(1 for before, after in pairwise(arrived) if after < before)
    assert 50 < early < 150  # each packet that skips the delay leaves one step back behind it


def test_corrupted_packets_do_not_pass_for_good_ones(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=2_000, corrupt=Chance(share=0.5)))
    before = bench.counters("s0", "s1")
    arrived = numbers(bench, 400, gap_s=0.0004)
    # A bit is turned over in each: nearly always the checksum of IP or UDP finds it, and the receiver drops it.
    assert 130 < 400 - len(arrived) < 270
    assert bench.counters("s0", "s1").packets - before.packets > 380


def test_four_state_loss_has_its_mean_and_its_bursts(bench: Bench) -> None:
    loss = FourStateLoss(p13=0.05, p31=0.25, p14=0.0)
    bench.shape_all(Impairment(delay_us=1_000, loss=loss))
    arrived = set(numbers(bench, 3000, gap_s=0.0003))
    lost = [number not in arrived for number in range(3000)]
    bursts = [len(list(run)) for gone, run in groupby(lost) if gone]
    assert sum(lost) / 3000 == pytest.approx(loss.mean, rel=0.35)
    assert statistics.fmean(bursts) == pytest.approx(loss.mean_burst, rel=0.35)


def test_gilbert_elliott_has_its_bursts(bench: Bench) -> None:
    loss = GilbertElliottLoss(good_to_bad=0.05, bad_to_good=0.25)
    bench.shape_all(Impairment(delay_us=1_000, loss=loss))
    arrived = set(numbers(bench, 3000, gap_s=0.0003))
    bursts = [len(list(run)) for gone, run in groupby(number not in arrived for number in range(3000)) if gone]
    assert statistics.fmean(bursts) == pytest.approx(loss.mean_burst, rel=0.35)


def delays_ms(bench: Bench, packets: int) -> list[float]:
    """One-way delays of single packets, each sent when the one before has arrived."""
    found = []
    with ends(bench) as (sender, sink):
        for _ in range(packets):
            started = time.time_ns()
            sender.sendto(bytes(36), sink.getsockname())
            _, ancillary, _, _ = sink.recvmsg(2048, 64)
            seconds, nanoseconds = struct.unpack("@qq", ancillary[0][2])
            found.append((seconds * 10**9 + nanoseconds - started) / 1e6)
    return found


@pytest.mark.parametrize(
    ("kind", "skew"), [("uniform", (-0.15, 0.15)), ("normal", (-0.2, 0.2)), ("pareto", (0.15, 0.6))]
)
def test_the_delay_has_the_shape_that_was_asked(bench: Bench, kind: str, skew: tuple[float, float]) -> None:
    """Bowley's skewness and a range of quantiles: a few packets that a busy host holds up do not move them."""
    distribution = DelayDistribution.model_validate({"kind": kind})
    bench.shape_all(Impairment(delay_us=12_000, jitter_us=5_000, distribution=distribution))
    found = sorted(delays_ms(bench, 180))
    eighths = statistics.quantiles(found, n=8)
    low, middle, high = eighths[0], eighths[3], eighths[6]
    assert skew[0] < (high + low - 2 * middle) / (high - low) < skew[1]
    table = [5 * entry / SCALE for entry in struct.unpack(f"={ENTRIES}h", table_of(distribution))]
    assert high - low == pytest.approx(table[ENTRIES * 7 // 8] - table[ENTRIES // 8], rel=0.25)


def test_order_is_kept_or_lost_as_asked(bench: Bench) -> None:
    jitter = Impairment(delay_us=15_000, jitter_us=8_000)
    bench.shape_all(jitter)
    kept = numbers(bench, 300, gap_s=0.0005)
    bench.shape_all(jitter.model_copy(update={"in_order": False}))
    lost = numbers(bench, 300, gap_s=0.0005)
    assert kept == sorted(kept) and len(kept) == 300
    assert sorted(lost) == list(range(300))
    assert sum(1 for before, after in pairwise(lost) if after < before) > 60


def test_slots_let_bundles_through(bench: Bench) -> None:
    slots = Slots(min_delay_us=20_000, max_delay_us=20_000, packets=10)
    bench.shape_all(Impairment(delay_us=1_000, slots=slots))
    arrivals = bench.stream("s0", "s1", 100, 100)
    gaps_ms = [(after - before) / 1e6 for before, after in pairwise(arrivals)]
    assert len(arrivals) == 100
    assert 7 <= sum(1 for gap in gaps_ms if gap > 12) <= 11  # ten bundles
    bench.shape_all(Impairment(delay_us=1_000))
    arrivals = bench.stream("s0", "s1", 100, 100)
    assert (arrivals[-1] - arrivals[0]) / 1e6 < 100, "the link is always open again"


def test_framing_counts_cells(bench: Bench) -> None:
    """100 bytes of payload are 128 of IP, 168 with the overhead, four cells of 53."""
    framing = Framing(overhead=40, cell=48, cell_overhead=5)
    bench.shape_all(Impairment(delay_us=2_000, rate_bps=1_000_000, framing=framing, buffer_packets=400))
    arrivals = bench.stream("s0", "s1", 300, 100)
    assert len(arrivals) == 300
    assert 269 * 4 * 53 * 8 / ((arrivals[-1] - arrivals[30]) / 1e9) == pytest.approx(1_000_000, rel=0.08)


def overload(bench: Bench, seconds: float, mark_as_capable: bool = False) -> tuple[list[float], int, int]:
    """Twice 4 Mbit/s of full packets: the delays in ms of those that arrive, how many were sent and are marked."""
    delays, sent, marked = [], 0, 0
    with ends(bench) as (sender, sink):
        sink.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _ECT if mark_as_capable else 0)
        begin = time.monotonic()
        gap = MTU * 8 / 8_000_000

        def receive(timeout_s: float) -> bool:
            nonlocal marked
            sink.settimeout(max(0.0001, timeout_s))
            try:
                data, ancillary, _, _ = sink.recvmsg(2048, 256)
            except TimeoutError:
                return False
            for level, kind, value in ancillary:
                if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS):
                    marked += value[0] & 3 == _CE
                elif len(value) == 16:
                    seconds_, nanoseconds = struct.unpack("@qq", value)
                    delays.append((seconds_ * 10**9 + nanoseconds - int.from_bytes(data[:8], "big")) / 1e6)
            return True

        while time.monotonic() - begin < seconds:
            while (left := begin + sent * gap - time.monotonic()) > 0:
                receive(left)
            stamp = time.time_ns().to_bytes(8, "big")
            sender.sendto(stamp + bytes(FULL_PAYLOAD - 8), sink.getsockname())
            sent += 1
        while receive(SILENCE_S):
            pass
    return delays, sent, marked


@pytest.mark.parametrize("discipline", ["codel", "fq-codel"])
def test_an_active_queue_has_the_rate_and_acts_before_it_is_full(bench: Bench, discipline: str) -> None:
    queue = ActiveQueue.model_validate({"discipline": discipline})
    bench.shape_all(Impairment(delay_us=2_000, rate_bps=4_000_000, active_queue=queue, buffer_packets=900))
    before = bench.counters("s0", "s1")
    delays, sent, _ = overload(bench, 1.2)
    after = bench.counters("s0", "s1")
    dropped = after.dropped_active - before.dropped_active
    assert dropped > 5, "a queue of 900 packets was not full"
    assert after.dropped_queue - before.dropped_queue == dropped == sent - len(delays)
    assert after.overlimits > before.overlimits
    assert after.dropped_loss == before.dropped_loss


def test_an_active_queue_has_the_rate(bench: Bench) -> None:
    queue = ActiveQueue(discipline="codel", target_us=900_000, interval_us=5_000_000)
    for rate_bps in (2_000_000, 20_000_000):
        packets = rate_bps // 20_000
        impairment = Impairment(delay_us=2_000, rate_bps=rate_bps, active_queue=queue, buffer_packets=2 * packets)
        bench.shape_all(impairment)
        arrivals = bench.stream("s0", "s1", packets, FULL_PAYLOAD)
        assert len(arrivals) == packets
        first = packets // 3
        measured = (packets - 1 - first) * MTU * 8 / ((arrivals[-1] - arrivals[first]) / 1e9)
        assert measured == pytest.approx(rate_bps, rel=0.04)


def test_an_active_queue_marks_where_it_may(bench: Bench) -> None:
    queue = ActiveQueue(discipline="codel", ecn=True)
    bench.shape_all(Impairment(delay_us=2_000, rate_bps=4_000_000, active_queue=queue, buffer_packets=900))
    before = bench.counters("s0", "s1")
    _, _, marked = overload(bench, 1.2, mark_as_capable=True)
    assert marked > 5
    assert bench.counters("s0", "s1").marked - before.marked == marked


def test_losses_are_marks_where_asked(bench: Bench) -> None:
    loss = IndependentLoss(probability=0.3)
    bench.shape_all(Impairment(delay_us=2_000, loss=loss, loss_marks=True))
    delays, sent, marked = overload(bench, 0.6, mark_as_capable=True)
    assert len(delays) == sent
    assert 0.2 < marked / sent < 0.4


def test_nothing_of_a_lab_is_left_for_the_next(
    bench: Bench,
    placement: str,
    tmp_path: Path,
) -> None:
    """Devices that double packets are no ports: they have to go all the same."""
    plan, notes = make_plan("ctrg", 9, 2), Notes()
    twice = Impairment(delay_us=3_000, duplicate=Chance(share=0.5))
    for _ in range(2):
        with nodes(plan) as netns:
            core = place_core(placement, 2, notes, tmp_path, None)  # type: ignore[arg-type]
            try:
                core.attach(plan, netns, {("s0", "s1"): twice})
                found = core.read_back()
                names = core._kernel.links()  # type: ignore[attr-defined]
            finally:
                core.detach()
        assert (found["s0", "s1"].duplicate, found["s1", "s0"].duplicate) == (twice.duplicate, None)
        assert [name for name in names if name.startswith("dup")] == ["dup0x1"]


def test_a_queue_changes_its_kind_while_packets_are_in_flight(bench: Bench) -> None:
    """Only what waits in the old queue is lost; what is in flight arrives."""
    slow = Impairment(delay_us=300_000, rate_bps=8_000_000)
    bench.shape_all(slow)
    with ends(bench) as (sender, sink):
        for number in range(50):
            sender.sendto(number.to_bytes(4, "big") + bytes(96), sink.getsockname())
        bench.core.shape([("s0", "s1", slow.model_copy(update={"active_queue": ActiveQueue(discipline="fq-codel")}))])
        arrived = []
        while got := _take(sink, SILENCE_S):
            arrived += got
    assert arrived == list(range(50))
