"""The benchmark of the WAN core as a directory: core.json, pictures, and index.html with all of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.report.markup import xml
from harness.report.plots import Bar, Mark, Panel, Points, Series, bars, line_panels, scatter
from harness.run.core_benchmark import LARGE, CoreBenchmark, SetUp, Throughput

GOAL_CHANGE_MS = 2.0

_STYLE = """
body { font: 15px/1.5 "DejaVu Sans", sans-serif; color: #1c2733; margin: 2rem auto; max-width: 62rem; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem } p.dim { color: #5b6b7b }
table { border-collapse: collapse; width: 100% } th, td { padding: .3rem .6rem; text-align: right }
th { border-bottom: 1px solid #5b6b7b; font-weight: 600 } td { border-bottom: 1px solid #dde4eb }
th:first-child, td:first-child { text-align: left } img { max-width: 100%; margin-top: .8rem }
"""

Table = tuple[str, Sequence[str], list[list[str]]]


def write_core_report(result: CoreBenchmark, directory: Path) -> Path:
    """Write everything into ``directory`` (made when it is missing); the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "core.json").write_text(result.model_dump_json(indent=2) + "\n")
    pictures = _pictures(result, directory)
    page = directory / "index.html"
    page.write_text(_page(result, [picture.name for picture in pictures]))
    return page


def core_tables(result: CoreBenchmark) -> tuple[Table, ...]:
    """Title, head and rows of each table, for a terminal and for the page."""
    return (
        (
            "Packets through the core",
            ("path", "sites", "load", "kpps", "Gbit/s", "flood kpps", "CPU s/Gbit", "core's"),
            [_throughput_row(one) for one in result.throughput],
        ),
        (
            "One change of one link, read back",
            ("path", "sites", "changes", "p50 ms", "p99 ms"),
            [
                [one.path, str(one.sites), str(one.changes), f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}"]
                for one in result.changes
            ],
        ),
        (
            "Labs",
            ("path", "sites", "links", "core", "up s", "down s", "core MiB", "lab MiB"),
            [_set_up_row(one) for one in result.set_up],
        ),
    )


def _throughput_row(one: Throughput) -> list[str]:
    return [
        one.path,
        str(one.sites),
        _load(one),
        f"{one.carried_packets_per_s / 1000:.1f}",
        f"{one.carried_gbit_s:.3f}",
        f"{one.flood_packets_per_s / 1000:.1f}",
        _optional(one.machine_cpu_s_per_gbit),
        _optional(one.core_cpu_s_per_gbit),
    ]


def _set_up_row(one: SetUp) -> list[str]:
    return [
        one.path,
        str(one.sites),
        str(one.links),
        "warm" if one.warm else "cold",
        f"{one.up_s:.2f}",
        f"{one.down_s:.2f}",
        "-" if one.core_mib is None else f"{one.core_mib:.0f}",
        f"{one.lab_mib:.0f}",
    ]


def _load(one: Throughput) -> str:
    return f"{one.packet_bytes} B {'one way' if one.flows == 1 else 'both ways'}"


def _optional(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _pictures(result: CoreBenchmark, directory: Path) -> list[Path]:
    made = bars(
        directory / "throughput.png",
        "Highest rate with at most 0.1% lost",
        [
            Bar(
                label=f"{one.path}, {one.sites} sites, {_load(one)}",
                value=one.carried_packets_per_s / 1000,
                group=one.path,
                note=f"{one.carried_gbit_s:.2f} Gbit/s",
            )
            for one in result.throughput
        ],
        x_label="packets per second, thousands",
    )
    made += bars(
        directory / "cost.png",
        f"Cost of carrying packets of {LARGE} bytes, load generators included",
        [
            Bar(label=f"{one.path}, {one.sites} sites, {_load(one)}", value=one.machine_cpu_s_per_gbit, group=one.path)
            for one in result.throughput
            if one.machine_cpu_s_per_gbit is not None and one.packet_bytes == LARGE
        ],
        x_label="CPU seconds for each Gbit",
    )
    if len({one.links for one in result.set_up}) > 1:
        made += line_panels(
            directory / "set-up.png",
            "Labs by number of links",
            [
                Panel("up, s", list(_over_links(result, "up_s"))),
                Panel("down, s", list(_over_links(result, "down_s"))),
                Panel(
                    "memory, MiB", [*_over_links(result, "core_mib", "the core alone"), *_over_links(result, "lab_mib")]
                ),
            ],
            x_label="directed links",
        )
    made += scatter(
        directory / "changes.png",
        "One change of one link, set and read back",
        [
            Points(
                label=f"{path}, {name}",
                x=[one.sites for one in result.changes if one.path == path],
                y=[getattr(one, field) for one in result.changes if one.path == path],
                line=True,
            )
            for path in sorted({one.path for one in result.changes})
            for name, field in (("median", "p50_ms"), ("99th percentile", "p99_ms"))
        ],
        x_label="sites",
        y_label="ms",
        marks=[Mark("goal", y=GOAL_CHANGE_MS)],
    )
    return list(made)


def _over_links(result: CoreBenchmark, field: str, whose: str = "") -> Iterable[Series]:
    for path, warm in sorted({(one.path, one.warm) for one in result.set_up}):
        labs = sorted((one for one in result.set_up if (one.path, one.warm) == (path, warm)), key=lambda one: one.links)
        core = f", {'warm' if warm else 'cold'} core" if path == "vm" else ""
        values = [getattr(one, field) for one in labs]
        if any(value is not None for value in values):
            yield Series(f"{path}{core}: {whose}" if whose else f"{path}{core}", [one.links for one in labs], values)


def _page(result: CoreBenchmark, pictures: Sequence[str]) -> str:
    host = result.host
    machine = f"{host.processors} × {host.processor}, linux {host.kernel}, {host.busy_cores:.2f} processors busy before"
    parts = [f"<!DOCTYPE html><meta charset=utf-8><title>WAN core benchmark</title><style>{_STYLE}</style>"]
    parts += ["<h1>WAN core benchmark</h1>", f"<p class=dim>{xml(machine)}</p>"]
    for title, head, rows in core_tables(result):
        parts.append(f"<h2>{xml(title)}</h2><table><tr>{_cells('th', head)}</tr>")
        parts += [f"<tr>{_cells('td', row)}</tr>" for row in rows]
        parts.append("</table>")
    parts += [f'<img src="{xml(name)}" alt="{xml(Path(name).stem)}">' for name in pictures]
    parts.append("<h2>Cores</h2><ul>")
    for core in result.cores:
        parts.append(f"<li>{xml(f'{core.path}, {core.sites} sites: linux {core.kernel}, {core.detail}')}</li>")
    parts.append(
        "</ul><p class=dim>veth: two hosts and a router in namespaces, which shapes nothing. Packets are UDP; "
    )
    parts.append("their size counts the IP header. A Gbit is 10<sup>9</sup> bits of IP.</p>\n")
    return "\n".join(parts)


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{xml(text)}</{tag}>" for text in texts)
