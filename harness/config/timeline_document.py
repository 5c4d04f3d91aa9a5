"""The timeline as it is written: one form for each kind of event. ``timeline_events`` says what they mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StrictBool, StrictInt, Tag, model_validator

from harness.config.fields import Delay, Document, Moment, Rate, SiteName, Size, Span, Text, refuse
from harness.config.link_keys import LinkKeys
from harness.config.link_text import FIELDS_OF_KEY, fields_of_keys
from harness.config.timeline_fields import Expression, LinkText, NodeName, Offset, PathPattern, Skew
from harness.errors import InputError
from harness.model import units

MOST_MOVES = 10_000
"""Steps of one ramp, and ups and downs of one flap."""


class EventDocument(Document):
    """When it happens."""

    at: Moment = Field(description="When it begins, from the start of the timeline (us, ms, s).")
    every: Span | None = Field(default=None, description="Repeat at this interval (us, ms, s); longer than `for`.")
    count: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None, description="How often in all, with `every`; until the timeline ends when left out."
    )

    @model_validator(mode="after")
    def _counts_repeats(self) -> EventDocument:
        if self.count is not None and self.every is None:
            raise refuse("`count` counts repeats: state `every` as well")
        return self


class SpanDocument(EventDocument):
    """An event that is undone."""

    for_: Span | None = Field(
        default=None,
        alias="for",
        description="How long it lasts (us, ms, s), at least 1 ms; until the timeline ends when left out.",
    )

    @model_validator(mode="after")
    def _ends_before_it_repeats(self) -> SpanDocument:
        if self.every is not None and self.for_ is None and self.length_us is None:
            raise refuse("an event that repeats must end: state `for`")
        length_us = self.for_ or self.length_us
        if self.every is not None and length_us is not None and self.every <= length_us:
            raise refuse("`every` must be longer than the event: it would never end")
        return self

    @property
    def length_us(self) -> int | None:
        """How long it lasts by itself when `for` is left out."""
        return None


class LinksDocument(SpanDocument):
    """An event of links, chosen in one of five ways."""

    between: Annotated[list[SiteName], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Both directions between two sites."
    )
    from_: SiteName | None = Field(default=None, alias="from", description="One direction: the site that sends.")
    to: SiteName | None = Field(default=None, description="One direction: the site that receives.")
    site: SiteName | None = Field(default=None, description="All links from and to this site.")
    links: Annotated[list[LinkText], Field(min_length=1)] | None = Field(
        default=None, description="A list of directed links, each SITE>SITE."
    )
    all_: Literal[True] | None = Field(default=None, alias="all", description="true: every link.")

    @model_validator(mode="after")
    def _one_choice(self) -> LinksDocument:
        given = [
            name
            for name, value in (
                ("between", self.between),
                ("from and to", self.from_ or self.to),
                ("site", self.site),
                ("links", self.links),
                ("all", self.all_),
            )
            if value
        ]
        if len(given) != 1:
            which = f"found {' and '.join(given)}" if given else "found none of them"
            raise refuse(f"say which links in one way: between, from and to, site, links, or all; {which}")
        if (self.from_ is None) != (self.to is None):
            raise refuse("`from` and `to` go together")
        return self


class OutageDocument(SpanDocument):
    """All links of a site lose everything for a while, as in a handover or a cut cable."""

    do: Literal["outage", "blackout"] = Field(description="What happens: outage (or blackout, the same).")
    site: SiteName = Field(description="The site that is cut off, in both directions.")
    for_: Span = Field(alias="for", description="How long it lasts (us, ms, s); at least 1 ms.")


class ImpairedDocument(LinksDocument, LinkKeys):
    """Keys of a link that are replaced."""

    rtt: Delay | None = Field(default=None, description="Round-trip time; half of it is each direction's delay.")
    without: list[str] | None = Field(
        default=None, description="Keys whose effect is taken away, such as [loss, rate]."
    )

    @model_validator(mode="after")
    def _something_changes(self) -> ImpairedDocument:
        if self.rtt is not None and self.delay is not None:
            raise refuse("rtt and delay exclude each other: rtt is both directions together, delay is one way")
        for key in self.without or ():
            if key not in FIELDS_OF_KEY:
                raise refuse(
                    f"`without` takes keys of a link, not {units.quote(key)}; accepted: {', '.join(FIELDS_OF_KEY)}"
                )
        if not self.impairment_fields():
            raise refuse(f"nothing changes; state at least one of {', '.join(FIELDS_OF_KEY)}, rtt, without")
        return self

    def impairment_fields(self) -> dict[str, object]:
        """The fields of Impairment that these keys set."""
        keys = self if self.rtt is None else self.model_copy(update={"delay": self.rtt // 2})
        try:
            return fields_of_keys(keys, removed=set(self.without or ()))
        except InputError as error:
            raise refuse(error.message) from None


class ChangeDocument(ImpairedDocument):
    """Keys of links are other ones for a while."""

    do: Literal["change"] = Field(description="What happens: change.")


class RampDocument(ImpairedDocument):
    """Keys of links move to their targets in a straight line, and stay there."""

    do: Literal["ramp"] = Field(description="What happens: ramp.")
    over: Span = Field(description="How long the way to the targets takes (us, ms, s); `for` includes it.")
    step: Span | None = Field(default=None, description="Time between steps (us, ms, s); 100 ms unless stated.")

    @model_validator(mode="after")
    def _steps_are_few(self) -> RampDocument:
        if self.over / (self.step or 100_000) > MOST_MOVES:
            raise refuse(f"more than {MOST_MOVES} steps; make `step` longer")
        return self


class FlapDocument(LinksDocument):
    """Links go down and up again."""

    do: Literal["flap"] = Field(description="What happens: flap.")
    down: Span = Field(description="How long they are down each time (us, ms, s).")
    up: Span = Field(description="How long they are up in between (us, ms, s).")
    flaps: Annotated[StrictInt, Field(ge=1, le=MOST_MOVES)] | None = Field(
        default=None, description="How often they go down; for the time of `for` when left out."
    )

    @property
    def length_us(self) -> int | None:
        """See SpanDocument."""
        return None if self.flaps is None else self.flaps * self.down + (self.flaps - 1) * self.up

    @model_validator(mode="after")
    def _ends(self) -> FlapDocument:
        if self.flaps is None and self.for_ is None:
            raise refuse("state how often (`flaps`) or how long (`for`)")
        if self.for_ is not None and self.for_ / (self.down + self.up) > MOST_MOVES:
            raise refuse(f"more than {MOST_MOVES} flaps; make `for` shorter and use `every`")
        return self


class PartitionDocument(SpanDocument):
    """Groups of sites lose each other; a site in none of them keeps all its links."""

    do: Literal["partition"] = Field(description="What happens: partition.")
    groups: Annotated[list[Annotated[list[SiteName], Field(min_length=1)]], Field(min_length=2)] = Field(
        description="Groups of sites, such as [[virginia, ireland], [tokyo]]."
    )
    one_way: StrictBool = Field(
        default=False, description="true: only packets from an earlier group to a later one are lost."
    )

    @model_validator(mode="after")
    def _groups_are_apart(self) -> PartitionDocument:
        seen: set[str] = set()
        for site in (site for group in self.groups for site in group):
            if site in seen:
                raise refuse(f"{units.quote(site)} stands twice in `groups`")
            seen.add(site)
        return self


class BlackHoleDocument(LinksDocument):
    """Links drop every packet."""

    do: Literal["black-hole"] = Field(description="What happens: black-hole.")


class NatRebindDocument(EventDocument):
    """A site's NAT forgets its mappings, as when a home router restarts."""

    do: Literal["nat-rebind"] = Field(description="What happens: nat-rebind.")
    site: SiteName = Field(description="The site, which is behind NAT.")


