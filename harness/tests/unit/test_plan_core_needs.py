"""A topology asks for no more of the core's kernel than its links use."""

from __future__ import annotations

import pytest

from harness.model.impairment import ActiveQueue, Chance, Impairment
from harness.plan.core_needs import needs_of


@pytest.mark.parametrize(
    ("impairment", "needs"),
    [
        (Impairment(delay_us=1000, rate_bps=1_000_000), set()),
        (Impairment(duplicate=Chance(share=0.01)), {"doubling"}),
        (Impairment(rate_bps=1_000_000, active_queue=ActiveQueue(discipline="codel")), {"codel"}),
        (Impairment(rate_bps=1_000_000, active_queue=ActiveQueue(discipline="fq-codel")), {"fq_codel"}),
    ],
)
def test_needs_of_one_link(impairment: Impairment, needs: set[str]) -> None:
    assert needs_of([Impairment(), impairment]) == needs
