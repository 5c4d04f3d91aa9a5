"""The way back: fields of an impairment, events and whole topologies as they would be written in a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.config.link_text import FIELDS_OF_KEY
from harness.errors import InputError
from harness.model import timeline as model
from harness.model.impairment import (
    ActiveQueue,
    DelayDistribution,
    FourStateLoss,
    GilbertElliottLoss,
    Impairment,
    IndependentLoss,
    Loss,
    Slots,
)
from harness.model.timeline import LinkChoice, TimelineEvent
from harness.model.topology import CrossTraffic, Site, Topology
from harness.model.trace import TracePlay
from harness.model.units import format_duration, format_rate, format_share, format_size

_PLAIN = re.compile(r"[A-Za-z0-9+-][A-Za-z0-9 ._/+%>-]*")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "none"}


def keys_of_fields(fields: Mapping[str, object]) -> dict[str, Any]:
    """The keys of a change that sets these fields, with ``without`` for those that it takes away.

    Raises InputError for what no file can say: a distribution that came from another file.
    """
    values = Impairment.model_validate(fields)
    keys: dict[str, Any] = {}
    without = []
    for key, names in FIELDS_OF_KEY.items():
        if not set(names) & set(fields):
            continue
        written = _written(key, values)
        if written is None:
            without.append(key)
        else:
            keys[key] = written
    if without:
        keys["without"] = without
    return keys


def keys_of_event(event: TimelineEvent) -> dict[str, Any]:
    """The event as a mapping with the keys of a timeline. Raises InputError as ``keys_of_fields``."""
    keys: dict[str, Any] = {"do": event.do}
    match event:
        case model.Outage() | model.NatRebind():
            keys["site"] = event.site
        case model.Partition():
            keys["groups"] = [list(group) for group in event.groups]
            keys |= {"one_way": True} if event.one_way else {}
        case model.Change() | model.Ramp() | model.Flap() | model.BlackHole() | model.Play():
            keys |= _choice(event.links)
        case _:
            keys["node"] = event.node
    keys["at"] = _time(event.at_s)
    if event.duration_s is not None:
        keys["for"] = _time(event.duration_s)
    if event.every_s is not None:
        keys["every"] = _time(event.every_s)
    if event.count is not None:
        keys["count"] = event.count
    match event:
        case model.Change():
            keys |= keys_of_fields(event.fields)
        case model.Ramp():
            keys |= {"over": _time(event.over_s), "step": _time(event.step_s), **keys_of_fields(event.fields)}
        case model.Flap():
            keys |= {"down": _time(event.down_s), "up": _time(event.up_s)}
            keys |= {} if event.flaps is None else {"flaps": event.flaps}
        case model.Play():
            keys |= {"trace": event.trace, "offset": _time(event.offset_s), "speed": event.speed, "loop": event.loop}
        case model.Kill() | model.Restart() | model.Pause() | model.Descriptors():
            target = event.target
            keys |= {name: text for name, text in (("role", target.role), ("command", target.command)) if text}
            keys |= {"spare": event.spare} if isinstance(event, model.Descriptors) and event.spare else {}
        case model.DiskFull():
            keys |= {"free": format_size(event.free_bytes)} if event.free_bytes else {}
        case model.DiskSlow():
            keys["rate"] = format_rate(8 * event.bytes_per_s)
        case model.ClockSkew():
            keys["gains"] = _signed(event.rate, format_share(abs(event.rate)))
        case model.ClockJump():
            keys["offset"] = _signed(event.offset_s, _time(abs(event.offset_s)))
        case model.CorruptFile():
            keys |= {"path": event.path, "bytes": event.bytes, "seed": event.seed}
        case _:
            pass
    return keys


def topology_text(topology: Topology, events: Sequence[TimelineEvent], comment: str) -> str:
    """A topology file that builds these sites and links and runs these events.

    Every link stands in it by itself, access lines worked in. Raises InputError as ``keys_of_fields``.
    """
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += ["version: 1", f"name: {topology.name}", f"description: {_flow(topology.description)}"]
    lines += [f"source: {_flow(topology.source_note)}", f"mtu: {topology.mtu}", "sites:"]
    lines += [f"  {site.name}: {_flow(_site(site))}" for site in topology.sites]
    lines.append("links:")
    for link in topology.links:
        keys = {"from": link.source, "to": link.destination, **_whole(link.impairment)}
        keys |= {} if link.mtu is None else {"mtu": link.mtu}
        lines.append(f"  - {_flow(keys)}")
    playing = [_played(trace) for trace in topology.traces]
    lines.append("timeline:" if events or playing else "timeline: []")
    lines += [f"  - {_flow(keys_of_event(event))}" for event in (*playing, *events)]
    lines += ["cross_traffic:"] if topology.cross_traffic else []
    lines += [f"  - {_flow(_stream(stream))}" for stream in topology.cross_traffic]
    return "\n".join(lines) + "\n"


def _played(trace: TracePlay) -> model.Play:
    """A trace that a link or a site follows all the time, as an event."""
    choice = LinkChoice(pairs=trace.pairs) if trace.site is None else LinkChoice(site=trace.site)
    return model.Play(links=choice, trace=trace.file, offset_s=trace.offset_s, speed=trace.speed, loop=trace.loop)


def _stream(stream: CrossTraffic) -> dict[str, Any]:
    keys: dict[str, Any] = {"from": stream.source, "to": stream.destination, "pattern": stream.pattern}
    keys |= {} if stream.rate_bps is None else {"rate": format_rate(stream.rate_bps)}
    if stream.pattern == "tcp":
        keys |= {"flows": stream.flows, "congestion_control": stream.congestion_control}
    else:
        keys["packet"] = f"{stream.packet_bytes} B"
    if stream.pattern == "on-off":
        keys |= {"on": _time(stream.on_s), "off": _time(stream.off_s)}
    keys["at"] = _time(stream.start_s)
    return keys | ({} if stream.duration_s is None else {"for": _time(stream.duration_s)})


def _whole(impairment: Impairment) -> dict[str, Any]:
    default = Impairment()
    differing = {name for name in Impairment.model_fields if getattr(impairment, name) != getattr(default, name)}
    keys = keys_of_fields(impairment.model_dump(mode="json", include=differing | {"delay_us"}))
    keys.pop("without", None)
    return keys


def _site(site: Site) -> dict[str, Any]:
    keys: dict[str, Any] = {"title": site.title, "kind": site.kind}
    if site.more_nodes:
        keys["more_nodes"] = list(site.more_nodes)
    if site.nat is not None:
        keys["nat"] = {
            "kind": site.nat.kind,
            "udp_timeout": _time(site.nat.udp_timeout_s),
            "udp_stream_timeout": _time(site.nat.udp_stream_timeout_s),
            "tcp_timeout": _time(site.nat.tcp_timeout_s),
        }
    if site.disk_bytes is not None:
        keys["disk"] = format_size(site.disk_bytes)
    if site.adjustable_clock:
        keys["clock"] = "adjustable"
    return keys


def _choice(choice: LinkChoice) -> dict[str, Any]:
    if choice.all:
        return {"all": True}
    if choice.site is not None:
        return {"site": choice.site}
    pairs = choice.pairs
    if len(pairs) == 2 and pairs[0] == pairs[1][::-1]:
        return {"between": list(pairs[0])}
    return {"links": [f"{source}>{destination}" for source, destination in pairs]}


def _written(key: str, values: Impairment) -> Any:
    """The key's value; None when it is taken away."""
    match key:
        case "delay":
            return format_duration(values.delay_us)
        case "jitter":
            return format_duration(values.jitter_us)
        case "distribution":
            return _distribution(values.distribution)
        case "delay_correlation":
            return format_share(values.delay_correlation)
        case "in_order":
            return values.in_order
        case "loss":
            return None if values.loss is None else _loss(values.loss)
        case "ecn_marks":
            return values.loss_marks
        case "duplicate" | "corrupt":
            chance = getattr(values, key)
            return None if chance is None else _shares(share=chance.share, correlation=chance.correlation)
        case "reorder":
            reorder = values.reorder
            if reorder is None:
                return None
            return {**_shares(share=reorder.share, correlation=reorder.correlation), "gap": f"{reorder.gap} packets"}
        case "slots":
            return None if values.slots is None else _slots(values.slots)
        case "rate":
            return None if values.rate_bps is None else format_rate(values.rate_bps)
        case "framing":
            framing = values.framing
            return None if framing is None else {name: f"{size} B" for name, size in framing.model_dump().items()}
        case "buffer":
            if values.buffer_packets is not None:
                return f"{values.buffer_packets} packets"
            return None if values.buffer_bytes is None else format_size(values.buffer_bytes)
        case "queue":
            return None if values.active_queue is None else _queue(values.active_queue)
        case _:
            return values.blocked


