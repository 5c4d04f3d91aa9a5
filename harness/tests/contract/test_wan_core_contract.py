"""What every WAN core must do, measured through it: the same cases on each placement that this host can run."""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import time

import pytest

from harness.errors import ShapingError
from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss
from harness.plan.certificate import certify
from harness.plan.prober_protocol import Observation, observations, prober_plan
from harness.plan.probing import Session, plan_sessions
from harness.plan.shaping import realised
from harness.tests.wan_bench import (
    CLEAN,
    FULL_PAYLOAD,
    MTU,
    PORT,
    QUIET_S,
    Bench,
    bench,
    placement,
    pool,
    receive,
)
from harness.wan.local_transport import in_netns
from harness.wan.native_program import compiled

pytestmark = [pytest.mark.root, pytest.mark.vm]

__all__ = ["bench", "placement", "pool"]


def test_delay_is_as_asked(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=25_000))
    assert bench.one_way_ms("s0", "s1") == pytest.approx(25, abs=1.5)


def test_directions_differ(bench: Bench) -> None:
    bench.core.shape([("s0", "s1", Impairment(delay_us=10_000)), ("s1", "s0", Impairment(delay_us=60_000))])
    assert bench.one_way_ms("s0", "s1") == pytest.approx(10, abs=1.5)
    assert bench.one_way_ms("s1", "s0") == pytest.approx(60, abs=1.5)


def test_probers_and_certificate_agree_with_the_plan(bench: Bench) -> None:
    impairment = Impairment(delay_us=15_000, rate_bps=10_000_000, buffer_bytes=60_000)
    bench.shape_all(impairment)
    wanted = {(link.source, link.destination): impairment for link in bench.plan.topology.links}
    mtu = dict.fromkeys(wanted, MTU)
    (session,) = plan_sessions(wanted, list(wanted), "quick", mtu)
    seen = run_probers(bench, session)
    for link in wanted:
        own = [one for one in seen if one.stream.link == link]
        made = certify(own, (), impairment, impairment, depth="quick", mtu=MTU)
        assert "loss" not in made.reason and made.sent == made.received == 100
        assert made.delay_quantiles_us[0] == pytest.approx(15_000, abs=2000)
        slower = Impairment(delay_us=60_000)
        assert certify(own, (), slower, slower, depth="quick", mtu=MTU).reason.startswith("one-way delay")


def run_probers(bench: Bench, session: Session) -> list[Observation]:
    program = compiled("native/prober.c")
    start_ns = time.monotonic_ns() + 500_000_000
    reach = {site.site: str(site.wan_address) for site in bench.plan.sites}
    probers = {}
    for site in bench.plan.sites:
        listen = (str(site.wan_address), PORT)
        text = prober_plan(session, site.site, token=7, start_ns=start_ns, listen=listen, reach=reach)
        command = ["ip", "netns", "exec", site.netns, str(program)]
        prober = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert prober.stdin is not None
        prober.stdin.write(text)
        prober.stdin.close()
        prober.stdin = None
        probers[site.site] = prober
    return observations(session, {site: prober.communicate(timeout=30)[0] for site, prober in probers.items()})


def test_independent_loss_is_counted(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=1000, loss=IndependentLoss(probability=0.2)))
    before = bench.counters("s0", "s1")
    arrived = len(bench.stream("s0", "s1", 2000, 100, gap_s=0.0003))
    after = bench.counters("s0", "s1")
    assert 300 < 2000 - arrived < 500  # 400 ± 18; five and a half standard deviations
    assert after.dropped_loss - before.dropped_loss == 2000 - arrived
    assert after.packets - before.packets == arrived
    assert after.dropped_queue == before.dropped_queue


def test_burst_loss_has_its_mean_and_comes_in_bursts(bench: Bench) -> None:
    loss = GilbertElliottLoss(good_to_bad=0.02, bad_to_good=0.2)
    bench.shape_all(Impairment(delay_us=1000, loss=loss))
    before = bench.counters("s0", "s1")
    arrived = len(bench.stream("s0", "s1", 4000, 100, gap_s=0.0003))
    assert 0.05 < 1 - arrived / 4000 < 0.14  # 9.1%; bursts of five packets
    assert bench.counters("s0", "s1").dropped_loss - before.dropped_loss == 4000 - arrived


def test_rate_counts_ip_bytes(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=5000, rate_bps=8_000_000, buffer_bytes=300_000))
    arrivals = bench.stream("s0", "s1", 200, FULL_PAYLOAD)
    assert len(arrivals) == 200
    assert 169 * MTU * 8 / ((arrivals[-1] - arrivals[30]) / 1e9) == pytest.approx(8_000_000, rel=0.05)


def test_small_packets_do_not_overtake_the_rate(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=5000, rate_bps=1_000_000, buffer_bytes=600 * MTU))
    arrivals = bench.stream("s0", "s1", 600, 100)
    assert len(arrivals) == 600
    assert 569 * 128 * 8 / ((arrivals[-1] - arrivals[30]) / 1e9) == pytest.approx(1_000_000, rel=0.1)


