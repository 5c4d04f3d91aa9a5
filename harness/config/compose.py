"""What a topology document means: one impairment for each ordered pair of sites.

A link's keys are its own, else its profile's, else the defaults'. Access lines then stand in series with it
(harness.config.series); what the whole series leaves open, such as the default buffer, is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from harness.config.cross_traffic_keys import cross_traffic_problems
from harness.config.link_keys import IMPAIRMENT_KEYS, LinkKeys, bytes_in, to_impairment
from harness.config.problems import Problem
from harness.config.profile_document import ProfileDocument
from harness.config.series import NotInSeries, in_series
from harness.config.timeline_events import event_of
from harness.config.topology_document import BetweenLink, DefaultsDocument, DirectedLink, TopologyDocument
from harness.config.trace_keys import FoundTrace, plays
from harness.config.yaml_tree import Path, YamlTree
from harness.model.impairment import Impairment
from harness.model.topology import Link, Site, Topology
from harness.model.units import format_duration, format_size

SMALLEST_DEFAULT_BUFFER = 64 << 10

Direction = Literal["uplink", "downlink"]


@dataclass(frozen=True)
class _Stage:
    """One line in a series. ``places`` says where in the file each key stands, for messages."""

    keys: LinkKeys
    delay_us: int
    places: Mapping[str, Path]


@dataclass(frozen=True)
class _Pair:
    """One directed link as it is described: where, by which keys, and by which half of which profile."""

    path: Path
    keys: LinkKeys
    delay_us: int | None
    profile: str | None
    direction: Direction
    source_note: str
    mtu: int | None
    trace: str | None = None


def compose(
    document: TopologyDocument,
    profiles: Mapping[str, ProfileDocument],
    tree: YamlTree,
    traces: Mapping[str, FoundTrace] = MappingProxyType({}),
) -> tuple[Topology | None, list[Problem]]:
    """The topology, or every reason why the numbers do not fit together. References must have been checked."""
    problems = list(cross_traffic_problems(document, tree))
    names = list(document.sites)
    described = {}
    for index, link in enumerate(document.links):
        for source, destination, pair in _directions(link, index):
            described[source, destination] = pair
    stages: dict[tuple[str, str], list[_Stage]] = {}
    pairs: dict[tuple[str, str], _Pair] = {}
    for ends in ((a, b) for a in names for b in names if a != b):
        pair = pairs[ends] = described.get(ends) or _default_pair(document.defaults, names, ends)
        own = _own_stage(pair, document.defaults, profiles, traces)
        if own is None:
            problems.append(tree.problem(pair.path, "the link has no rtt or delay; write 'rtt: 0 ms' if it adds none"))
            continue
        if pair.mtu is not None and pair.mtu > document.mtu:
            message = f"mtu {pair.mtu} is above the topology's {document.mtu}, which is the largest packet on any link"
            problems.append(tree.problem((*pair.path, "mtu"), message))
        stages[ends] = [*_access(document, profiles, traces, ends[0], "uplink"), own]
        stages[ends] += _access(document, profiles, traces, ends[1], "downlink")
    links = []
    for ends, series in stages.items():
        back = stages.get((ends[1], ends[0]), series)
        impairment, wrong = _in_series(series, round_trip_us=_delay(series) + _delay(back), mtu=document.mtu)
        # Both directions of a link complain at one place; problems are unique by content.
        problems += [tree.problem(path, message) for path, message in wrong]
        links.append(_link(document, profiles, ends, pairs[ends], impairment, _beyond(document, series, ends)))
    if problems:
        return None, problems
    topology = Topology(
        name=document.name,
        description=document.description,
        source_note=document.source,
        mtu=document.mtu,
        sites=tuple(
            Site(
                name=name,
                title=site.title,
                kind=site.kind,
                access=site.access,
                more_nodes=tuple(site.more_nodes),
                nat=None if site.nat is None else site.nat.to_nat(),
                disk_bytes=site.disk,
                adjustable_clock=site.clock == "adjustable",
            )
            for name, site in document.sites.items()
        ),
        links=tuple(links),
        timeline=tuple(event_of(event) for event in document.timeline),
        cross_traffic=tuple(stream.to_model() for stream in document.cross_traffic),
        traces=plays(document, traces),
    )
    return topology, []


def profile_references(document: TopologyDocument) -> Iterator[tuple[Path, str]]:
    """Every profile that the document names, and where."""
    for name, site in document.sites.items():
        if site.access is not None:
            yield ("sites", name, "access"), site.access
    for index, link in enumerate(document.links):
        if link.profile is not None:
            yield ("links", index, "profile"), link.profile


def _directions(link: BetweenLink | DirectedLink, index: int) -> Iterator[tuple[str, str, _Pair]]:
    path: Path = ("links", index)
    match link:
        case BetweenLink(between=[first, second]):
            out, back = _halves(link.delay, link.rtt)
            trace = None if link.trace is None else link.trace.play
            yield first, second, _Pair(path, link, out, link.profile, "uplink", link.source, link.mtu, trace)
            yield second, first, _Pair(path, link, back, link.profile, "downlink", link.source, link.mtu, trace)
        case DirectedLink():
            direction: Direction = link.direction or "uplink"
            pair = _Pair(path, link, link.delay, link.profile, direction, link.source, link.mtu)
            yield link.from_, link.to, replace(pair, trace=None if link.trace is None else link.trace.play)


def _default_pair(defaults: DefaultsDocument, names: Sequence[str], ends: tuple[str, str]) -> _Pair:
    out, back = _halves(defaults.delay, defaults.rtt)
    forward = names.index(ends[0]) < names.index(ends[1])
    return _Pair(("defaults",), LinkKeys(), out if forward else back, None, "uplink", "", None)


def _halves(delay_us: int | None, rtt_us: int | None) -> tuple[int | None, int | None]:
    """One-way delays out and back; an odd microsecond goes out."""
    if rtt_us is None:
        return delay_us, delay_us
    return rtt_us - rtt_us // 2, rtt_us // 2


def _own_stage(
    pair: _Pair,
    defaults: DefaultsDocument,
    profiles: Mapping[str, ProfileDocument],
    traces: Mapping[str, FoundTrace],
) -> _Stage | None:
    layers: list[tuple[LinkKeys, Path | None]] = [(pair.keys, pair.path)]
    profile = None
    if pair.profile is not None:
        profile = profiles[pair.profile].direction(pair.direction)
        layers.append((profile, None))
    moving = None if pair.trace is None else traces[pair.trace].keys(pair.direction)
    if moving is not None:
        layers.append((moving, pair.path))
    layers.append((defaults, ("defaults",)))
    keys = {}
    places: dict[str, Path] = {}
    for key in IMPAIRMENT_KEYS:
        for layer, path in layers:
            value = getattr(layer, key)
            if value is not None:
                keys[key] = value
                places[key] = (*pair.path, "profile") if path is None else (*path, key)
                break
    delay_us = pair.delay_us
    for line in (profile, moving):
        if delay_us is None and line is not None:
            delay_us = line.delay
    if delay_us is None:
        delay_us, _ = _halves(defaults.delay, defaults.rtt)
    if delay_us is None:
        return None
    places["link"] = pair.path
    return _Stage(LinkKeys.model_construct(**keys), delay_us, places)


def _access(
    document: TopologyDocument,
    profiles: Mapping[str, ProfileDocument],
    traces: Mapping[str, FoundTrace],
    site: str,
    direction: Direction,
) -> list[_Stage]:
    described = document.sites[site]
    if not _has_access(document, site):
        return []
    place: Path = ("sites", site, "access")
    if described.access is not None:
        keys = profiles[described.access].direction(direction)
    else:
        assert described.trace is not None
        keys, place = traces[described.trace.play].keys(direction), ("sites", site, "trace")
    return [_Stage(keys, keys.delay or 0, dict.fromkeys((*IMPAIRMENT_KEYS, "link"), place))]


def _has_access(document: TopologyDocument, site: str) -> bool:
    return document.sites[site].access is not None or document.sites[site].trace is not None


def _beyond(
    document: TopologyDocument, series: Sequence[_Stage], ends: tuple[str, str]
) -> tuple[Impairment | None, Impairment | None]:
    """The link without the access line of its source, and of its destination, where they have one."""
    first = _has_access(document, ends[0])
    last = _has_access(document, ends[1])
    return _plain_series(series[1:]) if first else None, _plain_series(series[:-1]) if last else None


def _plain_series(series: Sequence[_Stage]) -> Impairment:
    whole = Impairment()
    for stage in series:
        # What does not combine has been told of the whole series.
        with suppress(NotInSeries):
            whole = in_series(whole, to_impairment(stage.keys, stage.delay_us))
    return whole


def _delay(series: Sequence[_Stage]) -> int:
    return sum(stage.delay_us for stage in series)


def _in_series(series: Sequence[_Stage], *, round_trip_us: int, mtu: int) -> tuple[Impairment, list[tuple[Path, str]]]:
    wrong: list[tuple[Path, str]] = []
    whole = Impairment()
    bottleneck: _Stage | None = None
    for stage in series:
        keys = stage.keys
        own = to_impairment(keys, stage.delay_us)
        wrong += [(stage.places[key], message) for key, message in _alone(own, keys)]
        wrong += [
            (stage.places[key], message)
            for key, message in _without_effect(own, keys)
            # A default is for those links that it suits.
            if stage.places[key][:1] != ("defaults",)
        ]
        if own.loss is not None and own.loss.mean >= 1:
            own = own.model_copy(update={"loss": None})
        if keys.rate is not None and (whole.rate_bps is None or keys.rate < whole.rate_bps):
            bottleneck = stage
        try:
            whole = in_series(whole, own)
        except NotInSeries as clash:
            wrong.append((stage.places[clash.key], str(clash)))
    if bottleneck is None or whole.rate_bps is None or wrong:
        return whole, wrong
    if whole.buffer_bytes is None and whole.buffer_packets is None and whole.active_queue is None:
        size = max(bytes_in(round_trip_us, whole.rate_bps), SMALLEST_DEFAULT_BUFFER)
        return whole.model_copy(update={"buffer_bytes": size}), wrong
    if whole.buffer_bytes is not None and whole.buffer_bytes < mtu:
        message = (
            f"a buffer of {format_size(whole.buffer_bytes)} is below one packet of the MTU; accepted: from {mtu} B"
        )
        wrong.append((bottleneck.places["buffer"], message))
    return whole, wrong


def _alone(line: Impairment, keys: LinkKeys) -> Iterator[tuple[str, str]]:
    """What is wrong with one line by itself: the key, and why."""
    if line.loss is not None and line.loss.mean >= 1:
        yield "loss", "nothing would ever arrive; to cut a site off for a while use an outage in timeline"
    if line.jitter_us > line.delay_us:
        yield (
            "jitter",
            f"jitter {format_duration(line.jitter_us)} is above the delay of {format_duration(line.delay_us)}",
        )
    for key in ("buffer", "queue", "framing"):
        written = getattr(keys, key)
        if written is not None and written != "drop-tail" and keys.rate is None:
            what = {"buffer": "a buffer", "queue": "an active queue", "framing": "framing"}[key]
            yield key, f"{what} needs a rate: only a bottleneck has a queue"
    if line.reorder is not None and not line.delay_us:
        yield "reorder", "reordering needs a delay: a packet overtakes by skipping it"


def _without_effect(line: Impairment, keys: LinkKeys) -> Iterator[tuple[str, str]]:
    """Keys that say nothing without another one."""
    for key in ("distribution", "in_order", "delay_correlation"):
        if getattr(keys, key) not in (None, True, 0.0) and not line.jitter_us:
            yield key, f"{key} needs a jitter: without one the delay does not vary"
    if line.loss_marks and line.loss is None:
        yield "ecn_marks", "marks need a loss: they take the place of lost packets"


def _link(
    document: TopologyDocument,
    profiles: Mapping[str, ProfileDocument],
    ends: tuple[str, str],
    pair: _Pair,
    impairment: Impairment,
    beyond: tuple[Impairment | None, Impairment | None],
) -> Link:
    notes = [pair.source_note or document.source]
    if pair.profile is not None:
        notes.append(f"profile {pair.profile} ({pair.direction}): {profiles[pair.profile].source}")
    for site, direction in ((ends[0], "uplink"), (ends[1], "downlink")):
        access = document.sites[site].access
        if access is not None:
            notes.append(f"access {access} ({direction}) of {site}: {profiles[access].source}")
    return Link(
        source=ends[0],
        destination=ends[1],
        impairment=impairment,
        profile=pair.profile,
        source_note="; ".join(note for note in notes if note),
        mtu=pair.mtu,
        beyond_source=beyond[0],
        beyond_destination=beyond[1],
    )
