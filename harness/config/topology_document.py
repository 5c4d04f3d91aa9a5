"""A topology as it is written. ``references`` checks that its names fit together, ``compose`` says what it means."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StrictInt, Tag, model_validator

from harness.config.cross_traffic_keys import MOST_STREAMS, CrossTrafficDocument
from harness.config.fields import Delay, Document, EmptyAllowed, Name, SiteName, Text, refuse
from harness.config.link_keys import LinkKeys
from harness.config.site_keys import MoreNodes, NatKey
from harness.config.timeline_document import TimelineDocument
from harness.config.timeline_fields import DiskSize
from harness.config.trace_keys import LINK_TRACE, SITE_TRACE, TraceKey
from harness.model.topology import MAX_NODES_OF_A_SITE, MAX_SITES

LinkMtu = Annotated[StrictInt, Field(ge=576, le=9000)]
ProfileReference = Annotated[str, Field(strict=True, min_length=1, max_length=200)]


class SiteDocument(Document):
    """One site. With nothing after its name it is a data centre with no access line."""

    title: Text = Field(default="", description="Human name for pictures and reports; the site's name when left out.")
    kind: Literal["data-centre", "mobile", "office"] = Field(
        default="data-centre", description="What it is; pictures and reports show it. It changes no packet."
    )
    access: ProfileReference | None = Field(
        default=None,
        description="Profile of the site's access line, in series with every link of the site: its uplink for links "
        "that leave the site, its downlink for links that enter. Delays and jitters add, losses combine, the smallest "
        "rate wins and brings its buffer.",
    )
    trace: TraceKey = Field(default=None, description=SITE_TRACE)
    disk: DiskSize | None = Field(
        default=None,
        description="Size of each node's own disk (MB, GB): its data directory is then a file system of its own, which "
        "can be filled. Without it the nodes share the host's disk.",
    )
    clock: Literal["host", "adjustable"] = Field(
        default="host",
        description="adjustable: the clock of its nodes can be moved at any time. Nodes whose clock the timeline moves "
        "need not say so.",
    )
    more_nodes: MoreNodes = Field(
        default_factory=list,
        description=f"More hosts on the site's LAN, up to {MAX_NODES_OF_A_SITE - 1}: each is SITE.NAME beside the "
        "first one, which is called like the site. The LAN itself is not impaired.",
    )
    nat: NatKey = Field(default=None, description="true, or a mapping: the site's nodes are behind NAT.")


class DefaultsDocument(LinkKeys):
    """Keys for every link that neither states them nor has them from its profile. With rtt or delay, also whole links
    for the pairs that `links` leaves out."""

    rtt: Delay | None = Field(default=None, description="Round-trip time of a pair; half of it in each direction.")

    @model_validator(mode="after")
    def _one_delay(self) -> DefaultsDocument:
        if self.rtt is not None and self.delay is not None:
            raise refuse("rtt and delay exclude each other: rtt is both directions together, delay is one way")
        return self


class BetweenLink(LinkKeys):
    """Both directions between two sites, alike unless a profile makes them differ."""

    between: Annotated[list[SiteName], Field(min_length=2, max_length=2)] = Field(
        description="The two sites. With a profile the first one is the subscriber."
    )
    rtt: Delay | None = Field(
        default=None, description="Round-trip time (us, ms, s); half of it in each direction. Instead of delay."
    )
    profile: ProfileReference | None = Field(
        default=None,
        description="Profile that gives the keys which the link leaves out: uplink from the first site, downlink "
        "to it. A name, or a path that ends in .yaml relative to this file.",
    )
    mtu: LinkMtu | None = Field(
        default=None,
        description="Largest IP packet on this link in bytes (a plain number), where it is smaller than the "
        "topology's. Larger ones are refused by the core, which says so (path MTU discovery).",
    )
    trace: TraceKey = Field(default=None, description=LINK_TRACE + " The first site is its subscriber.")
    source: Text = Field(default="", description="Where this link's numbers come from.")

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The directed links that it describes, the subscriber's uplink first."""
        first, second = self.between
        return (first, second), (second, first)

    @model_validator(mode="after")
    def _one_delay(self) -> BetweenLink:
        if self.rtt is not None and self.delay is not None:
            raise refuse("rtt and delay exclude each other: rtt is both directions together, delay is one way")
        return self


class DirectedLink(LinkKeys):
    """One direction between two sites; the other direction is a link of its own."""

    from_: SiteName = Field(alias="from", description="The site that sends.")
    to: SiteName = Field(description="The site that receives.")
    profile: ProfileReference | None = Field(
        default=None,
        description="Profile that gives the keys which the link leaves out. A name, or a path that ends in .yaml.",
    )
    direction: Literal["uplink", "downlink"] | None = Field(
        default=None, description="Which direction of the profile this link is; uplink unless stated. Needs a profile."
    )
    mtu: LinkMtu | None = Field(
        default=None,
        description="Largest IP packet on this link in bytes (a plain number), where it is smaller than the "
        "topology's. Larger ones are refused by the core, which says so (path MTU discovery).",
    )
    trace: TraceKey = Field(default=None, description=LINK_TRACE)
    source: Text = Field(default="", description="Where this link's numbers come from.")

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The directed link that it describes."""
        return ((self.from_, self.to),)

    @model_validator(mode="after")
    def _direction_of_a_profile(self) -> DirectedLink:
        if self.direction is not None and self.profile is None:
            raise refuse("direction says which half of a profile to take, and this link has no profile")
        return self


def _link_form(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    if "between" in value:
        return "link between two"
    return "directed link" if {"from", "to"} & set(value) else None


LinkDocument = Annotated[
    Annotated[BetweenLink, Tag("link between two")] | Annotated[DirectedLink, Tag("directed link")],
    Discriminator(
        _link_form,
        custom_error_type="longhaul",
        custom_error_message="a link names its sites: `between: [a, b]` for both directions, or `from: a` and `to: b`",
    ),
]


class TopologyDocument(Document):
    """A WAN: sites, the links between every two of them, and what happens to them over time."""

    version: Literal[1] = Field(description="Version of this file's form; 1.")
    name: Name = Field(description="The topology's name: small letters, digits and -.")
    description: Text = Field(default="", description="What this WAN is and what it is for.")
    source: Text = Field(default="", description="Where its numbers come from, or that they are an own choice.")
    mtu: Annotated[StrictInt, Field(ge=576, le=9000)] = Field(
        default=1500, description="Largest IP packet on the WAN in bytes (a plain number), 576 to 9000."
    )
    sites: dict[SiteName, Annotated[SiteDocument, EmptyAllowed]] = Field(
        min_length=2,
        max_length=MAX_SITES,
        description=f"Sites by name, 2 to {MAX_SITES}. A name: a small letter, then up to 23 small letters, digits, -.",
    )
    defaults: Annotated[DefaultsDocument, EmptyAllowed] = Field(
        default_factory=DefaultsDocument, description="Keys for all links, and links for the pairs left out."
    )
    links: Annotated[list[LinkDocument], Field(max_length=MAX_SITES * MAX_SITES)] = Field(
        default_factory=list, description="Each ordered pair of sites at most once."
    )
    timeline: Annotated[list[TimelineDocument], Field(max_length=1000)] = Field(
        default_factory=list, description="What happens over time; it starts when a run or a user starts it."
    )
    cross_traffic: Annotated[list[CrossTrafficDocument], Field(max_length=MOST_STREAMS)] = Field(
        default_factory=list, description="Load beside the system under test, while the timeline runs."
    )
