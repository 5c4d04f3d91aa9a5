"""The forms in which a document says how a link's delay varies, what is reordered, doubled and damaged, and slots.

Files of a distribution are read while the document is checked, so that a mistake in one shows at its place. Their paths
are relative to the document: to the folder in the validation context's ``file``, or this process's when it has none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, PlainValidator, Tag, ValidationInfo, WithJsonSchema, model_validator

from harness.config.distribution_file import MOST_BYTES, distribution_of_samples, distribution_of_table
from harness.config.fields import Delay, Document, Jitter, Share, Size, WholePackets, refuse
from harness.model.impairment import UNIFORM, Chance, DelayDistribution, Reordering, Slots
from harness.model.units import quote

NAMED = ("uniform", "normal", "pareto", "paretonormal")
_ACCEPTED = (
    "accepted: uniform, normal, pareto, paretonormal, a path that ends in .dist, or {samples: FILE} with a delay a line"
)


def _read(name: str, info: ValidationInfo) -> str:
    document = (info.context or {}).get("file")
    path = Path(document).parent / name if document else Path(name)
    try:
        if not path.is_file():
            raise refuse(f"there is no file {quote(str(path))}")
        if path.stat().st_size > MOST_BYTES:
            raise refuse(f"{quote(str(path))} is larger than {MOST_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise refuse(f"{quote(str(path))} cannot be read: {error}") from None


def _distribution(value: Any, info: ValidationInfo) -> DelayDistribution:
    try:
        match value:
            case DelayDistribution():
                return value
            case str() if value in NAMED:
                return DelayDistribution.model_validate({"kind": value})
            case str() if value.endswith(".dist"):
                return distribution_of_table(_read(value, info))
            case {"samples": str() as name} if len(value) == 1:
                return distribution_of_samples(_read(name, info))
    except ValueError as error:
        raise refuse(f"{quote(value)}: {error}") from None
    raise refuse(f"{quote(value)} is not a distribution; {_ACCEPTED}")


DistributionText = Annotated[
    DelayDistribution,
    PlainValidator(_distribution),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(NAMED)},
                {"type": "string", "pattern": r"\.dist$", "examples": ["measured.dist"]},
                {
                    "type": "object",
                    "properties": {"samples": {"type": "string", "description": "A file with a delay on each line."}},
                    "required": ["samples"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class ChanceDocument(Document):
    """Something that happens to a share of the packets."""

    share: Share = Field(description="Share of the packets.")
    correlation: Share = Field(default=0.0, description="How much of each random draw is the one before; 0% is none.")


class ReorderDocument(ChanceDocument):
    """Packets that skip the delay, and so overtake those before them."""

    gap: WholePackets = Field(default=1, description="Only each so many-th packet is a candidate; each unless stated.")


def _form(value: Any) -> str:
    return "with keys" if isinstance(value, dict) else "share alone"


ChanceText = Annotated[
    Annotated[Share, Tag("share alone")] | Annotated[ChanceDocument, Tag("with keys")], Discriminator(_form)
]
ReorderText = Annotated[
    Annotated[Share, Tag("share alone")] | Annotated[ReorderDocument, Tag("with keys")], Discriminator(_form)
]


class SlotsDocument(Document):
    """The link opens from time to time and lets a bundle of packets through, as a shared medium does."""

    min: Delay | None = Field(default=None, description="Shortest time between two openings.")
    max: Delay | None = Field(default=None, description="Longest time between two openings; `min` unless stated.")
    delay: Delay | None = Field(default=None, description="Mean time between two openings; instead of min and max.")
    jitter: Jitter | None = Field(default=None, description="How much it varies, as the distribution says.")
    distribution: DistributionText | None = Field(default=None, description="How it varies; normal unless stated.")
    packets: WholePackets | None = Field(default=None, description="Most packets in one opening.")
    bytes: Size | None = Field(default=None, description="Most bytes in one opening.")

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> SlotsDocument:
        by_range, by_spread = self.min is not None, self.delay is not None
        if by_range == by_spread:
            raise refuse("slots need either min (and max), or delay and jitter")
        if by_range and (self.jitter is not None or self.distribution is not None):
            raise refuse("jitter and distribution belong to delay; min and max are the bounds of a uniform time")
        if by_spread and (self.max is not None or not self.jitter):
            raise refuse("delay needs a jitter above 0 and no max; for a fixed time write min alone")
        if self.min is not None and (self.max or self.min) < max(self.min, 1):
            raise refuse("max must not be below min, and not 0")
        if self.packets is None and self.bytes is None:
            raise refuse("slots need packets or bytes: how much passes in one opening")
        return self


def to_chance(written: float | ChanceDocument | None) -> Chance | None:
    """The model's form; None when it never happens."""
    match written:
        case None:
            return None
        case ChanceDocument(share=share, correlation=correlation):
            return Chance(share=share, correlation=correlation) if share else None
        case share:
            return Chance(share=share) if share else None


def to_reordering(written: float | ReorderDocument | None) -> Reordering | None:
    """The model's form; None when it never happens."""
    match written:
        case None:
            return None
        case ReorderDocument(share=share, correlation=correlation, gap=gap):
            return Reordering(share=share, correlation=correlation, gap=gap) if share else None
        case share:
            return Reordering(share=share) if share else None


def to_slots(written: SlotsDocument | None) -> Slots | None:
    """The model's form."""
    if written is None:
        return None
    packets, size = written.packets or 0, written.bytes or 0
    if written.min is not None:
        longest = written.max or written.min
        return Slots(min_delay_us=written.min, max_delay_us=longest, packets=packets, bytes=size)
    return Slots(
        delay_us=written.delay or 0,
        jitter_us=written.jitter or 0,
        distribution=written.distribution or DelayDistribution(kind="normal"),
        packets=packets,
        bytes=size,
    )


def to_distribution(written: DelayDistribution | None) -> DelayDistribution:
    """Uniform when nothing is said."""
    return written or UNIFORM
