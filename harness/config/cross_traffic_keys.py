"""The section ``cross_traffic`` of a topology: load beside the system under test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StrictInt, StringConstraints, model_validator

from harness.config.fields import Document, Moment, Rate, SiteName, Span, refuse
from harness.config.problems import Problem
from harness.config.trace_fields import SizeText
from harness.config.yaml_tree import YamlTree
from harness.model.topology import CrossTraffic
from harness.model.units import quote

if TYPE_CHECKING:
    from harness.config.topology_document import TopologyDocument

MOST_STREAMS = 200
_SMALLEST_PACKET = 64
_DEFAULT_PACKET = 1200
_OF_TCP = ("flows", "congestion_control")


class CrossTrafficDocument(Document):
    """One stream from one site to another."""

    from_: SiteName = Field(alias="from", description="The site that sends.")
    to: SiteName = Field(description="The site that receives.")
    pattern: Literal["constant", "poisson", "on-off", "tcp"] = Field(
        description="constant, poisson, on-off: UDP at equal intervals, at random ones, or in spells. tcp: bulk "
        "transfers without end."
    )
    rate: Rate | None = Field(
        default=None,
        description="UDP: IP bytes on average, of on-off while it is on. tcp: a cap for all flows together; else none.",
    )
    packet: SizeText = Field(default=_DEFAULT_PACKET, description="Size of each UDP packet, with its headers.")
    on: Span | None = Field(default=None, description="on-off: how long it sends; 1 s unless stated.")
    off: Span | None = Field(default=None, description="on-off: how long it is silent; 1 s unless stated.")
    flows: Annotated[StrictInt, Field(ge=1, le=64)] | None = Field(
        default=None, description="tcp: how many transfers at a time, 1 to 64 (a plain number)."
    )
    congestion_control: Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z0-9_]{1,15}$")] | None = Field(
        default=None, description="tcp: the sender's congestion control, such as cubic or bbr; the kernel must have it."
    )
    at: Moment = Field(default=0, description="When it begins, from the start of the timeline (us, ms, s).")
    for_: Span | None = Field(default=None, alias="for", description="How long it lasts; until the end unless stated.")

    @model_validator(mode="after")
    def _fits_its_pattern(self) -> CrossTrafficDocument:
        if self.from_ == self.to:
            raise refuse(f"cross traffic from {quote(self.from_)} to itself")
        if self.pattern == "tcp":
            if self.on is not None or self.off is not None:
                raise refuse("on and off belong to the pattern on-off")
            return self
        wrong = [key for key in _OF_TCP if getattr(self, key) is not None]
        if wrong:
            raise refuse(f"{wrong[0]} belongs to the pattern tcp")
        if self.rate is None:
            raise refuse(f"the pattern {self.pattern} needs a rate")
        if self.pattern != "on-off" and (self.on is not None or self.off is not None):
            raise refuse("on and off belong to the pattern on-off")
        return self

    def to_model(self) -> CrossTraffic:
        """The model's form."""
        return CrossTraffic(
            source=self.from_,
            destination=self.to,
            pattern=self.pattern,
            rate_bps=self.rate,
            packet_bytes=self.packet,
            on_s=(self.on or 1_000_000) / 1e6,
            off_s=(self.off or 1_000_000) / 1e6,
            flows=self.flows or 1,
            congestion_control=self.congestion_control or "cubic",
            start_s=self.at / 1e6,
            duration_s=None if self.for_ is None else self.for_ / 1e6,
        )


def cross_traffic_problems(document: TopologyDocument, tree: YamlTree) -> Iterator[Problem]:
    """What does not fit the rest of the topology."""
    for index, stream in enumerate(document.cross_traffic):
        for key, site in (("from", stream.from_), ("to", stream.to)):
            if site not in document.sites:
                known = ", ".join(document.sites)
                yield tree.problem(("cross_traffic", index, key), f"there is no site {quote(site)}; sites: {known}")
        target = document.sites.get(stream.to)
        if target is not None and target.nat is not None:
            message = f"{quote(stream.to)} is behind NAT: nobody reaches in unasked; let it send, not receive"
            yield tree.problem(("cross_traffic", index, "to"), message)
        if stream.pattern != "tcp" and not _SMALLEST_PACKET <= stream.packet <= document.mtu:
            message = f"a packet of {stream.packet} B is out of range; accepted: {_SMALLEST_PACKET} B to the mtu"
            yield tree.problem(("cross_traffic", index, "packet"), f"{message}, {document.mtu} B")
