"""The forms in which a document says how a link's queue behaves, and what its frames add to each packet."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from harness.config.fields import Document, EmptyAllowed, FramingSize, Interval, refuse
from harness.model.impairment import ActiveQueue, Framing

FRAMINGS = {
    "ethernet": Framing(overhead=38),
    "docsis": Framing(overhead=18),
    "vdsl-pppoe": Framing(overhead=30),
    "adsl-pppoe": Framing(overhead=40, cell=48, cell_overhead=5),
    "adsl-pppoa": Framing(overhead=10, cell=48, cell_overhead=5),
}
"""What link layers add to an IP packet, after tc-cake(8): its ``ethernet``, ``docsis``, ``pppoe-ptm``,
``pppoe-llcsnap`` and ``pppoa-vcmux``, the last two in ATM cells of 53 bytes that carry 48."""


class FramingDocument(Document):
    """What the link layer adds to each IP packet before it counts against the rate."""

    overhead: FramingSize = Field(default=0, description="Bytes added to each packet.")
    cell: FramingSize = Field(default=0, description="Bytes that a cell carries (ATM: 48 B); 0 B: no cells.")
    cell_overhead: FramingSize = Field(default=0, description="Bytes added to each cell (ATM: 5 B). Needs a cell.")

    @model_validator(mode="after")
    def _cells(self) -> FramingDocument:
        if self.cell_overhead and not self.cell:
            raise refuse("cell_overhead needs a cell: the bytes that each cell carries")
        return self


def _framing_form(value: Any) -> str:
    return "own framing" if isinstance(value, dict) else "framing by name"


FramingText = Annotated[
    Annotated[Literal["ethernet", "docsis", "vdsl-pppoe", "adsl-pppoe", "adsl-pppoa"], Tag("framing by name")]
    | Annotated[FramingDocument, Tag("own framing")],
    Discriminator(_framing_form),
]


class ActiveQueueKeys(Document):
    """Settings of a queue that manages its own length."""

    target: Interval = Field(default=5_000, description="Queueing delay that is acceptable; 5 ms unless stated.")
    interval: Interval = Field(
        default=100_000, description="Time for which it may be above the target, about one RTT; 100 ms unless stated."
    )
    ecn: bool = Field(default=False, strict=True, description="Mark packets of transports that know ECN, not drop.")


class CoDelQueue(Document):
    """CoDel (RFC 8289)."""

    codel: Annotated[ActiveQueueKeys, EmptyAllowed] = Field(description="CoDel's settings.")


class FairQueue(Document):
    """FQ-CoDel (RFC 8290): a CoDel queue for each flow."""

    fq_codel: Annotated[ActiveQueueKeys, EmptyAllowed] = Field(description="FQ-CoDel's settings.")


def _queue_form(value: Any) -> str:
    if isinstance(value, dict):
        return "codel queue" if "codel" in value else "fq_codel queue"
    return "queue by name"


QueueText = Annotated[
    Annotated[Literal["drop-tail", "codel", "fq_codel"], Tag("queue by name")]
    | Annotated[CoDelQueue, Tag("codel queue")]
    | Annotated[FairQueue, Tag("fq_codel queue")],
    Discriminator(_queue_form),
]


def to_framing(written: str | FramingDocument | None) -> Framing | None:
    """The model's form; None when nothing is added."""
    match written:
        case None:
            return None
        case FramingDocument():
            framing = Framing(overhead=written.overhead, cell=written.cell, cell_overhead=written.cell_overhead)
            return framing if framing != Framing() else None
        case name:
            return FRAMINGS[name]


def to_active_queue(written: str | CoDelQueue | FairQueue | None) -> ActiveQueue | None:
    """The model's form; None for a queue that drops at its tail."""
    match written:
        case None | "drop-tail":
            return None
        case "codel":
            return ActiveQueue(discipline="codel")
        case "fq_codel":
            return ActiveQueue(discipline="fq-codel")
        case CoDelQueue(codel=keys):
            return ActiveQueue(discipline="codel", target_us=keys.target, interval_us=keys.interval, ecn=keys.ecn)
        case FairQueue(fq_codel=keys):
            return ActiveQueue(discipline="fq-codel", target_us=keys.target, interval_us=keys.interval, ecn=keys.ecn)
    raise AssertionError(written)