class PlayDocument(LinksDocument):
    """Links follow a trace."""

    do: Literal["play"] = Field(description="What happens: play.")
    trace: Text = Field(min_length=1, description="A shipped trace's name, or a file relative to this one.")
    offset: Moment | None = Field(default=None, description="Where in the trace to begin; 0 s unless stated.")
    speed: Annotated[float, Field(strict=True, gt=0, le=1000)] = Field(
        default=1.0, description="How much faster than recorded (a plain number)."
    )
    loop: StrictBool = Field(default=True, description="Begin anew at its end.")


class NodeDocument(SpanDocument):
    """Something that happens to a node."""

    node: NodeName = Field(description="The node: a site's name, or SITE.NODE.")


class ProcessesDocument(Document):
    """Which processes of a node."""

    role: Annotated[Text, Field(min_length=1)] | None = Field(
        default=None, description="Their role in the system under test, such as coordinator."
    )
    command: Expression | None = Field(
        default=None, description="A regular expression that matches somewhere in their command lines."
    )

    @model_validator(mode="after")
    def _one_target(self) -> ProcessesDocument:
        if self.role is not None and self.command is not None:
            raise refuse("`role` and `command` exclude each other")
        return self


class NamedProcessesDocument(ProcessesDocument):
    """As above, and never all of them."""

    @model_validator(mode="after")
    def _a_target(self) -> NamedProcessesDocument:
        if self.role is None and self.command is None:
            raise refuse("say which processes: `role` or `command`")
        return self


