"""What can be said of every lab of a host without opening its core."""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import LabError
from harness.lab.core_process import core_machine, programs_running
from harness.lab.cross_traffic import NAME
from harness.lab.fault_desk import JOURNAL
from harness.lab.fault_journal import FaultJournal
from harness.lab.links import LinkBook
from harness.lab.state import LabPaths, LabSummary, lab_ids, read_summary, read_topology, resolve_state_root
from harness.model.impairment_text import describe
from harness.model.timeline import subject_of
from harness.model.topology import Topology
from harness.nodes import host_processes


def describe_labs(state_root: Path | None = None) -> list[dict[str, Any]]:
    """One JSON-able description for each lab, by name."""
    root = resolve_state_root(state_root)
    return [_describe(LabPaths(state_root=root, lab_id=lab_id)) for lab_id in lab_ids(root)]


def _describe(paths: LabPaths) -> dict[str, Any]:
    try:
        summary, topology = read_summary(paths), read_topology(paths)
    except LabError as error:
        return {"lab": paths.lab_id, "state": "unfinished", "reason": error.message}
    reason = paths.broken.read_text() if paths.broken.exists() else ""
    return {
        "lab": paths.lab_id,
        "state": "broken" if reason else "up",
        "reason": reason,
        "topology": summary.topology_name,
        "placement": summary.core["placement"],
        "kernel": _core_kernel(summary),
        "since": summary.created_at,
        "age_s": _age_s(summary),
        "up_seconds": round(summary.up_seconds, 3),
        "state_dir": str(paths.directory),
        "nodes": _nodes(paths, summary),
        "changed_links": _changed_links(paths, topology),
        "faults": _faults(paths),
        "cross_traffic": _cross_traffic(topology, summary),
    }


def _core_kernel(summary: LabSummary) -> str | None:
    """The release of the kernel that shapes; None when the core has ended."""
    if summary.core["placement"] != "vm":
        return platform.release()
    machine = core_machine(summary.core)
    return None if machine is None else machine.kernel


def _age_s(summary: LabSummary) -> float:
    return round((datetime.now(UTC) - datetime.fromisoformat(summary.created_at)).total_seconds(), 1)


def _faults(paths: LabPaths) -> list[dict[str, Any]]:
    now_s = time.monotonic()
    return [
        {
            "id": fault.id,
            "do": fault.event.do,
            "subject": subject_of(fault.event),
            "by": fault.origin,
            "age_s": round(now_s - fault.at_s, 1),
        }
        for fault in FaultJournal(paths.directory / JOURNAL).in_force()
    ]


def _cross_traffic(topology: Topology, summary: LabSummary) -> list[dict[str, Any]]:
    """What the topology declares, and whether its sender runs now."""
    streams = topology.cross_traffic
    if not streams:
        return []
    busy = set(programs_running(NAME, {plan.name: state.pid for plan, state in summary.nodes}).values())
    return [
        {
            "link": f"{stream.source}>{stream.destination}",
            "pattern": stream.pattern,
            "rate_bps": stream.rate_bps,
            "runs": stream.source in busy,
        }
        for stream in streams
    ]


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


def _changed_links(paths: LabPaths, topology: Topology) -> list[dict[str, str]]:
    if not paths.changes.exists():
        return []
    book = LinkBook(topology, paths.changes)
    return [
        {
            "link": f"{source}>{destination}",
            "now": describe(now.in_force),
            "topology": describe(book.initial[source, destination].in_force),
        }
        for (source, destination), now in book.states().items()
        if now != book.initial[source, destination]
    ]
