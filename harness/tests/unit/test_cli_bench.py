"""`longhaul bench transport` and `sync` as users call them: plans, mistakes, and reports; none builds a lab."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import ExitCode
from harness.model.bench import BenchRecord, FlowResult, Trial, TrialResult, Workload
from harness.plan.bench_grid import base
from harness.run.bench_run import HEADER, RESULTS

LONGHAUL = Path(sys.executable).parent / "longhaul"


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(LONGHAUL), "bench", *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_a_plan_says_how_long_it_takes() -> None:
    told = json.loads(call("transport", "--quick", "--list", "--json").stdout)
    assert told["cells"] == 3
    assert len(told["trials"]) == 16
    assert 100 < told["expected_s"] < 400
    one = call(
        "transport", "--full", "--list", "--peers", "bbr", "--cells", "trace=5g-driving", "--repeats", "2"
    ).stdout
    assert "trace=5g-driving | stream | bbr | 1" in one
    assert "1 cell, 2 trials" in one


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("transport", "--quick", "--full"), "exclude"),
        (("transport", "--peers", "gridftp"), "gridftp"),
        (("sync", "--peers", "cubic"), "cubic"),
        (("transport", "--cells", "colour=red"), "colour=red"),
        (("transport", "--cells", "rtt=81ms"), "no cell"),
        (("transport", "--resume", "/nonexistent"), "/nonexistent"),
        (("sync", "--report", "/nonexistent"), "/nonexistent"),
    ],
)
def test_a_mistake_is_answered_before_a_lab_is_built(arguments: tuple[str, ...], named: str) -> None:
    answer = call(*arguments)
    assert answer.returncode == ExitCode.BAD_INPUT
    assert named in answer.stderr
    assert "Traceback" not in answer.stderr


def test_results_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    answer = call("transport", "--quick", "-o", str(tmp_path))
    assert answer.returncode == ExitCode.BAD_INPUT
    assert "--resume" in answer.stderr


def test_a_report_is_made_anew_from_what_was_measured(tmp_path: Path) -> None:
    flow = FlowResult(peer="bbr", transport="tcp", goodput_bps=180e6, share=0.9, as_claimed=True)
    trial = Trial(cell=base(), peers=("bbr",), workload=Workload(kind="stream"), seconds=8)
    result = TrialResult(trial=trial, at="2026-01-01T00:00:00+00:00", rate_bps=200e6, flows=(flow,), busy_share=0.99)
    record = BenchRecord(
        kind="transport",
        started_at="2026-01-01T00:00:00+00:00",
        host="2 processors",
        core="linux 6.12",
        ceiling=None,
        fastest_bps=300_000_000,
        congestion_control="bbr",
        repeats=1,
    )
    (tmp_path / HEADER).write_text(record.model_dump_json(exclude={"results"}))
    (tmp_path / RESULTS).write_text(result.model_dump_json() + "\n")
    told = json.loads(call("transport", "--report", str(tmp_path), "--json").stdout)
    assert told["table"][0]["share"]["median"] == 0.9
    shown = call("transport", "--report", str(tmp_path)).stdout
    assert "rtt=80ms loss=0% rate=200Mbit" in shown
    assert "machine 99% busy" in shown
    assert (tmp_path / "index.html").exists()
