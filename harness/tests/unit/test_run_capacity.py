"""What a benchmark found is used by later checks; what a busy machine measured is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.plan.lint_finding import ASSUMED_CORES
from harness.run import capacity
from harness.run.core_benchmark import CoreBenchmark, Host, Throughput


def benchmark(busy: float) -> CoreBenchmark:
    def load(path: str, size: int, packets: float) -> Throughput:
        return Throughput(
            path=path,
            sites=4,
            packet_bytes=size,
            flows=1,
            flood_packets_per_s=2 * packets,
            carried_packets_per_s=packets,
            carried_gbit_s=packets * size * 8 / 1e9,
            machine_cpu_s_per_gbit=None,
            core_cpu_s_per_gbit=None,
        )

    return CoreBenchmark(
        host=Host(kernel="6", processors=2, processor="x", busy_cores=busy),
        cores=(),
        throughput=(
            load("vm", 1500, 50_000),
            load("vm", 1500, 60_000),
            load("vm", 128, 90_000),
            load("veth", 1500, 1e6),
        ),
        changes=(),
        set_up=(),
    )


def test_what_was_measured_here_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "cache_directory", lambda: tmp_path / "cache")
    assert capacity.capacity_of("vm") == ASSUMED_CORES["vm"]
    capacity.remember(benchmark(busy=1.0))
    assert capacity.capacity_of("vm") == ASSUMED_CORES["vm"]
    capacity.remember(benchmark(busy=0.1))
    known = capacity.capacity_of("vm")
    assert (known.packets_per_s, known.bits_per_s) == (60_000, pytest.approx(7.2e8))
    assert "measured on this machine" in known.source
    assert capacity.capacity_of("netns") == ASSUMED_CORES["netns"]


def test_a_damaged_cache_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "cache_directory", lambda: tmp_path)
    (tmp_path / "core-capacity.json").write_text("{")
    assert capacity.capacity_of("vm") == ASSUMED_CORES["vm"]
