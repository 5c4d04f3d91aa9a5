"""Sites, the directed links between them, and what is scheduled to happen to them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal

from pydantic import Field

from harness.model.base import Value
from harness.model.impairment import Impairment
from harness.model.timeline import Outage as Outage
from harness.model.timeline import TimelineEvent
from harness.model.trace import TracePlay

MAX_SITES = 128
"""A lab has addresses for as many."""

MAX_NODES_OF_A_SITE = 13
"""Hosts of a /28, less the address of the site's edge."""


class Nat(Value):
    """Network address translation at a site's edge: its nodes reach out, and nobody reaches in unasked.

    ``symmetric``: each destination sees another port; otherwise a node keeps one port towards all, its own if it is
    free. A mapping is forgotten after its timeout, in seconds without a packet.
    """

    kind: Literal["port-preserving", "symmetric"] = "port-preserving"
    udp_timeout_s: int = Field(default=30, gt=0)
    udp_stream_timeout_s: int = Field(default=120, gt=0)
    tcp_timeout_s: int = Field(default=7440, gt=0)


class Site(Value):
    """A place on the WAN. ``access`` names the profile of its access line, already part of its links' impairments.

    A site has one node, named like the site, and one more ``SITE.NAME`` for each of ``more_nodes``, on the same LAN.
    Each node's data directory is a file system of ``disk_bytes`` of its own when that is set. With ``adjustable_clock``
    the clock of its processes can be moved.
    """

    name: str
    title: str = ""
    kind: Literal["data-centre", "mobile", "office"] = "data-centre"
    access: str | None = None
    more_nodes: tuple[str, ...] = ()
    nat: Nat | None = None
    disk_bytes: int | None = Field(default=None, gt=0)
    adjustable_clock: bool = False

    @property
    def node_names(self) -> tuple[str, ...]:
        """All its nodes, the first one named like the site."""
        return (self.name, *(f"{self.name}.{node}" for node in self.more_nodes))


class Link(Value):
    """The directed path from one site to another. ``source_note`` says where its numbers come from.

    ``mtu`` is the largest IP packet on this link where it is smaller than the topology's. ``beyond_source`` is what
    packets meet without the access line of the source, where it has one; ``beyond_destination`` likewise.
    """

    source: str
    destination: str
    impairment: Impairment
    profile: str | None = None
    source_note: str = ""
    mtu: int | None = Field(default=None, ge=576, le=9000)
    beyond_source: Impairment | None = None
    beyond_destination: Impairment | None = None

    @property
    def name(self) -> str:
        """``source>destination``, the link's name in logs and reports."""
        return f"{self.source}>{self.destination}"


class CrossTraffic(Value):
    """Load beside the system under test, from one site to another, from ``start_s`` on (of the timeline's clock).

    ``constant`` and ``poisson`` are UDP at ``rate_bps`` on average, ``on-off`` alternates between ``rate_bps`` for
    ``on_s`` and silence for ``off_s``; ``tcp`` is ``flows`` bulk transfers with this congestion control, capped at
    ``rate_bps`` together when that is set. ``duration_s`` None: until the end.
    """

    source: str
    destination: str
    pattern: Literal["constant", "poisson", "on-off", "tcp"]
    rate_bps: int | None = Field(default=None, gt=0)
    packet_bytes: int = Field(default=1200, ge=64, le=9000)
    on_s: float = Field(default=1.0, gt=0)
    off_s: float = Field(default=1.0, gt=0)
    flows: int = Field(default=1, ge=1, le=64)
    congestion_control: str = "cubic"
    start_s: float = Field(default=0.0, ge=0)
    duration_s: float | None = Field(default=None, gt=0)


class Topology(Value):
    """A WAN: its sites in file order, one link for each ordered pair of sites, and its timeline."""

    name: str
    description: str = ""
    source_note: str = ""
    mtu: int = Field(default=1500, ge=576, le=9000)
    sites: tuple[Site, ...]
    links: tuple[Link, ...]
    timeline: tuple[TimelineEvent, ...] = ()
    cross_traffic: tuple[CrossTraffic, ...] = ()
    traces: tuple[TracePlay, ...] = ()

    @property
    def site_names(self) -> tuple[str, ...]:
        """Names in file order."""
        return tuple(site.name for site in self.sites)

    def link(self, source: str, destination: str) -> Link:
        """The directed link; KeyError when there is none."""
        links, by_ends = self.links_by_ends
        if links is not self.links:
            # A copy with other links took the old ones' index along.
            self.__dict__.pop("links_by_ends", None)
            by_ends = self.links_by_ends[1]
        try:
            return by_ends[source, destination]
        except KeyError:
            raise KeyError(f"{source}>{destination}") from None

    @cached_property
    def links_by_ends(self) -> tuple[tuple[Link, ...], Mapping[tuple[str, str], Link]]:
        """The links, and an index of them by (source, destination)."""
        return self.links, {(link.source, link.destination): link for link in self.links}

    def site(self, name: str) -> Site:
        """The site with this name; KeyError when there is none."""
        for site in self.sites:
            if site.name == name:
                return site
        raise KeyError(name)
