"""The shaping plan: what goes to the kernel, and that it can be read back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.impairment import (
    ActiveQueue,
    DelayDistribution,
    FourStateLoss,
    Framing,
    GilbertElliottLoss,
    Impairment,
    Reordering,
    Slots,
)
from harness.plan.qdisc_settings import U32_MAX, ActiveBottleneck, NetemSettings
from harness.plan.shaping import (
    BLOCKED,
    MAX_CORE_DELAY_US,
    LinkHandles,
    buffer_packets,
    framed_size,
    read_link,
    realised,
    shape_link,
)
from harness.tests.impairment_strategy import MTUS, impairments


@settings(deadline=None)
@given(impairments(), MTUS, st.integers(0, MAX_CORE_DELAY_US))
def test_what_is_realised_is_read_back_whatever_the_core_adds(impairment: Impairment, mtu: int, core: int) -> None:
    wanted = realised(impairment, mtu)
    assert read_link(shape_link(impairment, mtu, core), mtu, core) == wanted
    assert realised(wanted, mtu) == wanted


@settings(deadline=None)
@given(impairments(), MTUS)
def test_realised_differs_only_by_rounding_and_by_what_has_no_effect(impairment: Impairment, mtu: int) -> None:
    kept = realised(impairment, mtu)
    assert (kept.delay_us, kept.jitter_us) == (impairment.delay_us, impairment.jitter_us)
    if impairment.jitter_us:
        assert (kept.distribution, kept.in_order) == (impairment.distribution, impairment.in_order)
    if impairment.rate_bps is not None:
        assert kept.rate_bps is not None and 0 <= impairment.rate_bps - kept.rate_bps < 8
        assert kept.framing == impairment.framing
        assert (kept.active_queue is None) == (impairment.active_queue is None)
        if impairment.buffer_packets is not None:
            assert kept.buffer_packets == impairment.buffer_packets
    certain = impairment.loss is not None and impairment.loss.kind == "independent" and impairment.loss.mean == 1
    assert kept.blocked == (impairment.blocked or certain)
    if not kept.blocked and impairment.loss is not None and impairment.loss.mean > 1e-6:
        assert kept.loss == impairment.loss
    for name in ("duplicate", "corrupt"):
        asked, got = getattr(impairment, name), getattr(kept, name)
        assert got == (asked if asked and asked.share else None)
    assert (kept.reorder, kept.slots) == (impairment.reorder, impairment.slots)


@settings(deadline=None)
@given(impairments(), MTUS)
def test_the_first_stage_never_drops_for_want_of_room_and_jitter_keeps_order(impairment: Impairment, mtu: int) -> None:
    shape = shape_link(impairment, mtu)
    assert shape.propagation.limit >= 2**30
    assert (shape.propagation.rate > 0) == (impairment.jitter_us > 0 and impairment.in_order)
    assert shape.propagation.duplicate == 0, "the kernel refuses it beside another netem"
    if isinstance(shape.bottleneck, NetemSettings):
        assert shape.bottleneck.latency_ns == shape.bottleneck.loss == shape.bottleneck.duplicate == 0


@given(st.integers(1, MAX_CORE_DELAY_US), st.integers(0, 10**6))
def test_the_cores_own_delay_is_taken_off(core: int, delay_us: int) -> None:
    latency = shape_link(Impairment(delay_us=delay_us), 1500, core).propagation.latency_ns
    assert latency == (delay_us - core) * 1000 if delay_us > core else latency < 1000


def test_a_buffer_holds_whole_packets_and_the_one_that_is_sent_is_apart() -> None:
    link = Impairment(rate_bps=1_000_000, buffer_bytes=4600)
    assert buffer_packets(link, 1500) == 3
    bottleneck = shape_link(link, 1500).bottleneck
    assert isinstance(bottleneck, NetemSettings)
    assert (bottleneck.limit, bottleneck.rate) == (4, 125_000)


def test_a_rate_without_a_buffer_gets_a_tenth_of_a_second_but_ten_packets_at_least() -> None:
    assert buffer_packets(Impairment(rate_bps=120_000_000), 1500) == 1000
    assert buffer_packets(Impairment(rate_bps=20_000), 1500) == 10
    active = Impairment(rate_bps=20_000, active_queue=ActiveQueue(discipline="fq-codel"))
    assert buffer_packets(active, 1500) == 10_240


@pytest.mark.parametrize(
    ("impairment", "reason"),
    [
        (Impairment(buffer_bytes=1), "needs a rate"),
        (Impairment(buffer_packets=1), "needs a rate"),
        (Impairment(active_queue=ActiveQueue(discipline="codel")), "needs a rate"),
        (Impairment(framing=Framing(overhead=4)), "needs a rate"),
        (Impairment(rate_bps=1000, buffer_bytes=1, buffer_packets=1), "not both"),
        (Impairment(jitter_us=3_000_000), "more than netem can keep"),
        (Impairment(reorder=Reordering(share=0.1)), "needs a delay"),
        (Impairment(loss=FourStateLoss(p13=0.6, p14=0.5, p31=0.1)), "above 1 together"),
        (Impairment(slots=Slots(packets=3)), "time between two openings"),
        (Impairment(jitter_us=1, distribution=DelayDistribution(kind="custom", quantiles=(1.0, 0.0))), "must ascend"),
    ],
)
def test_what_no_kernel_can_do_is_refused(impairment: Impairment, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        shape_link(impairment, 1500)


def test_blocked_loses_every_packet_and_marks_none() -> None:
    assert shape_link(BLOCKED, 1500).propagation.loss == U32_MAX
    assert read_link(shape_link(BLOCKED, 1500), 1500) == BLOCKED
    assert not shape_link(Impairment(blocked=True, loss_marks=True), 1500).propagation.ecn


def test_gilbert_elliott_goes_to_the_kernel_as_p_r_and_the_shares_that_pass_and_fail() -> None:
    loss = GilbertElliottLoss(good_to_bad=0.5, bad_to_good=1.0, loss_in_bad=0.75, loss_in_good=0.0)
    burst = shape_link(Impairment(loss=loss), 1500).propagation.gilbert_elliott
    assert burst is not None
    assert (burst.p, burst.r, burst.h, burst.k1) == (2**31, U32_MAX, 2**30, 0)


def test_an_active_queue_is_in_a_limiter_that_holds_a_packet_and_two_milliseconds() -> None:
    queue = ActiveQueue(discipline="codel")
    slow = shape_link(Impairment(rate_bps=1_000_000, active_queue=queue, framing=Framing(overhead=20)), 1500).bottleneck
    fast = shape_link(Impairment(rate_bps=100_000_000, active_queue=queue), 1500).bottleneck
    assert isinstance(slow, ActiveBottleneck) and isinstance(fast, ActiveBottleneck)
    assert (slow.limiter.burst, fast.limiter.burst) == (1750, 26_500)
    assert slow.queue.limit == 1000


def test_cells_are_filled_up() -> None:
    atm = Framing(overhead=10, cell=48, cell_overhead=5)
    assert framed_size(86, atm) == 2 * 53
    assert framed_size(87, atm) == 3 * 53
    assert framed_size(100, Framing()) == 100


@given(st.integers(0, 126), st.integers(1, 65_000))
def test_handles_of_different_sources_never_meet(site: int, interface: int) -> None:
    one, next_one = LinkHandles(site, interface), LinkHandles(site + 1, interface + 1)

    def handles(link: LinkHandles) -> set[int]:
        stages = {link.class_id, link.propagation, link.bottleneck, link.bottleneck_parent, link.limiter}
        return stages | {link.active_queue("codel"), link.active_queue("fq_codel")}

    assert len(handles(one)) == 7
    assert not handles(one) & handles(next_one)
    assert all(handle < 2**32 for handle in handles(next_one))


@given(st.floats(0, 1), st.floats(0, 1))
def test_chances_to_leave_a_state_never_add_up_beyond_32_bits(leave_good: float, leave_burst: float) -> None:
    loss = FourStateLoss(p13=leave_good, p14=1 - leave_good, p31=leave_burst, p32=1 - leave_burst)
    states = shape_link(Impairment(loss=loss), 1500).propagation.four_state
    assert states is not None
    assert states.p13 + states.p14 <= U32_MAX
    assert states.p31 + states.p32 <= U32_MAX


def test_two_halves_stay_two_halves() -> None:
    loss = FourStateLoss(p13=0.5, p14=0.5, p31=0.5, p32=0.5)
    states = shape_link(Impairment(loss=loss), 1500).propagation.four_state
    assert states is not None
    assert states.p31 + states.p32 == U32_MAX
    assert realised(Impairment(loss=loss), 1500).loss == loss
