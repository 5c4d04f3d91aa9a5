"""Measures a lab's links: probers on the nodes, sessions, rounds and verdicts as harness.plan decides."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import InputError, LabError, NodeError
from harness.model.impairment import Impairment
from harness.model.measurement import Certificate, Depth, LinkCertificate, MeasuringNoise
from harness.model.verdict import Verdict
from harness.nodes.port import Node
from harness.plan.addressing import PROBE_PORT, LabPlan
from harness.plan.certificate import MAX_ROUNDS, certify, merged_noise, probe_again
from harness.plan.prober_protocol import Observation, noise_of, observations, overflowed, prober_plan
from harness.plan.probing import LinkKey, Session, plan_sessions, sampled_links
from harness.wan.native_program import compiled

PROBER = "native/prober.c"
_NAME_ON_NODE = "longhaul-prober"
_START_AHEAD_S = 0.3
_START_AHEAD_EACH_S = 0.02
"""Time for every node's prober to start, so that all begin together."""

_SLACK_S = 20.0
_NOT_THERE = (126, 127)
"""Exit codes of a program that the node does not see."""

Progress = Callable[[str], None]
Advance = Callable[[float], None]


def measure_links(
    plan: LabPlan,
    nodes: Mapping[str, Node],
    wanted: Mapping[LinkKey, Impairment],
    *,
    depth: Depth = "quick",
    links: Iterable[LinkKey] | None = None,
    rounds: int | None = None,
    progress: Progress | None = None,
    advance: Advance | None = None,
) -> Certificate:
    """Probe links, then again those that failed, in a full measurement also those of which something is undecided, at
    most ``rounds`` times (default: the plan's limit).

    ``wanted`` is what each link of the lab is to be judged against; ``links`` are all unless given. ``progress`` hears
    what is being done, ``advance`` the share of it that is done, 0 to 1. Raises InputError for a link that the lab does
    not have, LabError when a node cannot be reached or a prober ends early.
    """
    chosen, note = _chosen(plan, wanted, depth, links)
    mtu = {(link.source, link.destination): link.mtu or plan.topology.mtu for link in plan.topology.links}
    measuring = _Measuring(plan, nodes, progress or _unheard, advance or _unheard)
    began, started_at = time.monotonic(), datetime.now(UTC)
    found: dict[LinkKey, LinkCertificate] = {}
    failed = dict.fromkeys(chosen, 0)
    last_seen: dict[LinkKey, list[Observation]] = {}
    pending: Sequence[LinkKey] = chosen
    for number in range(1, min(rounds or MAX_ROUNDS, MAX_ROUNDS) + 1):
        sessions = plan_sessions(wanted, pending, depth, mtu, number)
        seen = measuring.carry_out(sessions, pending, number)
        last_seen.update(seen)
        for link in pending:
            back = link[1], link[0]
            found[link] = certify(
                seen[link],
                last_seen.get(back, ()),
                wanted[link],
                wanted[back],
                depth=depth,
                mtu=mtu[link],
                round_number=number,
            )
            failed[link] += found[link].verdict is Verdict.INVALID
        pending = [link for link in pending if probe_again(found[link], failed[link])]
        if not pending:
            break
    return Certificate(
        depth=depth,
        started_at=started_at.isoformat(timespec="seconds"),
        elapsed_s=round(time.monotonic() - began, 3),
        links_in_lab=len(wanted),
        note=note,
        common_clock=measuring.common_clock,
        noise=measuring.noise,
        links=tuple(found[link] for link in chosen),
    )


def _chosen(
    plan: LabPlan, wanted: Mapping[LinkKey, Impairment], depth: Depth, links: Iterable[LinkKey] | None
) -> tuple[list[LinkKey], str]:
    if links is None:
        return sampled_links(plan.topology.site_names, depth, wanted)
    chosen = list(dict.fromkeys(links))
    for source, destination in chosen:
        if (source, destination) not in wanted:
            sites = ", ".join(plan.topology.site_names)
            raise InputError(f"there is no link {source}>{destination}", hint=f"Sites: {sites}.")
    return chosen, f"{len(chosen)} of {len(wanted)} links, as asked for" if len(chosen) < len(wanted) else ""


