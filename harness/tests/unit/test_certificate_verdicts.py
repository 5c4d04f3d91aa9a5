"""Honest links pass, wrong links are told by the quantity that is wrong: on simulated links of known truth."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.impairment import (
    ActiveQueue,
    Chance,
    DelayDistribution,
    GilbertElliottLoss,
    Impairment,
    IndependentLoss,
    Reordering,
    Slots,
)
from harness.model.measurement import Depth, LinkCertificate, Quantity, QuantityName
from harness.model.verdict import Verdict
from harness.plan.certificate import certify, probe_again
from harness.plan.judge_loss import expected_loss
from harness.plan.prober_protocol import Observation
from harness.plan.probing import plan_sessions, saturation
from harness.plan.shaping import buffer_packets
from harness.tests.simulated_link import observe, observe_bottleneck

LINK = ("a", "b")
BACK = ("b", "a")
MTU = 1500
CLEAN = Impairment(delay_us=40_000, rate_bps=100_000_000)
BURSTS = GilbertElliottLoss(good_to_bad=0.01, bad_to_good=0.25)
JITTER = Impairment(delay_us=40_000, jitter_us=5_000)
NORMAL = JITTER.model_copy(update={"distribution": DelayDistribution(kind="normal")})


def measure(
    asked: Impairment, real: Impairment, *, depth: Depth = "quick", back: Impairment = CLEAN, seed: int = 1
) -> LinkCertificate:
    """Of the link a>b that was asked to be one thing and is another."""
    dice = random.Random(seed)
    wanted = {LINK: asked, BACK: back}
    seen: dict[tuple[str, str], list[Observation]] = {LINK: [], BACK: []}
    for session in plan_sessions(wanted, [LINK, BACK], depth, dict.fromkeys(wanted, MTU)):
        for stream in session.streams:
            if stream.kind == "noise":
                continue
            ways = (real, back) if stream.link == LINK else (back, real)
            if stream.kind in ("idle", "saturating"):
                one = observe_bottleneck(stream, ways[0], MTU, buffer_packets(ways[0], MTU), dice)
            else:
                one = observe(stream, ways[0], dice, ways[1])
            seen[stream.link].append(one)
    return certify(seen[LINK], seen[BACK], asked, back, depth=depth, mtu=MTU)


def of(certificate: LinkCertificate, name: QuantityName) -> Quantity:
    quantity = certificate.quantity(name)
    assert quantity is not None, certificate
    return quantity


def wrong(certificate: LinkCertificate) -> set[str]:
    return {quantity.name for quantity in certificate.quantities if quantity.verdict is Verdict.INVALID}


HONEST = {
    "clean": CLEAN,
    "unlimited": Impairment(delay_us=100),
    "lossy": CLEAN.model_copy(update={"loss": IndependentLoss(probability=0.05)}),
    "bursts": CLEAN.model_copy(update={"loss": BURSTS}),
    "jitter": JITTER,
    "normal jitter": NORMAL,
    "pareto jitter": JITTER.model_copy(update={"distribution": DelayDistribution(kind="pareto")}),
    "jitter wider than the delay": Impairment(delay_us=3_000, jitter_us=5_000),
    "twice": CLEAN.model_copy(update={"duplicate": Chance(share=0.05)}),
    "GPRS": Impairment(delay_us=300_000, rate_bps=20_000),
    "GEO": Impairment(delay_us=300_000, rate_bps=5_000_000),
    "blocked": CLEAN.model_copy(update={"blocked": True}),
    "all lost": CLEAN.model_copy(update={"loss": IndependentLoss(probability=1.0)}),
}


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("depth", ["quick", "full"])
def test_honest_links_fail_a_round_only_by_chance(name: str, depth: Depth) -> None:
    tries = 8 if depth == "quick" else 2
    found = [measure(HONEST[name], HONEST[name], depth=depth, seed=seed) for seed in range(tries)]
    assert sum(one.verdict is Verdict.INVALID for one in found) <= 1, [one.reason for one in found]


@pytest.mark.parametrize(
    ("asked", "real", "depth", "told"),
    [
        (CLEAN, CLEAN.model_copy(update={"delay_us": 43_000}), "quick", {"one-way delay", "rtt"}),
        (CLEAN, CLEAN.model_copy(update={"delay_us": 40_700}), "full", {"one-way delay"}),
        (CLEAN, JITTER.model_copy(update={"rate_bps": 100_000_000}), "full", {"jitter"}),
        (JITTER, JITTER.model_copy(update={"jitter_us": 9_000}), "full", {"jitter", "delay distribution"}),
        (NORMAL, JITTER.model_copy(update={"jitter_us": 13_000}), "full", {"jitter", "delay distribution"}),
        (CLEAN, CLEAN.model_copy(update={"loss": IndependentLoss(probability=0.05)}), "quick", {"loss"}),
        (HONEST["lossy"], CLEAN, "quick", {"loss"}),
        (HONEST["bursts"], HONEST["lossy"], "full", {"burst"}),
        (CLEAN, HONEST["twice"], "quick", {"duplication"}),
        (HONEST["twice"], CLEAN, "full", {"duplication"}),
        (CLEAN, CLEAN.model_copy(update={"rate_bps": 95_000_000}), "full", {"rate"}),
        (
            CLEAN.model_copy(update={"rate_bps": 10_000_000, "buffer_bytes": 100_000}),
            CLEAN.model_copy(update={"rate_bps": 10_000_000, "buffer_bytes": 130_000}),
            "full",
            {"buffer"},
        ),
        (HONEST["blocked"], CLEAN, "quick", {"loss"}),
        (CLEAN, HONEST["blocked"], "quick", {"loss", "one-way delay", "rtt"}),
    ],
)
def test_a_wrong_link_is_told_by_what_is_wrong(
    asked: Impairment, real: Impairment, depth: Depth, told: set[str]
) -> None:
    for seed in range(3):
        certificate = measure(asked, real, depth=depth, seed=seed)
        assert told <= wrong(certificate), certificate.reason
        assert certificate.verdict is Verdict.INVALID
        assert probe_again(certificate, 2)
        assert not probe_again(certificate, 3)


def test_a_sample_that_shows_nothing_does_not_pass_a_full_measurement() -> None:
    rare = CLEAN.model_copy(update={"loss": IndependentLoss(probability=0.0001)})
    full = measure(rare, rare, depth="full")
    assert (full.verdict, full.verdict_word) == (None, "UNDECIDED")
    assert "loss" in full.undecided
    assert of(full, "loss").verdict is None and "not precise enough" in of(full, "loss").reason
    assert of(full, "one-way delay").verdict is Verdict.PASS
    assert probe_again(full, 0)
    assert not probe_again(full.model_copy(update={"rounds": 3}), 0)
    quick = measure(rare, rare)
    assert quick.verdict is Verdict.PASS and "loss" in quick.undecided
    assert not probe_again(quick, 0)


def test_a_rate_that_cannot_be_fed_is_undecided() -> None:
    fast = CLEAN.model_copy(update={"rate_bps": 1_000_000_000})
    certificate = measure(fast, fast, depth="full")
    assert certificate.verdict is None
    assert certificate.undecided == ("rate",)


def test_a_round_that_decides_nothing_is_no_failed_one() -> None:
    wrong_link = measure(CLEAN, CLEAN.model_copy(update={"delay_us": 43_000}), depth="full")
    late = wrong_link.model_copy(update={"rounds": 4})
    assert probe_again(late, 2)
    assert not probe_again(late, 3)


def test_a_few_late_packets_do_not_condemn_a_link() -> None:
    dice = random.Random(3)
    wanted = {LINK: CLEAN, BACK: CLEAN}
    (session,) = plan_sessions(wanted, [LINK], "quick", dict.fromkeys(wanted, MTU))
    honest = observe(session.streams[1], CLEAN, dice)
    late = tuple((number, at + (30_000 if number % 12 == 0 else 0)) for number, at in honest.arrivals)
    held = Observation(stream=honest.stream, sent_us=honest.sent_us, arrivals=late, rtt_us=honest.rtt_us)
    assert certify([held], (), CLEAN, CLEAN, depth="quick", mtu=MTU).verdict is Verdict.PASS


def test_without_a_common_clock_the_way_there_and_back_is_judged_alone() -> None:
    wanted = {LINK: CLEAN, BACK: CLEAN}
    (session,) = plan_sessions(wanted, [LINK], "quick", dict.fromkeys(wanted, MTU))
    seen = observe(session.streams[1], CLEAN, random.Random(1))
    foreign = Observation(
        stream=seen.stream,
        sent_us=seen.sent_us,
        arrivals=tuple((number, at + 5e9) for number, at in seen.arrivals),
        rtt_us=seen.rtt_us,
        common_clock=False,
    )
    certificate = certify([foreign], (), CLEAN, CLEAN, depth="quick", mtu=MTU)
    assert (certificate.verdict, of(certificate, "one-way delay").verdict) == (Verdict.PASS, None)
    assert of(certificate, "rtt").verdict is Verdict.PASS
    assert certificate.delay_quantiles_us == ()


def test_the_rtt_of_a_pair_with_jitter_is_the_sum_of_both_ways() -> None:
    certificate = measure(JITTER, JITTER, back=CLEAN, depth="full")
    rtt = of(certificate, "rtt")
    assert rtt.verdict is Verdict.PASS
    assert rtt.measured == pytest.approx(80_000, abs=700)


def test_rate_and_buffer_come_out_as_they_are() -> None:
    link = Impairment(delay_us=20_000, rate_bps=10_000_000, buffer_bytes=120_000)
    certificate = measure(link, link, depth="full")
    assert of(certificate, "rate").measured == pytest.approx(10_000_000, rel=0.003)
    assert of(certificate, "buffer").measured == pytest.approx(120_000, rel=0.05)


def test_what_has_no_law_gets_no_verdict_and_a_reason() -> None:
    slotted = CLEAN.model_copy(update={"slots": Slots(min_delay_us=1_000, max_delay_us=5_000)})
    certificate = measure(slotted, CLEAN)
    assert of(certificate, "one-way delay").verdict is None
    assert "slots" in of(certificate, "one-way delay").reason
    managed = CLEAN.model_copy(update={"active_queue": ActiveQueue(discipline="fq-codel")})
    assert "active queue" in of(measure(managed, CLEAN, depth="full"), "buffer").reason


def test_packets_that_skip_the_delay_are_the_reordered_ones() -> None:
    skipping = CLEAN.model_copy(update={"reorder": Reordering(share=0.25)})
    wanted = {LINK: skipping, BACK: CLEAN}
    (session,) = plan_sessions(wanted, [LINK], "quick", dict.fromkeys(wanted, MTU))
    honest = observe(session.streams[1], CLEAN, random.Random(1))
    arrivals = tuple((number, at - (39_000 if number % 4 == 0 else 0)) for number, at in honest.arrivals)
    ordered = tuple(sorted(arrivals, key=lambda arrival: arrival[1]))
    seen = Observation(stream=honest.stream, sent_us=honest.sent_us, arrivals=ordered, rtt_us=honest.rtt_us)
    found = of(certify([seen], (), skipping, CLEAN, depth="quick", mtu=MTU), "reordering")
    assert (found.requested, found.measured, found.verdict) == (0.25, 0.25, Verdict.PASS)
    assert "reordering" in wrong(certify([seen], (), CLEAN, CLEAN, depth="quick", mtu=MTU))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_expected_loss_is_a_share_and_copies_lower_it(loss: float, twice: float, damaged: float) -> None:
    plain = Impairment(loss=IndependentLoss(probability=loss), corrupt=Chance(share=damaged))
    copied = plain.model_copy(update={"duplicate": Chance(share=twice)})
    assert 0 <= expected_loss(copied) <= expected_loss(plain) + 1e-12 <= 1 + 1e-12


@settings(max_examples=25, deadline=None)
@given(st.integers(64_000, 60_000_000), st.integers(3, 400))
def test_a_buffer_of_any_depth_is_measured_to_a_packet_or_a_tenth(rate_bps: int, packets: int) -> None:
    link = Impairment(delay_us=5_000, rate_bps=rate_bps, buffer_packets=packets)
    dice = random.Random(packets)
    streams = saturation(link, LINK, MTU)
    seen = [observe_bottleneck(stream, link, MTU, packets, dice) for stream in streams]
    certificate = certify(seen, (), link, CLEAN, depth="full", mtu=MTU)
    assert certificate.verdict is Verdict.PASS, certificate.reason
    assert of(certificate, "buffer").measured == pytest.approx(packets * MTU, rel=0.1, abs=MTU)
