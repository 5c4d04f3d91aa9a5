"""What a topology document means: one impairment for each ordered pair of sites.

A link's keys are its own, else its profile's, else the defaults'. Access lines then stand in series with it: delays and
jitters add, losses combine as independent stages, the slowest stage is the bottleneck and brings its buffer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.config.fields import Buffer
from harness.config.link_keys import LinkKeys, to_loss
from harness.config.problems import Problem
from harness.config.profile_document import ProfileDocument
from harness.config.topology_document import BetweenLink, DefaultsDocument, DirectedLink, TopologyDocument
from harness.config.yaml_tree import Path, YamlTree
from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss, Loss
from harness.model.topology import Link, Outage, Site, Topology
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


def compose(
    document: TopologyDocument, profiles: Mapping[str, ProfileDocument], tree: YamlTree
) -> tuple[Topology | None, list[Problem]]:
    """The topology, or every reason why the numbers do not fit together. References must have been checked."""
    problems: list[Problem] = []
    names = list(document.sites)
    described = {}
    for index, link in enumerate(document.links):
        for source, destination, pair in _directions(link, index):
            described[source, destination] = pair
    stages: dict[tuple[str, str], list[_Stage]] = {}
    pairs: dict[tuple[str, str], _Pair] = {}
    for ends in ((a, b) for a in names for b in names if a != b):
        pair = pairs[ends] = described.get(ends) or _default_pair(document.defaults, names, ends)
        own = _own_stage(pair, document.defaults, profiles)
        if own is None:
            problems.append(tree.problem(pair.path, "the link has no rtt or delay; write 'rtt: 0 ms' if it adds none"))
            continue
        stages[ends] = [*_access(document, profiles, ends[0], "uplink"), own]
        stages[ends] += _access(document, profiles, ends[1], "downlink")
    links = []
    for ends, series in stages.items():
        back = stages.get((ends[1], ends[0]), series)
        impairment, wrong = _in_series(series, round_trip_us=_delay(series) + _delay(back), mtu=document.mtu)
        # Both directions of a link complain at one place; problems are unique by content.
        problems += [tree.problem(path, message) for path, message in wrong]
        links.append(_link(document, profiles, ends, pairs[ends], impairment))
    if problems:
        return None, problems
    topology = Topology(
        name=document.name,
        description=document.description,
        source_note=document.source,
        mtu=document.mtu,
        sites=tuple(
            Site(name=name, title=site.title, kind=site.kind, access=site.access)
            for name, site in document.sites.items()
        ),
        links=tuple(links),
        timeline=tuple(
            Outage(
                site=outage.site,
                at_s=outage.at / 1e6,
                duration_s=outage.for_ / 1e6,
                every_s=None if outage.every is None else outage.every / 1e6,
            )
            for outage in document.timeline
        ),
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
            yield first, second, _Pair(path, link, out, link.profile, "uplink", link.source)
            yield second, first, _Pair(path, link, back, link.profile, "downlink", link.source)
        case DirectedLink():
            direction: Direction = link.direction or "uplink"
            yield link.from_, link.to, _Pair(path, link, link.delay, link.profile, direction, link.source)


def _default_pair(defaults: DefaultsDocument, names: Sequence[str], ends: tuple[str, str]) -> _Pair:
    out, back = _halves(defaults.delay, defaults.rtt)
    forward = names.index(ends[0]) < names.index(ends[1])
    return _Pair(("defaults",), LinkKeys(), out if forward else back, None, "uplink", "")


def _halves(delay_us: int | None, rtt_us: int | None) -> tuple[int | None, int | None]:
    """One-way delays out and back; an odd microsecond goes out."""
    if rtt_us is None:
        return delay_us, delay_us
    return rtt_us - rtt_us // 2, rtt_us // 2


def _own_stage(pair: _Pair, defaults: DefaultsDocument, profiles: Mapping[str, ProfileDocument]) -> _Stage | None:
    layers: list[tuple[LinkKeys, Path | None]] = [(pair.keys, pair.path)]
    profile = None
    if pair.profile is not None:
        profile = profiles[pair.profile].direction(pair.direction)
        layers.append((profile, None))
    layers.append((defaults, ("defaults",)))
    keys = {}
    places: dict[str, Path] = {}
    for key in ("jitter", "loss", "rate", "buffer"):
        for layer, path in layers:
            value = getattr(layer, key)
            if value is not None:
                keys[key] = value
                places[key] = (*pair.path, "profile") if path is None else (*path, key)
                break
    delay_us = pair.delay_us
    if delay_us is None and profile is not None:
        delay_us = profile.delay
    if delay_us is None:
        delay_us, _ = _halves(defaults.delay, defaults.rtt)
    if delay_us is None:
        return None
    places["link"] = pair.path
    return _Stage(LinkKeys.model_construct(**keys), delay_us, places)


def _access(
    document: TopologyDocument, profiles: Mapping[str, ProfileDocument], site: str, direction: Direction
) -> list[_Stage]:
    access = document.sites[site].access
    if access is None:
        return []
    keys = profiles[access].direction(direction)
    place: Path = ("sites", site, "access")
    return [_Stage(keys, keys.delay or 0, dict.fromkeys(("jitter", "loss", "rate", "buffer", "link"), place))]


def _delay(series: Sequence[_Stage]) -> int:
    return sum(stage.delay_us for stage in series)


def _in_series(series: Sequence[_Stage], *, round_trip_us: int, mtu: int) -> tuple[Impairment, list[tuple[Path, str]]]:
    wrong: list[tuple[Path, str]] = []
    loss: Loss | None = None
    for stage in series:
        own = to_loss(stage.keys.loss)
        if own is not None and own.mean >= 1:
            message = "nothing would ever arrive; to cut a site off for a while use an outage in timeline"
            wrong.append((stage.places["loss"], message))
            continue
        combined = losses_in_series(loss, own)
        if combined is None and (loss or own):
            message = "burst loss meets burst loss in series; give one of the two an independent loss such as 1%"
            wrong.append((stage.places["loss"], message))
        loss = combined
        if (stage.keys.jitter or 0) > stage.delay_us:
            message = f"jitter {format_duration(stage.keys.jitter or 0)} is above the delay of "
            wrong.append((stage.places["jitter"], message + format_duration(stage.delay_us)))
        if stage.keys.buffer is not None and stage.keys.rate is None:
            wrong.append((stage.places["buffer"], "a buffer needs a rate: only a bottleneck has a queue"))
    limited = [stage for stage in series if stage.keys.rate is not None]
    bottleneck = min(limited, key=lambda stage: stage.keys.rate or 0, default=None)
    rate_bps = buffer_bytes = None
    if bottleneck is not None and bottleneck.keys.rate is not None:
        rate_bps = bottleneck.keys.rate
        buffer_bytes = _buffer(bottleneck.keys.buffer, rate_bps, round_trip_us)
        if buffer_bytes < mtu:
            message = f"a buffer of {format_size(buffer_bytes)} is below one packet of the MTU; accepted: from {mtu} B"
            wrong.append((bottleneck.places["buffer"], message))
    impairment = Impairment(
        delay_us=_delay(series),
        jitter_us=sum(stage.keys.jitter or 0 for stage in series),
        loss=loss,
        rate_bps=rate_bps,
        buffer_bytes=buffer_bytes,
    )
    return impairment, wrong


def _buffer(written: Buffer | None, rate_bps: int, round_trip_us: int) -> int:
    if written is None:
        return max(_bytes_in(round_trip_us, rate_bps), SMALLEST_DEFAULT_BUFFER)
    if written.size_bytes is not None:
        return written.size_bytes
    return max(_bytes_in(written.time_us or 0, rate_bps), 1)


def _bytes_in(time_us: int, rate_bps: int) -> int:
    """Bytes that leave at a rate in a time, rounded up."""
    return -(-time_us * rate_bps // 8_000_000)


def losses_in_series(first: Loss | None, second: Loss | None) -> Loss | None:
    """Loss of two independent stages in series; None when both have bursts, which no two-state model can express."""
    match first, second:
        case None, only:
            return only
        case only, None:
            return only
        case IndependentLoss(probability=p), IndependentLoss(probability=q):
            return IndependentLoss(probability=1 - (1 - p) * (1 - q))
        case (GilbertElliottLoss() as bursts, IndependentLoss(probability=p)) | (
            IndependentLoss(probability=p),
            GilbertElliottLoss() as bursts,
        ):
            return GilbertElliottLoss(
                good_to_bad=bursts.good_to_bad,
                bad_to_good=bursts.bad_to_good,
                loss_in_bad=1 - (1 - bursts.loss_in_bad) * (1 - p),
                loss_in_good=1 - (1 - bursts.loss_in_good) * (1 - p),
            )
    return None


def _link(
    document: TopologyDocument,
    profiles: Mapping[str, ProfileDocument],
    ends: tuple[str, str],
    pair: _Pair,
    impairment: Impairment,
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
    )
