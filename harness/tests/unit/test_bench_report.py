"""A benchmark's directory: results that survive an interrupt, tables, pictures, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.model.bench import (
    BenchRecord,
    Ceiling,
    Cell,
    Delay,
    FlowResult,
    Interval,
    Trial,
    TrialResult,
    Workload,
    WorkloadKind,
)
from harness.plan.bench_grid import base
from harness.report.bench_report import write_bench_report
from harness.report.bench_tables import bench_tables
from harness.run.bench_run import HEADER, RESULTS, read_record, read_results

RATE = 200e6


def trial(
    share: float,
    *peers: str,
    cell: Cell | None = None,
    repeat: int = 0,
    kind: WorkloadKind = "stream",
    claimed: bool = True,
    problem: str = "",
) -> TrialResult:
    flows = tuple(
        FlowResult(
            peer=name,
            transport="udp",
            intervals=tuple(
                Interval(begin_s=at / 4, end_s=(at + 1) / 4, bytes=round(share * RATE / 32)) for at in range(32)
            ),
            bytes=round(share * RATE),
            goodput_bps=share * RATE,
            share=share,
            files_per_s=2100.0 if kind == "small" else None,
            set_up_s=0.4,
            as_claimed=claimed,
            problem=problem,
        )
        for name in peers
    )
    return TrialResult(
        trial=Trial(cell=cell or base(), peers=peers, workload=Workload(kind=kind), seconds=8, repeat=repeat),
        at="2026-01-01T00:00:00+00:00",
        rate_bps=float((cell or base()).rate_bps or RATE),
        flows=flows,
        delay=Delay(idle_ms=40.1, added_p50_ms=2.0, added_p95_ms=9.0, series=((0.1, 1.0), (4.0, 3.0))),
        source_cpu_s_per_gbit=1.5,
        destination_cpu_s_per_gbit=0.9,
    )


RESULTS_OF_ALL_KINDS = (
    trial(0.96, "longhaul"),
    trial(0.94, "longhaul", repeat=1),
    trial(0.92, "longhaul", cell=base(loss=0.01)),
    trial(0.91, "longhaul", cell=base(loss=0.01, burst=8.0)),
    trial(
        0.30, "libudt", cell=base(loss=0.01), claimed=False, problem="not the transport that it claims: no datagrams"
    ),
    trial(0.95, "bbr"),
    trial(0.90, "bbr", cell=base(loss=0.01)),
    trial(0.93, "bbr", cell=base(rate_bps=20_000_000, loss=0.01)),
    trial(0.50, "bbr", cell=base(buffer_bdp=0.1, loss=0.01)),
    trial(0.47, "longhaul", "cubic"),
    trial(0.85, "longhaul", cell=base(trace="lte-driving")),
    trial(0.10, "syncer", cell=base(100_000), kind="small"),
)


def record(*results: TrialResult) -> BenchRecord:
    return BenchRecord(
        kind="transport",
        started_at="2026-01-01T00:00:00+00:00",
        host="2 processors, linux 6.12",
        core="linux 6.12, QEMU",
        ceiling=Ceiling(packets_per_s=80_000, bits_per_s=960e6),
        fastest_bps=400_000_000,
        congestion_control="bbr",
        versions={"bbr": "iperf 3.12"},
        repeats=2,
        results=results,
    )


def test_tables_tell_what_was_reached_and_what_must_not_be_believed() -> None:
    tables = {title: rows for title, _, rows in bench_tables(record(*RESULTS_OF_ALL_KINDS))}
    alone = {(row[0], row[1]): row for row in tables["Goodput after the first 3 s"]}
    assert alone["rtt=80ms loss=0% rate=200Mbit", "longhaul"][3:7] == [
        "190.0",
        "188.0 to 192.0",
        "0.950",
        "0.95 reached",
    ]
    assert alone["rtt=80ms loss=1% rate=200Mbit", "longhaul"][6] == "0.93 missed"
    marked = alone["rtt=80ms loss=1% rate=200Mbit", "libudt"]
    assert marked[3] == "-"
    assert marked[5] == "-"
    assert "not the transport that it claims" in marked[-1]
    assert [row[1] for row in tables["Two at once"]] == ["longhaul", "cubic"]
    assert tables["Two at once"][0][6] == "1.000"
    assert tables["Many small files"][0][3] == "2,100"


def test_the_directory_holds_page_pictures_and_summary(tmp_path: Path) -> None:
    page = write_bench_report(record(*RESULTS_OF_ALL_KINDS), tmp_path)
    text = page.read_text()
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert {"share-by-loss-80ms.png", "goals.png", "added-delay.png", "pairs.png", "small-files.png", "cpu.png"} <= set(
        pictures
    )
    assert {"share-by-rate-loss-1.png", "share-by-buffer-loss-1.png", "over-time-1.png"} <= set(pictures)
    assert all(f'src="{name}"' in text for name in pictures)
    assert "80.0 thousand packets" in text
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["trials"] == len(RESULTS_OF_ALL_KINDS)
    first = summary["table"][0]
    assert (first["peer"], first["share"]["median"], first["share"]["count"]) == ("longhaul", pytest.approx(0.95), 2)


def test_a_page_of_one_result_needs_no_more(tmp_path: Path) -> None:
    assert "bbr" in write_bench_report(record(trial(0.9, "bbr", cell=base(10_000))), tmp_path).read_text()


def written(directory: Path, *results: TrialResult) -> None:
    (directory / HEADER).write_text(record().model_dump_json(exclude={"results"}))
    (directory / RESULTS).write_text("".join(one.model_dump_json() + "\n" for one in results))


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    written(tmp_path, *RESULTS_OF_ALL_KINDS)
    assert read_record(tmp_path) == record(*RESULTS_OF_ALL_KINDS)


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    written(tmp_path, *RESULTS_OF_ALL_KINDS[:2])
    with (tmp_path / RESULTS).open("a") as out:
        out.write(RESULTS_OF_ALL_KINDS[2].model_dump_json()[:100])
    assert tuple(read_results(tmp_path)) == RESULTS_OF_ALL_KINDS[:2]


def test_the_last_result_of_a_trial_counts(tmp_path: Path) -> None:
    again = RESULTS_OF_ALL_KINDS[0].model_copy(update={"at": "2026-01-02T00:00:00+00:00"})
    written(tmp_path, *RESULTS_OF_ALL_KINDS[:2], again)
    assert [one.at[:10] for one in read_results(tmp_path)] == ["2026-01-02", "2026-01-01"]


def test_a_directory_without_a_run_is_bad_input(tmp_path: Path) -> None:
    assert list(read_results(tmp_path)) == []
    with pytest.raises(InputError):
        read_record(tmp_path)
    (tmp_path / RESULTS).write_text("nonsense\nmore\n")
    with pytest.raises(InputError):
        list(read_results(tmp_path))
