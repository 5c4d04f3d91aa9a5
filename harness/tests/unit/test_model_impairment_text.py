"""The one-line text of an impairment."""

from __future__ import annotations

import pytest

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
from harness.model.impairment_text import describe, describe_change, describe_loss

LONG_HAUL = Impairment(
    delay_us=80_000, loss=IndependentLoss(probability=0.01), rate_bps=100_000_000, buffer_bytes=250_000
)


@pytest.mark.parametrize(
    ("impairment", "text"),
    [
        (Impairment(), "no impairment"),
        (Impairment(blocked=True, delay_us=5), "blocked"),
        (LONG_HAUL, "80 ms, 1% loss, 100 Mbit/s, buffer 250 kB"),
        (Impairment(delay_us=45_000, jitter_us=5_000), "45 ms ±5 ms"),
        (Impairment(loss=IndependentLoss(probability=0)), "no impairment"),
        (
            Impairment(
                delay_us=20_000,
                jitter_us=4_000,
                distribution=DelayDistribution(kind="pareto"),
                in_order=False,
                duplicate=Chance(share=0.01),
                reorder=Reordering(share=0.25, gap=5),
            ),
            "20 ms ±4 ms pareto, out of order, 1% duplicated, 25% reordered, each 5th",
        ),
        (
            Impairment(
                loss=FourStateLoss(p13=0.05, p31=0.25),
                loss_marks=True,
                rate_bps=2_000_000,
                framing=Framing(overhead=40, cell=48, cell_overhead=5),
                buffer_packets=90,
                active_queue=ActiveQueue(discipline="fq-codel", ecn=True),
                slots=Slots(min_delay_us=8_000, max_delay_us=12_000, packets=20),
            ),
            (
                "16.7% loss in bursts of 4 (four states), losses marked, open every 8 ms to 12 ms for 20 packets, "
                "2 Mbit/s, +40 B a packet in cells of 53 B, buffer 90 packets, FQ-CoDel 5 ms with ECN"
            ),
        ),
    ],
)
def test_describe(impairment: Impairment, text: str) -> None:
    assert describe(impairment) == text


def test_burst_loss_names_its_mean_and_burst_length() -> None:
    assert describe_loss(GilbertElliottLoss(good_to_bad=0.00125, bad_to_good=0.125)) == "0.99% loss in bursts of 8"
    assert describe_loss(GilbertElliottLoss(good_to_bad=0.5, bad_to_good=0)).startswith("100% loss")
    assert describe_loss(None) == "no loss"


def test_a_change_names_only_what_differs() -> None:
    worse = LONG_HAUL.model_copy(update={"loss": IndependentLoss(probability=0.05), "rate_bps": None})
    assert describe_change(LONG_HAUL, worse) == "1% loss → 5% loss; 100 Mbit/s → unlimited"
    assert describe_change(LONG_HAUL, LONG_HAUL) == "unchanged"
    blocked = LONG_HAUL.model_copy(update={"blocked": True})
    assert describe_change(LONG_HAUL, blocked) == "blocked"
    assert describe_change(blocked, LONG_HAUL) == "open again"
    assert describe_change(blocked, worse) == "open again: 80 ms, 5% loss, buffer 250 kB"
