"""The shaping plan: what goes to the kernel, and that it can be read back."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss
from harness.plan.shaping import (
    BLOCKED,
    MAX_CORE_DELAY_US,
    U32_MAX,
    LinkHandles,
    buffer_packets,
    read_link,
    realised,
    router_match,
    shape_link,
    source_match,
)

MTUS = st.integers(576, 9000)
NINE_DECIMALS = st.integers(0, 10**9).map(lambda billionths: billionths / 1e9)
LOSSES = st.one_of(
    st.none(),
    st.builds(IndependentLoss, probability=NINE_DECIMALS),
    st.builds(
        GilbertElliottLoss,
        good_to_bad=NINE_DECIMALS,
        bad_to_good=NINE_DECIMALS,
        loss_in_bad=NINE_DECIMALS,
        loss_in_good=NINE_DECIMALS,
    ),
)


@st.composite
def impairments(draw: st.DrawFn) -> Impairment:
    rate = draw(st.one_of(st.none(), st.integers(8, 10**11)))
    return Impairment(
        delay_us=draw(st.integers(0, 10**7)),
        jitter_us=draw(st.integers(0, 10**6)),
        loss=draw(LOSSES),
        rate_bps=rate,
        buffer_bytes=None if rate is None else draw(st.one_of(st.none(), st.integers(1, 10**8))),
        blocked=draw(st.booleans()),
    )


@given(impairments(), MTUS, st.integers(0, MAX_CORE_DELAY_US))
def test_what_is_realised_is_read_back_whatever_the_core_adds(impairment: Impairment, mtu: int, core: int) -> None:
    wanted = realised(impairment, mtu)
    assert read_link(shape_link(impairment, mtu, core), mtu, core) == wanted
    assert realised(wanted, mtu) == wanted


@given(impairments(), MTUS)
def test_realised_differs_only_by_rounding(impairment: Impairment, mtu: int) -> None:
    kept = realised(impairment, mtu)
    assert (kept.delay_us, kept.jitter_us) == (impairment.delay_us, impairment.jitter_us)
    if impairment.rate_bps is not None:
        assert kept.rate_bps is not None and 0 <= impairment.rate_bps - kept.rate_bps < 8
    certain = impairment.loss is not None and impairment.loss.kind == "independent" and impairment.loss.mean == 1
    assert kept.blocked == (impairment.blocked or certain)
    if not kept.blocked and impairment.mean_loss:
        assert kept.loss == impairment.loss


@given(impairments(), MTUS)
def test_the_first_stage_never_drops_for_want_of_room_and_jitter_keeps_order(impairment: Impairment, mtu: int) -> None:
    shape = shape_link(impairment, mtu)
    assert shape.propagation.limit >= 2**30
    assert (shape.propagation.rate > 0) == (impairment.jitter_us > 0)
    assert shape.bottleneck.latency_ns == shape.bottleneck.loss == 0


@given(st.integers(1, MAX_CORE_DELAY_US), st.integers(0, 10**6))
def test_the_cores_own_delay_is_taken_off(core: int, delay_us: int) -> None:
    latency = shape_link(Impairment(delay_us=delay_us), 1500, core).propagation.latency_ns
    assert latency == (delay_us - core) * 1000 if delay_us > core else latency < 1000


def test_a_buffer_holds_whole_packets_and_the_one_that_is_sent_is_apart() -> None:
    link = Impairment(rate_bps=1_000_000, buffer_bytes=4600)
    assert buffer_packets(link, 1500) == 3
    assert shape_link(link, 1500).bottleneck.limit == 4
    assert shape_link(link, 1500).bottleneck.rate == 125_000


def test_a_rate_without_a_buffer_gets_a_tenth_of_a_second_but_ten_packets_at_least() -> None:
    assert buffer_packets(Impairment(rate_bps=120_000_000), 1500) == 1000
    assert buffer_packets(Impairment(rate_bps=20_000), 1500) == 10


def test_a_buffer_without_a_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a rate"):
        shape_link(Impairment(buffer_bytes=1), 1500)


def test_blocked_loses_every_packet() -> None:
    assert shape_link(BLOCKED, 1500).propagation.loss == U32_MAX
    assert read_link(shape_link(BLOCKED, 1500), 1500) == BLOCKED


def test_gilbert_elliott_goes_to_the_kernel_as_p_r_and_the_shares_that_pass_and_fail() -> None:
    loss = GilbertElliottLoss(good_to_bad=0.5, bad_to_good=1.0, loss_in_bad=0.75, loss_in_good=0.0)
    burst = shape_link(Impairment(loss=loss), 1500).propagation.gilbert_elliott
    assert burst is not None
    assert (burst.p, burst.r, burst.h, burst.k1) == (2**31, U32_MAX, 2**30, 0)


@given(st.integers(0, 126))
def test_handles_of_different_sources_never_meet(index: int) -> None:
    one, next_one = LinkHandles(index=index), LinkHandles(index=index + 1)
    mine = {one.class_id, one.propagation, one.bottleneck, one.bottleneck_parent}
    theirs = {next_one.class_id, next_one.propagation, next_one.bottleneck, next_one.bottleneck_parent}
    assert len(mine) == 4
    assert not mine & theirs


def test_filters_match_the_source_address() -> None:
    assert source_match(IPv4Network("198.18.0.8/29")) == "0xc6120008/0xfffffff8+12"
    assert router_match(IPv4Address("198.18.0.9")) == "0xc6120009/0xffffffff+12"
