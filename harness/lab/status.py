"""What can be said of every lab of a host without opening its core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import LabError
from harness.lab.links import LinkBook
from harness.lab.state import LabPaths, LabSummary, lab_ids, read_summary, read_topology, resolve_state_root
from harness.model.impairment_text import describe
from harness.nodes import host_processes


def describe_labs(state_root: Path | None = None) -> list[dict[str, Any]]:
    """One JSON-able description for each lab, by name."""
    root = resolve_state_root(state_root)
    return [_describe(LabPaths(state_root=root, lab_id=lab_id)) for lab_id in lab_ids(root)]


def _describe(paths: LabPaths) -> dict[str, Any]:
    try:
        summary = read_summary(paths)
    except LabError as error:
        return {"lab": paths.lab_id, "state": "unfinished", "reason": error.message}
    reason = paths.broken.read_text() if paths.broken.exists() else ""
    return {
        "lab": paths.lab_id,
        "state": "broken" if reason else "up",
        "reason": reason,
        "topology": summary.topology_name,
        "placement": summary.core["placement"],
        "since": summary.created_at,
        "up_seconds": round(summary.up_seconds, 3),
        "state_dir": str(paths.directory),
        "nodes": _nodes(paths, summary),
        "changed_links": _changed_links(paths),
    }


def _nodes(paths: LabPaths, summary: LabSummary) -> list[dict[str, Any]]:
    ipv6 = summary.core["ipv6"]
    return [
        {
            "node": plan.name,
            "site": plan.site,
            "wan_address": str(plan.address),
            "wan_address6": str(plan.address6) if ipv6 else None,
            "public_address": str(plan.public_address),
            "management_address": str(plan.management_address),
            "netns": plan.netns,
            "data_dir": str(paths.data / plan.name / "data"),
            "alive": host_processes.start_ticks(state.pid) == state.start_ticks,
        }
        for plan, state in summary.nodes
    ]


def _changed_links(paths: LabPaths) -> list[dict[str, str]]:
    if not paths.changes.exists():
        return []
    book = LinkBook(read_topology(paths), paths.changes)
    return [
        {
            "link": f"{source}>{destination}",
            "now": describe(now.in_force),
            "topology": describe(book.initial[source, destination].in_force),
        }
        for (source, destination), now in book.states().items()
        if now != book.initial[source, destination]
    ]
