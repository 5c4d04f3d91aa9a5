"""Measures this machine's accuracy: the conditions of plan.selftest_grid, lab after lab, group after group."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from harness.lab.lab import Lab
from harness.model.base import Value
from harness.model.measurement import Depth, MeasuringNoise
from harness.plan.certificate import merged_noise
from harness.plan.selftest_grid import Condition, GridLab, GridRow, GridSummary, labs, rows, summary
from harness.selftest.certificate import Wan


class GridRecord(Value):
    """The grid as measured, and on what. ``noise`` is what the measuring itself added, at its worst."""

    measured_at: str
    elapsed_s: float
    placement: str
    kernel: str
    core: str
    depth: Depth
    seed: int
    noise: MeasuringNoise
    summary: tuple[GridSummary, ...]
    rows: tuple[GridRow, ...]


def measure_grid(
    conditions: Sequence[Condition],
    *,
    wan: Wan,
    seed: int,
    depth: Depth,
    progress: Callable[[str], None],
    advance: Callable[[float], None],
) -> GridRecord:
    """Build the labs of the grid one after another, and measure each group of links by itself.

    ``advance`` hears the share that is done, 0 to 1. Raises LabError when a lab breaks.
    """
    began = datetime.now(UTC)
    planned = labs(conditions)
    table: list[GridRow] = []
    noise = MeasuringNoise()
    core: Lab | None = None
    steps = sum(len(lab.batches()) for lab in planned)
    done = 0
    for number, planned_lab in enumerate(planned, start=1):
        progress(f"building lab {number} of {len(planned)}")
        core = lab = Lab.up(planned_lab.topology, wan=wan, seed=seed, progress=progress)
        try:
            for group, links in planned_lab.batches():
                progress(f"lab {number} of {len(planned)}, {group}")
                step = done
                certificate = lab.measure(
                    progress=lambda what, group=group: progress(f"{group}: {what}"),  # type: ignore[misc]
                    calibrate=depth,
                    links=links,
                    advance=lambda share, step=step: advance((step + share) / steps),  # type: ignore[misc]
                )
                noise = merged_noise(noise, certificate.noise)
                by_link = {(one.source, one.destination): one for one in certificate.links}
                for link in links:
                    table += rows(_condition(planned_lab, link), by_link[link])
                done += 1
                advance(done / steps)
        finally:
            lab.down()
    assert core is not None
    return GridRecord(
        measured_at=began.isoformat(timespec="seconds"),
        elapsed_s=round((datetime.now(UTC) - began).total_seconds(), 1),
        placement=core.core.placement,
        kernel=core.core.kernel_release,
        core=core.core.detail,
        depth=depth,
        seed=seed,
        noise=noise,
        summary=summary(table),
        rows=tuple(table),
    )


def write_csv(record: GridRecord, path: Path) -> None:
    """One line for each quantity of each condition."""
    fields = [*GridRow.model_fields, "error", "relative_error"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(fields)
        for row in record.rows:
            writer.writerow(getattr(row, field) for field in fields)


def _condition(lab: GridLab, link: tuple[str, str]) -> Condition:
    return lab.conditions[lab.links.index(link)]
