"""What can be said of every lab of a host without opening its core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import LabError
from harness.lab.links import LinkBook
from harness.lab.state import LabPaths, LabState, lab_ids, read_state, resolve_state_root
from harness.model.impairment_text import describe
from harness.nodes import host_processes


def describe_labs(state_root: Path | None = None) -> list[dict[str, Any]]:
    """One JSON-able description for each lab, by name."""
    root = resolve_state_root(state_root)
    return [_describe(LabPaths(state_root=root, lab_id=lab_id)) for lab_id in lab_ids(root)]


def _describe(paths: LabPaths) -> dict[str, Any]:
    try:
        state = read_state(paths)
    except LabError as error:
        return {"lab": paths.lab_id, "state": "unfinished", "reason": error.message}
    reason = paths.broken.read_text() if paths.broken.exists() else ""
    return {
        "lab": paths.lab_id,
        "state": "broken" if reason else "up",
        "reason": reason,
        "topology": state.plan.topology.name,
        "placement": state.core["placement"],
        "since": state.created_at,
        "up_seconds": round(state.up_seconds, 3),
        "state_dir": str(paths.directory),
        "sites": _sites(paths, state),
        "changed_links": _changed_links(paths, state),
    }


def _sites(paths: LabPaths, state: LabState) -> list[dict[str, Any]]:
    return [
        {
            "site": plan.site,
            "wan_address": str(plan.wan_address),
            "management_address": str(plan.management_address),
            "netns": plan.netns,
            "data_dir": str(paths.data / plan.site / "data"),
            "alive": host_processes.start_ticks(node.pid) == node.start_ticks,
        }
        for plan, node in zip(state.plan.sites, state.nodes, strict=True)
    ]


def _changed_links(paths: LabPaths, state: LabState) -> list[dict[str, str]]:
    book = LinkBook(state.plan.topology, paths.changes)
    return [
        {
            "link": f"{source}>{destination}",
            "now": describe(now.in_force),
            "topology": describe(book.initial[source, destination].in_force),
        }
        for (source, destination), now in book.states().items()
        if now != book.initial[source, destination]
    ]