def _loss(loss: Loss) -> Any:
    match loss:
        case IndependentLoss(correlation=0):
            return format_share(loss.probability)
        case IndependentLoss():
            return _shares(share=loss.probability, correlation=loss.correlation)
        case GilbertElliottLoss() | FourStateLoss():
            return _shares(**loss.model_dump(exclude={"kind"}))


def _shares(**shares: float) -> dict[str, str]:
    return {name: format_share(share) for name, share in shares.items()}


def _distribution(distribution: DelayDistribution) -> str:
    if distribution.kind == "custom":
        raise InputError("a delay distribution that came from a file cannot be written into another one")
    return distribution.kind


def _slots(slots: Slots) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    if slots.delay_us or slots.jitter_us:
        keys |= {"delay": format_duration(slots.delay_us), "jitter": format_duration(slots.jitter_us)}
        if slots.distribution is not None:
            keys["distribution"] = _distribution(slots.distribution)
    else:
        keys |= {"min": format_duration(slots.min_delay_us), "max": format_duration(slots.max_delay_us)}
    keys |= {"packets": f"{slots.packets} packets"} if slots.packets else {}
    return keys | ({"bytes": format_size(slots.bytes)} if slots.bytes else {})


def _queue(queue: ActiveQueue) -> dict[str, Any]:
    settings = {"target": format_duration(queue.target_us), "interval": format_duration(queue.interval_us)}
    return {"codel" if queue.discipline == "codel" else "fq_codel": {**settings, "ecn": queue.ecn}}


def _time(seconds: float) -> str:
    return format_duration(round(seconds * 1e6))


def _signed(number: float, size: str) -> str:
    return f"-{size}" if number < 0 else size


def _flow(value: Any) -> str:
    """YAML in one line."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
        case str():
            plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS and not value.endswith(" ")
            # What looks like a number must stay text.
            number = re.fullmatch(r"[-+.0-9eE_xob:]+", value)
            return value if plain and not number else json.dumps(value, ensure_ascii=False)
        case bool():
            return "true" if value else "false"
        case Iterable():
            return "[" + ", ".join(_flow(inner) for inner in value) + "]"
        case _:
            return str(value)
