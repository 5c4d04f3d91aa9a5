"""Tables of delay distributions: their moments, their shape, and what they are made from."""

from __future__ import annotations

import statistics
import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.distribution_file import distribution_of_samples, distribution_of_table
from harness.model.delay_shape import shape_of_samples
from harness.model.impairment import DelayDistribution
from harness.plan.delay_distribution import ENTRIES, SCALE, fingerprint, table_of


def values(distribution: DelayDistribution) -> list[float]:
    return [entry / SCALE for entry in struct.unpack(f"={ENTRIES}h", table_of(distribution))]


@pytest.mark.parametrize("kind", ["normal", "pareto", "paretonormal"])
def test_the_jitter_is_the_standard_deviation_and_the_delay_is_the_mean(kind: str) -> None:
    table = values(DelayDistribution.model_validate({"kind": kind}))
    assert statistics.fmean(table) == pytest.approx(0, abs=1e-4)
    assert statistics.pstdev(table) == pytest.approx(1, abs=1e-4)
    assert table == sorted(table)


def test_each_law_has_its_shape() -> None:
    uniform, normal, pareto = (values(DelayDistribution(kind=kind)) for kind in ("uniform", "normal", "pareto"))
    assert (uniform[0], uniform[-1]) == pytest.approx((-1, 1), abs=1e-3)
    assert statistics.pstdev(uniform) == pytest.approx(1 / 3**0.5, abs=1e-3)
    # The inverse of the normal distribution function at 84.13%.
    assert normal[round(0.8413 * ENTRIES)] == pytest.approx(1, abs=0.01)
    # Its bulk is below its mean, and its tail far above.
    assert pareto[ENTRIES // 2] < -0.2 and pareto[0] > -1 and pareto[-1] > 3.9


@settings(deadline=None)
@given(st.lists(st.floats(0, 1000), min_size=20, max_size=200).filter(lambda found: max(found) - min(found) > 1))
def test_a_shape_from_samples_has_their_median(samples: list[float]) -> None:
    shape = shape_of_samples(samples)
    mean, deviation = statistics.fmean(samples), statistics.pstdev(samples)
    expected = (statistics.median(samples) - mean) / deviation
    spread = sorted(samples)
    gap = max(after - before for before, after in pairwise(spread)) / deviation
    assert values(shape)[ENTRIES // 2] == pytest.approx(max(-4, min(4, expected)), abs=gap + 0.05)


def test_files_of_distributions() -> None:
    table = distribution_of_table("# made by hand\n -8192 0\n0 8192 # end\n")
    assert table.quantiles == (-1.0, 0.0, 0.0, 1.0)
    samples = distribution_of_samples("# ms\n" + "\n".join(str(10 + number % 7) for number in range(70)))
    assert samples.kind == "custom" and samples.quantiles[0] == pytest.approx(-1.5)
    with pytest.raises(ValueError, match="line 2: '40000'"):
        distribution_of_table("1 2\n40000\n")
    with pytest.raises(ValueError, match="line 1: 'fast'"):
        distribution_of_samples("fast")
    with pytest.raises(ValueError, match="do not vary"):
        distribution_of_samples("5\n" * 30)


def test_fingerprints_tell_distributions_apart() -> None:
    names = ("uniform", "normal", "pareto", "paretonormal")
    kinds = [DelayDistribution.model_validate({"kind": name}) for name in names]
    customs = [DelayDistribution(kind="custom", quantiles=(0.0,) * count) for count in (2, 3)]
    assert len({fingerprint(one) for one in (*kinds, *customs)}) == 6
    assert 0 not in {fingerprint(one) for one in (*kinds, *customs)}, "it stands for no table"
