"""What a timeline's documents mean, and whether the names in them fit the topology."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from harness.config import timeline_document as written
from harness.config.explain import validate
from harness.config.fields import Document
from harness.config.problems import Problem, did_you_mean
from harness.config.yaml_tree import Path, Plain, YamlTree
from harness.errors import InputError
from harness.model.impairment import Impairment
from harness.model.timeline import LinkChoice, TimelineEvent
from harness.model.topology import Topology
from harness.model.units import quote

_MODEL: TypeAdapter[TimelineEvent] = TypeAdapter(TimelineEvent)


def event_of(document: written.TimelineDocument) -> TimelineEvent:
    """The model's event; times become seconds."""
    values: dict[str, Any] = {
        "do": "outage" if document.do == "blackout" else document.do,
        "at_s": document.at / 1e6,
        "every_s": None if document.every is None else document.every / 1e6,
        "count": document.count,
    }
    if isinstance(document, written.SpanDocument) and document.for_ is not None:
        values["duration_s"] = document.for_ / 1e6
    if isinstance(document, written.LinksDocument):
        values["links"] = _choice(document)
    if isinstance(document, written.ImpairedDocument):
        fields = document.impairment_fields()
        values["fields"] = Impairment.model_validate(fields).model_dump(mode="json", include=set(fields))
    if isinstance(document, written.ProcessesDocument):
        values["target"] = {"role": document.role, "command": document.command}
    if isinstance(document, written.NodeDocument | written.KillDocument):
        values["node"] = document.node
    match document:
        case written.OutageDocument() | written.NatRebindDocument():
            values["site"] = document.site
        case written.RampDocument():
            values |= {"over_s": document.over / 1e6}
            values |= {} if document.step is None else {"step_s": document.step / 1e6}
        case written.FlapDocument():
            values |= {"down_s": document.down / 1e6, "up_s": document.up / 1e6, "flaps": document.flaps}
        case written.PartitionDocument():
            values |= {"groups": document.groups, "one_way": document.one_way}
        case written.PlayDocument():
            values |= {"trace": document.trace, "speed": document.speed, "loop": document.loop}
            values |= {"offset_s": (document.offset or 0) / 1e6}
        case written.DiskFullDocument():
            values["free_bytes"] = document.free or 0
        case written.DiskSlowDocument():
            values["bytes_per_s"] = document.rate // 8
        case written.ClockSkewDocument():
            values["rate"] = document.gains
        case written.ClockJumpDocument():
            values["offset_s"] = document.offset / 1e6
        case written.CorruptFileDocument():
            values |= {"path": document.path, "bytes": document.bytes, "seed": document.seed}
        case written.DescriptorsDocument():
            values["spare"] = document.spare
        case _:
            pass
    return _MODEL.validate_python(values)


def check_timeline(tree: YamlTree) -> Iterator[Problem]:
    """Events of sites, nodes and links that do not exist, and faults that their site is not made for.

    Works on the plain tree, so that files with other mistakes are checked too.
    """
    sites = tree.get(("sites",))
    known = sites if isinstance(sites, dict) else {}
    events = tree.get(("timeline",))
    for index, event in enumerate(events if isinstance(events, list) else []):
        if isinstance(event, dict):
            path: Path = ("timeline", index)
            yield from _check_names(tree, path, event, known)
            yield from _check_fitness(tree, path, event, known)


def _choice(document: written.LinksDocument) -> LinkChoice:
    if document.between is not None:
        first, second = document.between
        return LinkChoice(pairs=((first, second), (second, first)))
    if document.from_ is not None and document.to is not None:
        return LinkChoice(pairs=((document.from_, document.to),))
    if document.site is not None:
        return LinkChoice(site=document.site)
    if document.links is not None:
        return LinkChoice(pairs=tuple(document.links))
    return LinkChoice(all=True)


