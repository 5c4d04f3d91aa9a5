"""Impairments of every kind, at random, for tests."""

from __future__ import annotations

from hypothesis import strategies as st

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

MTUS = st.integers(576, 9000)
NINE_DECIMALS = st.integers(0, 10**9).map(lambda billionths: billionths / 1e9)
HALVES = st.integers(0, 5 * 10**8).map(lambda billionths: billionths / 1e9)
CHANCES = st.builds(Chance, share=NINE_DECIMALS, correlation=NINE_DECIMALS)
SHAPES = st.one_of(
    st.sampled_from([DelayDistribution(kind=kind) for kind in ("uniform", "normal", "pareto", "paretonormal")]),
    st.lists(st.floats(-3.9, 3.9), min_size=2, max_size=9).map(
        lambda values: DelayDistribution(kind="custom", quantiles=tuple(sorted(values)))
    ),
)
LOSSES = st.one_of(
    st.none(),
    st.builds(IndependentLoss, probability=NINE_DECIMALS, correlation=NINE_DECIMALS),
    st.builds(
        GilbertElliottLoss,
        good_to_bad=NINE_DECIMALS,
        bad_to_good=NINE_DECIMALS,
        loss_in_bad=NINE_DECIMALS,
        loss_in_good=NINE_DECIMALS,
    ),
    st.builds(FourStateLoss, p13=HALVES, p31=HALVES, p32=HALVES, p23=NINE_DECIMALS, p14=HALVES),
)
SLOTS = st.one_of(
    st.none(),
    st.builds(
        lambda low, more, packets: Slots(min_delay_us=low, max_delay_us=low + more, packets=packets),
        st.integers(1, 10**6),
        st.integers(0, 10**6),
        st.integers(1, 1000),
    ),
    st.builds(
        Slots,
        delay_us=st.integers(0, 10**6),
        jitter_us=st.integers(1, 10**6),
        distribution=SHAPES,
        bytes=st.integers(1, 10**6),
    ),
)


@st.composite
def impairments(draw: st.DrawFn) -> Impairment:
    rate = draw(st.one_of(st.none(), st.integers(8, 10**11)))
    bottleneck: dict[str, object] = {}
    if rate is not None:
        bottleneck = draw(
            st.sampled_from([{}, {"buffer_bytes": draw(st.integers(1, 10**8))}, {"buffer_packets": 77}])
        ) | draw(
            st.fixed_dictionaries(
                {
                    "framing": st.one_of(
                        st.none(),
                        st.just(Framing(overhead=40, cell=48, cell_overhead=5)),
                        st.just(Framing(overhead=38)),
                    ),
                    "active_queue": st.one_of(
                        st.none(),
                        st.builds(
                            ActiveQueue,
                            discipline=st.sampled_from(["codel", "fq-codel"]),
                            target_us=st.integers(1, 10**6),
                            interval_us=st.integers(1, 10**6),
                            ecn=st.booleans(),
                        ),
                    ),
                }
            )
        )
    return Impairment(
        delay_us=draw(st.integers(1, 10**7)),
        jitter_us=draw(st.integers(0, 10**6)),
        distribution=draw(SHAPES),
        delay_correlation=draw(NINE_DECIMALS),
        in_order=draw(st.booleans()),
        loss=draw(LOSSES),
        loss_marks=draw(st.booleans()),
        duplicate=draw(st.one_of(st.none(), CHANCES)),
        corrupt=draw(st.one_of(st.none(), CHANCES)),
        reorder=draw(
            st.one_of(
                st.none(),
                st.builds(Reordering, share=NINE_DECIMALS, correlation=NINE_DECIMALS, gap=st.integers(1, 1000)),
            )
        ),
        slots=draw(SLOTS),
        rate_bps=rate,
        blocked=draw(st.booleans()),
        **bottleneck,  # type: ignore[arg-type]
    )