class _Measuring:
    """Sessions on the nodes of one lab. A site is probed from its first node, which bears the site's name."""

    def __init__(self, plan: LabPlan, nodes: Mapping[str, Node], progress: Progress, advance: Advance) -> None:
        self._plan = plan
        self._nodes = nodes
        self._progress = progress
        self._advance = advance
        self._program = compiled(PROBER)
        self._copied: set[str] = set()
        self.noise = MeasuringNoise()
        self.common_clock = True

    def carry_out(
        self, sessions: Sequence[Session], links: Sequence[LinkKey], number: int
    ) -> dict[LinkKey, list[Observation]]:
        """What became of every stream, by link."""
        seen: dict[LinkKey, list[Observation]] = {link: [] for link in links}
        total_us = sum(session.end_us for session in sessions) or 1
        done_us = 0
        again = f", round {number}" if number > 1 else ""
        for session in sessions:
            count = len({stream.link for stream in session.streams if stream.kind != "noise"})
            self._progress(f"measuring {session.title} of {count} link{'s' * (count != 1)}{again}")
            for one in self._run(session):
                if one.stream.kind != "noise":
                    seen[one.stream.link].append(one)
            done_us += session.end_us
            self._advance(done_us / total_us)
        return seen

    def _run(self, session: Session) -> list[Observation]:
        sites = list(dict.fromkeys(site for stream in session.streams for site in stream.link))
        token = secrets.randbits(32)
        ahead_s = _START_AHEAD_S + _START_AHEAD_EACH_S * len(sites)
        start_ns = time.monotonic_ns() + round(ahead_s * 1e9)
        reach = {site: self._nodes[site].public_address for site in sites}

        def run(site: str) -> str:
            listen = (self._nodes[site].wan_address, PROBE_PORT)
            text = prober_plan(session, site, token=token, start_ns=start_ns, listen=listen, reach=reach)
            return self._probe(site, text, session.end_us / 1e6 + ahead_s + _SLACK_S)

        with ThreadPoolExecutor(max_workers=len(sites)) as pool:
            answers = dict(zip(sites, pool.map(run, sites), strict=True))
        full = overflowed(answers)
        if full:
            raise LabError(
                f"the probers at {', '.join(full)} could not keep up with what arrived",
                hint="This machine is too busy to measure; try again when it is quieter.",
            )
        try:
            found = observations(session, answers)
        except ValueError as error:
            raise LabError(f"measuring the links failed: {error}") from error
        self.noise = merged_noise(self.noise, noise_of(answers, found))
        self.common_clock = self.common_clock and all(one.common_clock for one in found)
        return found

    def _probe(self, site: str, text: str, deadline_s: float) -> str:
        """The prober's answer. It is run from where it was compiled if the node sees that, else from a copy."""
        remote = self._nodes[site].remote
        copy = f"{self._nodes[site].data_dir}/.{_NAME_ON_NODE}"
        program = copy if site in self._copied else str(self._program)
        done = remote.run([program], stdin=text, timeout_s=deadline_s, check=False)
        if done.exit_code in _NOT_THERE and site not in self._copied:
            remote.put(Path(self._program), copy)
            remote.run(["chmod", "755", copy])
            self._copied.add(site)
            return self._probe(site, text, deadline_s)
        if done.exit_code != 0:
            why = done.stderr.strip().removeprefix("prober: ") or f"it ended with {done.exit_code}"
            raise NodeError(f"the prober at {site} failed: {why}")
        return done.stdout


def _unheard(_: object) -> None:
    """For callers that want to hear nothing."""