def _check_names(tree: YamlTree, path: Path, event: dict[str, Plain], sites: dict[str, Plain]) -> Iterator[Problem]:
    for place, name in _named_sites(event):
        if name not in sites:
            known = list(sites)
            message = f"there is no site {quote(name)}; sites: {', '.join(known) or 'none'}{did_you_mean(name, known)}"
            yield tree.problem((*path, *place), message)
    between = event.get("between")
    ends = between if isinstance(between, list) else [event.get("from"), event.get("to")]
    if len(ends) == 2 and ends[0] is not None and ends[0] == ends[1]:
        yield tree.problem(path, f"a link from {quote(str(ends[0]))} to itself")
    listed = event.get("links")
    for number, link in enumerate(listed if isinstance(listed, list) else []):
        source, _, destination = link.replace(" ", "").partition(">") if isinstance(link, str) else ("", "", "x")
        if source == destination:
            yield tree.problem((*path, "links", number), f"a link from {quote(source)} to itself")
    node = event.get("node")
    if isinstance(node, str):
        nodes = [name for site, body in sites.items() for name in _nodes(site, body)]
        if node not in nodes:
            message = f"there is no node {quote(node)}; nodes: {', '.join(nodes) or 'none'}{did_you_mean(node, nodes)}"
            yield tree.problem((*path, "node"), message)


def _check_fitness(tree: YamlTree, path: Path, event: dict[str, Plain], sites: dict[str, Plain]) -> Iterator[Problem]:
    node, site = event.get("node"), event.get("site")
    if event.get("do") == "disk-full" and isinstance(node, str):
        home = node.partition(".")[0]
        body = sites.get(home)
        if home in sites and not (isinstance(body, dict) and "disk" in body):
            message = f"only a disk of the node's own is filled: write `disk: 1 GB` under the site {quote(home)}"
            yield tree.problem((*path, "node"), message)
    if event.get("do") == "nat-rebind" and isinstance(site, str) and site in sites:
        body = sites[site]
        if not (isinstance(body, dict) and body.get("nat")):
            yield tree.problem((*path, "site"), f"{quote(site)} is not behind NAT: write `nat: true` under it")


def _named_sites(event: dict[str, Plain]) -> Iterator[tuple[Path, str]]:
    for key in ("site", "from", "to"):
        name = event.get(key)
        if isinstance(name, str):
            yield (key,), name
    for key, depth in (("between", 1), ("groups", 2), ("links", 1)):
        for place, name in _leaves(event.get(key), (key,), depth):
            # What is no link is the document's own complaint.
            parts = name.replace(" ", "").split(">") if key == "links" else [name]
            yield from ((place, part) for part in parts if key != "links" or len(parts) == 2)


def _leaves(value: Plain, path: Path, depth: int) -> Iterator[tuple[Path, str]]:
    if depth and isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index), depth - 1)
    elif not depth and isinstance(value, str):
        yield path, value


def _nodes(site: str, body: Plain) -> Iterator[str]:
    yield site
    more = body.get("more_nodes") if isinstance(body, dict) else None
    yield from (f"{site}.{name}" for name in (more if isinstance(more, list) else []))


class _Timeline(Document):
    timeline: list[written.TimelineDocument]


def event_of_keys(keys: dict[str, Any], topology: Topology) -> TimelineEvent:
    """One event from its keys, with values as in a topology file, for commands and keywords; ``at`` may be left out.

    Raises InputError for what a topology file with these sites would not accept.
    """
    value: dict[str, Any] = {"sites": _described(topology), "timeline": [{"at": "0 s", **keys}]}
    tree = YamlTree("fault", value=value)
    names = list(check_timeline(tree))
    if names:
        raise InputError(names[0].message)
    document, problems = validate(_Timeline, YamlTree("fault", value={"timeline": value["timeline"]}))
    if document is None:
        raise InputError("; ".join(dict.fromkeys(problem.message for problem in problems)))
    return event_of(document.timeline[0])


def _described(topology: Topology) -> dict[str, Any]:
    return {
        site.name: {
            "more_nodes": list(site.more_nodes),
            "nat": site.nat is not None,
            **({} if site.disk_bytes is None else {"disk": site.disk_bytes}),
        }
        for site in topology.sites
    }
