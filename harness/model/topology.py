"""Sites, the directed links between them, and what is scheduled to happen to them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.model.base import Value
from harness.model.impairment import Impairment


class Site(Value):
    """A place on the WAN. ``access`` names the profile of its access line, already part of its links' impairments."""

    name: str
    title: str = ""
    kind: Literal["data-centre", "mobile", "office"] = "data-centre"
    access: str | None = None


class Link(Value):
    """The directed path from one site to another. ``source_note`` says where its numbers come from."""

    source: str
    destination: str
    impairment: Impairment
    profile: str | None = None
    source_note: str = ""

    @property
    def name(self) -> str:
        """``source>destination``, the link's name in logs and reports."""
        return f"{self.source}>{self.destination}"


class Outage(Value):
    """Both directions of every link of ``site`` are black holes from ``at_s`` for ``duration_s`` seconds.

    Repeated every ``every_s`` seconds when that is set. Times count from the start of the timeline.
    """

    do: Literal["outage"] = "outage"
    site: str
    at_s: float = Field(ge=0)
    duration_s: float = Field(gt=0)
    every_s: float | None = Field(default=None, gt=0)


class Topology(Value):
    """A WAN: its sites in file order, one link for each ordered pair of sites, and its timeline."""

    name: str
    description: str = ""
    source_note: str = ""
    mtu: int = Field(default=1500, ge=576, le=9000)
    sites: tuple[Site, ...]
    links: tuple[Link, ...]
    timeline: tuple[Outage, ...] = ()

    @property
    def site_names(self) -> tuple[str, ...]:
        """Names in file order."""
        return tuple(site.name for site in self.sites)

    def link(self, source: str, destination: str) -> Link:
        """The directed link; KeyError when there is none."""
        for link in self.links:
            if link.source == source and link.destination == destination:
                return link
        raise KeyError(f"{source}>{destination}")