def test_buffer_depth_is_apart_from_what_is_in_flight(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=50_000, rate_bps=2_000_000, buffer_bytes=20 * MTU))
    before = bench.counters("s0", "s1")
    arrived = len(bench.stream("s0", "s1", 60, FULL_PAYLOAD))
    after = bench.counters("s0", "s1")
    # 20 waiting, one being sent, and what was sent while the burst came in.
    assert 21 <= arrived <= 26
    assert after.dropped_queue - before.dropped_queue == 60 - arrived
    assert after.dropped_loss == before.dropped_loss


def test_jitter_spreads_and_keeps_order(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=30_000, jitter_us=8000))
    with bench.endpoint("s0") as sender, bench.endpoint("s1") as sink:
        sink.settimeout(QUIET_S)
        for number in range(400):
            sender.sendto(number.to_bytes(2, "big"), sink.getsockname())
        numbers = [int.from_bytes(sink.recv(16), "big") for _ in range(400)]
        delays = []
        for _ in range(60):
            started = time.time_ns()
            sender.sendto(b"x", sink.getsockname())
            delays += [(arrival - started) / 1e6 for arrival in receive(sink, QUIET_S)]
    assert numbers == sorted(numbers)
    assert statistics.fmean(delays) == pytest.approx(30, abs=3)
    assert 3 < statistics.pstdev(delays) < 7  # uniform over 16 ms: 4.6


def test_blocked_link_passes_nothing_and_opens_again(bench: Bench) -> None:
    bench.shape_all(CLEAN)
    bench.core.shape([("s0", "s1", CLEAN.model_copy(update={"blocked": True}))])
    assert bench.stream("s0", "s1", 20, 100) == []
    assert len(bench.stream("s1", "s0", 20, 100)) == 20
    bench.core.shape([("s0", "s1", CLEAN)])
    assert len(bench.stream("s0", "s1", 20, 100)) == 20


def test_a_change_leaves_nothing_of_before(bench: Bench) -> None:
    everything = Impairment(
        delay_us=40_000,
        jitter_us=3000,
        loss=GilbertElliottLoss(good_to_bad=0.3, bad_to_good=0.3, loss_in_good=0.1),
        rate_bps=1_000_000,
        buffer_bytes=30_000,
    )
    bench.core.shape([("s0", "s1", everything)])
    assert bench.core.read_back()["s0", "s1"] == realised(everything, MTU)
    bench.core.shape([("s0", "s1", CLEAN)])
    assert bench.core.read_back()["s0", "s1"] == CLEAN
    assert len(bench.stream("s0", "s1", 200, FULL_PAYLOAD)) == 200
    assert bench.one_way_ms("s0", "s1") == pytest.approx(20, abs=1.5)


@pytest.mark.parametrize(
    "impairment",
    [
        Impairment(),
        Impairment(delay_us=1),
        Impairment(delay_us=700),
        Impairment(delay_us=650_000, rate_bps=20_000, loss=IndependentLoss(probability=0.02)),
        Impairment(delay_us=270_000, rate_bps=40_000_000_000, buffer_bytes=1_000_000),
        Impairment(loss=GilbertElliottLoss(good_to_bad=0.001, bad_to_good=0.125, loss_in_bad=0.9, loss_in_good=0.0005)),
        Impairment(delay_us=50_000, jitter_us=10_000, blocked=True),
    ],
)
def test_what_is_read_back_is_what_was_asked(bench: Bench, impairment: Impairment) -> None:
    bench.core.shape([("s2", "s0", impairment)])
    assert bench.core.read_back()["s2", "s0"] == realised(impairment, MTU)


def test_unknown_link_and_impossible_impairment_are_refused(bench: Bench) -> None:
    with pytest.raises(ShapingError, match="no link s0>mars"):
        bench.core.shape([("s0", "mars", CLEAN)])
    with pytest.raises(ShapingError, match="needs a rate"):
        bench.core.shape([("s0", "s1", Impairment(buffer_bytes=1000))])


def test_packets_on_the_wan_are_one_mtu(bench: Bench) -> None:
    bench.shape_all(Impairment(delay_us=1000))
    before = bench.counters("s0", "s1")
    send_by_tcp(bench, 400_000)
    after = bench.counters("s0", "s1")
    average = (after.bytes - before.bytes) / (after.packets - before.packets)
    assert average <= MTU + 14
    assert after.bytes - before.bytes > 400_000


def send_by_tcp(bench: Bench, size: int) -> None:
    with in_netns(bench.netns["s1"]):
        listener = socket.create_server((str(bench.plan.site("s1").wan_address), PORT))
    with in_netns(bench.netns["s0"]):
        client = socket.create_connection((str(bench.plan.site("s1").wan_address), PORT), timeout=10)
    server, _ = listener.accept()
    server.settimeout(10)
    with listener, client, server:
        client.setblocking(False)
        sent = got = 0
        while got < size:
            with contextlib.suppress(BlockingIOError):
                sent += client.send(bytes(min(65536, size - sent))) if sent < size else 0
            got += len(server.recv(1 << 20))
