"""Naming sites without knowing how many there are: ``first``, ``second``, ``last``, ``mobile``, or a site's name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.errors import InputError
from harness.model.topology import Site, Topology
from harness.model.trace import TracePlay
from harness.plan.timeline import sites_named


def resolve_site(word: str, sites: Sequence[Site]) -> str:
    """The name of the site that ``word`` means.

    ``second`` is the last one where there are two; ``mobile`` is the first of that kind, or the last site when there is
    none. Raises InputError that lists what is accepted.
    """
    names = [site.name for site in sites]
    if word in names:
        return word
    match word.lower():
        case "first":
            return names[0]
        case "second":
            return names[min(1, len(names) - 1)]
        case "last":
            return names[-1]
        case "mobile":
            return next((site.name for site in sites if site.kind == "mobile"), names[-1])
    raise InputError(f"no site is called {word!r}", hint=f"accepted: {', '.join(names)}, first, second, last, mobile")


def first_sites(topology: Topology, count: int | None) -> Topology:
    """The topology cut down to its first ``count`` sites, with the links, events, traces and cross traffic among them;
    all for None.

    Raises InputError for fewer than two or more than there are.
    """
    if count is None:
        return topology
    if not 2 <= count <= len(topology.sites):
        raise InputError(
            f"--sites {count}: the topology {topology.name} has {len(topology.sites)} sites",
            hint=f"accepted: 2 to {len(topology.sites)}",
        )
    sites = topology.sites[:count]
    kept = {site.name for site in sites}
    return topology.model_copy(
        update={
            "sites": sites,
            "links": tuple(link for link in topology.links if {link.source, link.destination} <= kept),
            "timeline": tuple(event for event in topology.timeline if sites_named(event) <= kept),
            "cross_traffic": tuple(one for one in topology.cross_traffic if {one.source, one.destination} <= kept),
            "traces": tuple(_traces(topology.traces, kept)),
        }
    )


def _traces(traces: Sequence[TracePlay], kept: set[str]) -> Iterator[TracePlay]:
    for trace in traces:
        pairs = tuple(pair for pair in trace.pairs if kept.issuperset(pair))
        if pairs or trace.site in kept:
            yield trace.model_copy(update={"pairs": pairs})