class KillDocument(EventDocument, NamedProcessesDocument):
    """SIGKILL."""

    do: Literal["kill"] = Field(description="What happens: kill.")
    node: NodeName = Field(description="The node: a site's name, or SITE.NODE.")


class RestartDocument(NodeDocument, NamedProcessesDocument):
    """SIGKILL, and after `for` the same command lines again."""

    do: Literal["restart"] = Field(description="What happens: restart.")


class PauseDocument(NodeDocument, ProcessesDocument):
    """SIGSTOP, and SIGCONT; without role or command everything on the node."""

    do: Literal["pause"] = Field(description="What happens: pause.")


class RebootDocument(NodeDocument):
    """Every process of the node ends, and after `for` it comes back."""

    do: Literal["reboot"] = Field(description="What happens: reboot.")


class DiskFullDocument(NodeDocument):
    """The node's own disk is full. Its site needs `disk`."""

    do: Literal["disk-full"] = Field(description="What happens: disk-full.")
    free: Size | None = Field(default=None, description="What is left (kB, MB, KiB ..); nothing unless stated.")


class DiskSlowDocument(NodeDocument):
    """The node's disk is slow."""

    do: Literal["disk-slow"] = Field(description="What happens: disk-slow.")
    rate: Rate = Field(description="Its reads and its writes, each (kbit/s, Mbit/s).")


class ClockSkewDocument(NodeDocument):
    """The node's clock runs fast or slow, and is right again at the end."""

    do: Literal["clock-skew"] = Field(description="What happens: clock-skew.")
    gains: Skew = Field(description="What it gains in each second, such as 0.1%; loses with a minus.")


class ClockJumpDocument(NodeDocument):
    """The node's clock jumps, and back at the end."""

    do: Literal["clock-jump"] = Field(description="What happens: clock-jump.")
    offset: Offset = Field(description="By how much, such as 30 s or -1.5 s.")


class CorruptFileDocument(NodeDocument):
    """Bits of a file are flipped."""

    do: Literal["corrupt-file"] = Field(description="What happens: corrupt-file.")
    path: PathPattern = Field(
        description="A pattern below the node's data directory, with * and **; the seed chooses one of its files."
    )
    bytes: Annotated[StrictInt, Field(ge=1, le=4096)] = Field(
        default=1, description="In how many bytes one bit is flipped (a plain number)."
    )
    seed: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="Decides the file, the bytes and the bits (a plain number)."
    )


class DescriptorsDocument(NodeDocument, NamedProcessesDocument):
    """Processes run out of file descriptors."""

    do: Literal["descriptors"] = Field(description="What happens: descriptors.")
    spare: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="How many more they may open (a plain number)."
    )


_FORMS: dict[str, str] = {"blackout": "outage"}
KINDS = (
    "outage",
    "change",
    "ramp",
    "flap",
    "partition",
    "black-hole",
    "nat-rebind",
    "play",
    "kill",
    "restart",
    "pause",
    "reboot",
    "disk-full",
    "disk-slow",
    "clock-skew",
    "clock-jump",
    "corrupt-file",
    "descriptors",
)


def _form(value: Any) -> str | None:
    kind = value.get("do") if isinstance(value, dict) else None
    kind = _FORMS.get(kind, kind) if isinstance(kind, str) else None
    # The tags are no keys of a document, so that a location never confuses the two.
    return f"event {kind}" if kind in KINDS else None


TimelineDocument = Annotated[
    Annotated[OutageDocument, Tag("event outage")]
    | Annotated[ChangeDocument, Tag("event change")]
    | Annotated[RampDocument, Tag("event ramp")]
    | Annotated[FlapDocument, Tag("event flap")]
    | Annotated[PartitionDocument, Tag("event partition")]
    | Annotated[BlackHoleDocument, Tag("event black-hole")]
    | Annotated[NatRebindDocument, Tag("event nat-rebind")]
    | Annotated[PlayDocument, Tag("event play")]
    | Annotated[KillDocument, Tag("event kill")]
    | Annotated[RestartDocument, Tag("event restart")]
    | Annotated[PauseDocument, Tag("event pause")]
    | Annotated[RebootDocument, Tag("event reboot")]
    | Annotated[DiskFullDocument, Tag("event disk-full")]
    | Annotated[DiskSlowDocument, Tag("event disk-slow")]
    | Annotated[ClockSkewDocument, Tag("event clock-skew")]
    | Annotated[ClockJumpDocument, Tag("event clock-jump")]
    | Annotated[CorruptFileDocument, Tag("event corrupt-file")]
    | Annotated[DescriptorsDocument, Tag("event descriptors")],
    Discriminator(
        _form,
        custom_error_type="longhaul",
        custom_error_message=f"an event says what it does; accepted after `do:` are {', '.join(KINDS)}",
    ),
]
