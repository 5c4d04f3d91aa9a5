"""A benchmark as a directory: bench.json and results.jsonl as measured, summary.json, pictures, and index.html."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.model.bench import BenchRecord
from harness.model.units import brief_rate
from harness.plan.bench_figures import lines
from harness.report.bench_plots import draw_bench
from harness.report.bench_tables import bench_tables
from harness.report.markup import xml

_STYLE = """
body { font: 15px/1.5 "DejaVu Sans", sans-serif; color: #1c2733; margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem } p.dim, li { color: #5b6b7b }
table { border-collapse: collapse; width: 100%; font-size: 13px } th, td { padding: .25rem .5rem; text-align: right }
th { border-bottom: 1px solid #5b6b7b; font-weight: 600 } td { border-bottom: 1px solid #dde4eb; white-space: nowrap }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2), th:last-child, td:last-child { text-align: left }
td:last-child { white-space: normal; color: #b4202a } img { max-width: 100%; margin-top: .8rem }
"""
_TITLES = {"transport": "Transports beside each other", "sync": "Sync engines and file tools beside each other"}
_NOTES = """\
Goodput is payload at the receiver after its first 3 s; share: of the link's rate, which counts IP packets with their \
headers, or of what a trace offered in that time. Medians of the repeats; spread from the least to the greatest.
added ms: delay of probes one way beyond what the link is set to, median and 95th percentile. lost: packets that the \
link took as it was asked to. CPU s/Gbit: of all processes at the source and at the destination, those that look on \
included, so that it means little where little arrives. machine busy: of all processors; a faster machine might have \
shown more.
A peer that moved fewer packets by the transport that it claims than its bytes need is marked, has no share, and is in \
no picture."""


def write_bench_report(record: BenchRecord, directory: Path) -> Path:
    """Write everything into ``directory``, which holds the run; the page's path."""
    (directory / "summary.json").write_text(json.dumps(summary(record), indent=2) + "\n")
    for old in directory.glob("*.png"):
        old.unlink()
    pictures = draw_bench(record, directory)
    page = directory / "index.html"
    page.write_text(_page(record, [picture.name for picture in pictures]))
    return page


def summary(record: BenchRecord) -> dict[str, Any]:
    """The conditions of the run, and the table with medians and spreads."""
    return {
        **record.model_dump(mode="json", exclude={"results"}),
        "trials": len(record.results),
        "table": [{"peer": line.peer, **line.model_dump(mode="json")} for line in lines(record.results)],
    }


def _page(record: BenchRecord, pictures: Iterable[str]) -> str:
    parts = [f"<!DOCTYPE html><meta charset=utf-8><title>{_TITLES[record.kind]}</title><style>{_STYLE}</style>"]
    parts += [f"<h1>{_TITLES[record.kind]}</h1>", f"<p class=dim>{xml(_conditions(record))}</p>"]
    parts += [f"<p class=dim>{xml(note)}</p>" for note in _NOTES.splitlines()]
    parts += [f'<img src="{xml(name)}" alt="{xml(Path(name).stem)}">' for name in pictures]
    for title, head, rows in bench_tables(record):
        parts.append(f"<h2>{xml(title)}</h2><table><tr>{_cells('th', head)}</tr>")
        parts += [f"<tr>{_cells('td', row)}</tr>" for row in rows]
        parts.append("</table>")
    parts.append("<h2>Programs and settings</h2><ul>")
    parts += [f"<li>{xml(f'{name}: {version}')}</li>" for name, version in sorted(record.versions.items())]
    parts += [f"<li>{xml(f'{name} = {value}')}</li>" for name, value in sorted(record.settings.items())]
    parts.append("</ul>\n")
    return "\n".join(parts)


def _conditions(record: BenchRecord) -> str:
    ceiling = "not measured"
    if record.ceiling is not None:
        packets, bits = record.ceiling.packets_per_s / 1000, brief_rate(record.ceiling.bits_per_s)
        ceiling = f"{packets:.1f} thousand packets of 1,500 bytes a second one way ({bits})"
    return (
        f"{record.started_at}; {record.host}; core: {record.core}; it carries {ceiling}; fastest rate used "
        f"{brief_rate(record.fastest_bps)}; TCP on the nodes: {record.congestion_control}; {record.repeats} repeats"
    )


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{xml(text)}</{tag}>" for text in texts)
