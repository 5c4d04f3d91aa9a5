"""Measures a lab's links: probe agents on the nodes, rounds and verdicts as ``plan.fidelity`` decides."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import harness.wan
from harness.errors import LabError
from harness.model.impairment import Impairment
from harness.model.measurement import LinkMeasurement
from harness.nodes.port import Node
from harness.plan.addressing import LabPlan
from harness.plan.fidelity import MAX_ROUNDS, ProbePlan, join_counts, judge, plan_probe, probe_again

PROBE_PORT = 40404
_START_AHEAD_NS = 400_000_000
"""Time for every node's agent to start, so that all begin together."""

_SLACK_S = 20.0
_AGENT = Path(harness.wan.__file__).with_name("probe_agent.py")

_NO_PROBES = {"packets": 0, "interval_us": 1, "payload_bytes": 0, "drain_us": 0}

LinkKey = tuple[str, str]


def measure_links(
    plan: LabPlan,
    nodes: Mapping[str, Node],
    wanted: Mapping[LinkKey, Impairment],
    *,
    progress: Callable[[str], None] | None = None,
    rounds: int | None = None,
) -> tuple[LinkMeasurement, ...]:
    """Probe all links at once, then again those that failed, at most ``rounds`` times (default: the plan's limit).

    ``wanted`` is what each link is to be judged against. Raises LabError when a probe agent fails.
    """
    results: dict[LinkKey, LinkMeasurement] = {}
    pending = list(wanted)
    for number in range(1, min(rounds or MAX_ROUNDS, MAX_ROUNDS) + 1):
        if progress is not None:
            again = f", round {number}" if number > 1 else ""
            progress(f"probing {len(pending)} links{again}")
        results.update(_probe(plan, nodes, wanted, pending, number))
        pending = [link for link in pending if probe_again(results[link])]
        if not pending:
            break
    return tuple(results[link] for link in wanted)


def _probe(
    plan: LabPlan,
    nodes: Mapping[str, Node],
    wanted: Mapping[LinkKey, Impairment],
    links: Iterable[LinkKey],
    number: int,
) -> dict[LinkKey, LinkMeasurement]:
    """One round over some links."""
    probes = {link: plan_probe(wanted[link], wanted[_reverse(link)], number) for link in links}
    reports = _run_agents(plan, nodes, probes)
    counts = {(count.source, count.destination): count for count in join_counts(reports)}
    missing = [f"{source}>{destination}" for source, destination in probes if (source, destination) not in counts]
    if missing:
        raise LabError(f"the probe agents say nothing of {', '.join(missing)}")
    return {
        link: judge(counts[link], wanted[link], wanted[_reverse(link)], probe, number) for link, probe in probes.items()
    }


def _run_agents(
    plan: LabPlan, nodes: Mapping[str, Node], probes: Mapping[LinkKey, ProbePlan]
) -> list[Mapping[str, Any]]:
    sites = [site for site in plan.topology.site_names if any(site in link for link in probes)]
    linger_us = max(probe.duration_us for probe in probes.values())
    start_ns = time.monotonic_ns() + _START_AHEAD_NS
    source = _AGENT.read_text()

    def run(site: str) -> Mapping[str, Any]:
        peers = [
            _peer(plan, probes.get((site, other)), other)
            for other in sites
            if (site, other) in probes or (other, site) in probes
        ]
        task = {
            "site": site,
            "listen": nodes[site].wan_address,
            "port": PROBE_PORT,
            "start_ns": start_ns,
            "linger_us": linger_us,
            "peers": peers,
        }
        deadline_s = linger_us / 1e6 + _SLACK_S
        done = nodes[site].remote.run(["python3", "-", json.dumps(task)], stdin=source, timeout_s=deadline_s)
        report: Mapping[str, Any] = json.loads(done.stdout)
        return report

    with ThreadPoolExecutor(max_workers=len(sites)) as pool:
        return list(pool.map(run, sites))


def _peer(plan: LabPlan, probe: ProbePlan | None, site: str) -> dict[str, Any]:
    """What an agent is told of one other site; without a probe it only answers."""
    stream = _NO_PROBES if probe is None else probe.model_dump()
    return {"site": site, "address": str(plan.site(site).wan_address), **stream}


def _reverse(link: LinkKey) -> LinkKey:
    return link[1], link[0]
