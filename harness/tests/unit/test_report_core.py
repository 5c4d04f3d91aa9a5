"""The benchmark's directory says what was measured, whatever was measured."""

from __future__ import annotations

from pathlib import Path

from harness.report.core_report import core_tables, write_core_report
from harness.run.core_benchmark import ChangeTime, Core, CoreBenchmark, Host, SetUp, Throughput

RESULT = CoreBenchmark(
    host=Host(kernel="6.1", processors=2, processor="<a & b>", busy_cores=0.1),
    cores=(Core(path="vm", sites=4, kernel="6.12", detail="QEMU tcg", forward_us=300),),
    throughput=(
        Throughput(
            path="veth",
            sites=2,
            packet_bytes=1500,
            flows=1,
            flood_packets_per_s=200_000,
            carried_packets_per_s=190_000,
            carried_gbit_s=2.28,
            machine_cpu_s_per_gbit=0.5,
            core_cpu_s_per_gbit=None,
        ),
    ),
    changes=(ChangeTime(path="vm", sites=4, changes=80, p50_ms=0.25, p99_ms=1.5),),
    set_up=tuple(
        SetUp(
            path="vm",
            sites=sites,
            links=sites * (sites - 1),
            warm=warm,
            up_s=sites / 10,
            down_s=sites / 20,
            phases={"placing": 0.1},
            core_mib=150 if sites < 16 else None,
            lab_mib=200,
        )
        for sites in (4, 16)
        for warm in (False, True)
    ),
)


def test_everything_is_in_the_directory(tmp_path: Path) -> None:
    page = write_core_report(RESULT, tmp_path / "out")
    assert CoreBenchmark.model_validate_json((page.parent / "core.json").read_text()) == RESULT
    text = page.read_text()
    assert "&lt;a &amp; b&gt;" in text
    for picture in page.parent.glob("*.png"):
        assert f'src="{picture.name}"' in text
    assert {picture.stem for picture in page.parent.glob("*.png")} == {"throughput", "cost", "set-up", "changes"}


def test_rows_are_as_wide_as_their_head() -> None:
    for _, head, rows in core_tables(RESULT):
        assert rows
        assert {len(row) for row in rows} == {len(head)}
