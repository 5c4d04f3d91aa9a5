"""A topology as it is written. ``references`` checks that its names fit together, ``compose`` says what it means."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StrictInt, Tag, model_validator

from harness.config.fields import Delay, Document, EmptyAllowed, Moment, Name, SiteName, Span, Text, refuse
from harness.config.link_keys import LinkKeys

MAX_SITES = 128
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
    source: Text = Field(default="", description="Where this link's numbers come from.")

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
    source: Text = Field(default="", description="Where this link's numbers come from.")

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


class OutageDocument(Document):
    """All links of a site lose everything for a while, as in a handover or a cut cable."""

    do: Literal["outage"] = Field(description="What happens: outage.")
    site: SiteName = Field(description="The site that is cut off, in both directions.")
    at: Moment = Field(description="When it begins, from the start of the timeline (us, ms, s).")
    for_: Span = Field(alias="for", description="How long it lasts (us, ms, s); at least 1 ms.")
    every: Span | None = Field(default=None, description="Repeat at this interval (us, ms, s); longer than `for`.")

    @model_validator(mode="after")
    def _ends_before_it_repeats(self) -> OutageDocument:
        if self.every is not None and self.every <= self.for_:
            raise refuse("`every` must be longer than `for`: the outage would never end")
        return self


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
    timeline: Annotated[list[OutageDocument], Field(max_length=1000)] = Field(
        default_factory=list, description="What happens over time; it starts when a run or a user starts it."
    )
