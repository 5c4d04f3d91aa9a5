"""The core's benchmark on a real lab: every figure is there."""

from __future__ import annotations

import pytest

from harness.run.core_benchmark import Effort, placements, run_benchmark

pytestmark = [pytest.mark.root, pytest.mark.vm]

BRIEF = Effort(trial_s=0.1, steps=1, changes=10, sites=(2,))


def test_every_figure_is_measured() -> None:
    told: list[str] = []
    chosen = placements()[-1:]
    result = run_benchmark(chosen, BRIEF, told.append)
    labs = 2 if chosen == ("vm",) else 1
    assert {(load.path, load.packet_bytes, load.flows) for load in result.throughput} == {
        (path, size, flows) for path in ("veth", *chosen) for size, flows in ((1500, 1), (1500, 2), (128, 2))
    }
    assert all(load.flood_packets_per_s > 1000 for load in result.throughput)
    assert [(one.path, one.changes) for one in result.changes] == [(chosen[0], 10)]
    assert 0 < result.changes[0].p50_ms <= result.changes[0].p99_ms
    assert [(lab.sites, lab.links, lab.warm) for lab in result.set_up] == [(2, 2, False), (2, 2, True)][:labs]
    assert all(lab.up_s > 0 and lab.down_s > 0 and lab.phases for lab in result.set_up)
    assert [core.path for core in result.cores] == list(chosen)
    assert any("building" in step for step in told)
