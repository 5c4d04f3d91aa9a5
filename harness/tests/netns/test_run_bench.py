"""The benchmark of transports on a real lab: one short cell with a program that is not ours, and what is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.model.bench import Trial, TrialResult, Workload
from harness.plan.bench_grid import base
from harness.report.bench_report import write_bench_report
from harness.run.bench_lab import BenchLab, bench_lab
from harness.run.bench_run import read_record, run_bench
from harness.suts.peers.registry import create_peers

pytestmark = [pytest.mark.root, pytest.mark.vm]

CELL = base(20_000, rate_bps=20_000_000)
SECONDS = 5.0


@pytest.fixture(autouse=True)
def _needs_iperf3() -> None:
    if shutil.which("iperf3") is None:
        pytest.skip("there is no iperf3: apt-get install iperf3")


def trial(*peers: str, repeat: int = 0) -> Trial:
    return Trial(cell=CELL, peers=peers, workload=Workload(kind="stream"), seconds=SECONDS, repeat=repeat)


def test_a_cell_is_measured_written_and_not_measured_again(tmp_path: Path) -> None:
    seen: list[TrialResult] = []

    def run(*trials: Trial) -> None:
        run_bench(
            "transport",
            trials,
            tmp_path,
            repeats=1,
            congestion_control="cubic",
            tell=lambda _: None,
            on_result=seen.append,
            state_root=tmp_path / "state",
        )

    run(trial("bbr"))
    (result,) = seen
    (flow,) = result.flows
    assert result.problem == flow.problem == ""
    assert flow.as_claimed is True
    # 1,448 bytes of each 1,500 are payload; the core must not be able to carry more than it was told to.
    assert flow.share is not None
    assert 0.5 < flow.share < 1448 / 1500 + 0.01
    assert result.moved is not None
    assert result.moved.link_bytes > flow.bytes
    assert result.delay is not None
    assert result.delay.idle_ms == pytest.approx(10, abs=2)
    assert result.source_cpu_s_per_gbit is not None
    assert result.source_cpu_s_per_gbit > 0
    record = read_record(tmp_path)
    assert record.ceiling is not None
    assert record.ceiling.packets_per_s > 5_000
    assert record.settings["net.ipv4.tcp_rmem"].endswith("67108864")
    assert record.results == (result,)
    assert "bbr" in write_bench_report(record, tmp_path).read_text()
    # Going on with it measures nothing, and builds no lab.
    run(trial("bbr"))
    assert len(seen) == 1


def test_a_link_takes_on_one_cell_after_another_and_two_flows_share_it(tmp_path: Path) -> None:
    from harness.run.bench_trial import carry_out

    with bench_lab(congestion_control="cubic", tell=lambda _: None, state_root=tmp_path / "state") as bench:
        lossy = CELL.model_copy(update={"loss": 0.2, "rtt_us": 40_000})
        bench.set_to(lossy)
        assert delay_and_loss(bench) == (20_000, 0.2)
        peers = create_peers(["bbr", "cubic"])
        result = carry_out(bench, trial("bbr", "cubic"), peers, 1)
        assert delay_and_loss(bench) == (10_000, 0.0)
    assert [flow.peer for flow in result.flows] == ["bbr", "cubic"]
    assert all(flow.share for flow in result.flows)
    assert 0.5 < sum(flow.share or 0 for flow in result.flows) < 1


def delay_and_loss(bench: BenchLab) -> tuple[int, float]:
    has = bench.lab.read_back()["left", "right"]
    return has.delay_us, has.mean_loss
