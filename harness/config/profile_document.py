"""A profile as it is written: what a kind of access line does to packets, in each direction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.config.fields import Document, Name, Text
from harness.config.link_keys import LinkKeys

PROFILE_FORM = 1


class ProfileDocument(Document):
    """A named impairment with its source, for `profile:` of a link and `access:` of a site."""

    version: Literal[1] = Field(description="Version of this file's form; 1.")
    name: Name = Field(description="The profile's name: small letters, digits and -; the file is NAME.yaml.")
    title: Text = Field(default="", description="A short human name.")
    description: Text = Field(default="", description="What the line is like, in a sentence or two.")
    source: Text = Field(description="Where the numbers come from, or that they are this project's own choice.")
    uplink: LinkKeys = Field(description="From the subscriber into the network.")
    downlink: LinkKeys = Field(description="From the network to the subscriber.")

    def direction(self, name: Literal["uplink", "downlink"]) -> LinkKeys:
        """The keys of one direction."""
        return self.uplink if name == "uplink" else self.downlink
