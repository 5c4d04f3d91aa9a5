"""The kinds of value that stand in a document: text with a unit in the file, base units after validation."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from harness.model import units

Number = TypeVar("Number", int, float)

LONGEST_DELAY_US = 60_000_000
LONGEST_SCHEDULE_US = 30 * 24 * 3_600_000_000
LARGEST_RATE_BPS = 100_000_000_000
SMALLEST_RATE_BPS = 1_000
LARGEST_BUFFER_BYTES = 1 << 30
LARGEST_BUFFER_PACKETS = 1 << 20
LARGEST_JITTER_US = 2_147_000
LARGEST_FRAMING_BYTES = 1_500
SITE_NAME_PATTERN = r"^[a-z][a-z0-9-]{0,23}$"


class Document(BaseModel):
    """Base of everything that is written in a file: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


class Buffer(NamedTuple):
    """A bottleneck's queue: a size in bytes, the time in microseconds that a full queue takes to drain, or packets."""

    size_bytes: int | None = None
    time_us: int | None = None
    packets: int | None = None


def refuse(message: str) -> PydanticCustomError:
    """An error whose message reaches the user word for word."""
    return PydanticCustomError("longhaul", "{message}", {"message": message})


def _written(value: object, example: str) -> str:
    """The text of a scalar as it was written. Numbers become text so that the unit's parser can say what they lack."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    given = "nothing" if value is None else units.quote(value)
    raise refuse(f"expected text such as {example}, found {given}")


def _reads(
    parse: Callable[[str], Number], example: str, *, low: Number, high: Number, show: Callable[[Number], str]
) -> Callable[[object], Number]:
    def read(value: object) -> Number:
        try:
            quantity = parse(_written(value, example))
        except ValueError as error:
            raise refuse(str(error)) from None
        if not low <= quantity <= high:
            raise refuse(f"{units.quote(value)} is out of range; accepted: {show(low)} to {show(high)}")
        return quantity

    return read


def _schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


def _read_buffer(value: object) -> Buffer:
    text = _written(value, "200 ms, 250 kB or 100 packets")
    if text.strip().endswith(units.PACKET_UNITS):
        return Buffer(packets=_read_buffer_packets(text))
    # Every other unit that ends in s is of time, no unit of size does.
    if text.strip().endswith("s"):
        return Buffer(time_us=_read_buffer_time(text))
    try:
        return Buffer(size_bytes=_read_buffer_size(text))
    except PydanticCustomError as refusal:
        raise refuse(
            f"{refusal.message()}; or a time at the link's rate in us, ms, s (for example 200 ms), "
            "or a number of packets (for example 100 packets)"
        ) from None


def _whole_packets(text: str) -> int:
    count = units.parse_packets(text)
    if count != int(count):
        raise ValueError(f"{units.quote(text)} is not a whole number of packets")
    return int(count)


def _show_packets(count: float) -> str:
    return f"{count:.0f} packets"


def _read_site_name(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(SITE_NAME_PATTERN, value):
        return value
    raise refuse(
        f"{units.quote(value)} is not a site's name; accepted: a small letter, then up to 23 small letters, digits or -"
    )


_read_buffer_size = _reads(units.parse_size, "250 kB", low=1, high=LARGEST_BUFFER_BYTES, show=units.format_size)
_read_buffer_packets = _reads(_whole_packets, "100 packets", low=1, high=LARGEST_BUFFER_PACKETS, show=_show_packets)
_read_buffer_time = _reads(units.parse_duration, "200 ms", low=1, high=LONGEST_DELAY_US, show=units.format_duration)

Delay = Annotated[
    int,
    PlainValidator(_reads(units.parse_duration, "80 ms", low=0, high=LONGEST_DELAY_US, show=units.format_duration)),
    _schema(units.DURATION_PATTERN, "80 ms", "1.5 s"),
]
Moment = Annotated[
    int,
    PlainValidator(_reads(units.parse_duration, "30 s", low=0, high=LONGEST_SCHEDULE_US, show=units.format_duration)),
    _schema(units.DURATION_PATTERN, "0 s", "30 s"),
]
Span = Annotated[
    int,
    PlainValidator(
        _reads(units.parse_duration, "5 s", low=1_000, high=LONGEST_SCHEDULE_US, show=units.format_duration)
    ),
    _schema(units.DURATION_PATTERN, "5 s", "500 ms"),
]
Rate = Annotated[
    int,
    PlainValidator(
        _reads(units.parse_rate, "100 Mbit/s", low=SMALLEST_RATE_BPS, high=LARGEST_RATE_BPS, show=units.format_rate)
    ),
    _schema(units.RATE_PATTERN, "100 Mbit/s", "768 kbit/s"),
]
Share = Annotated[
    float,
    PlainValidator(_reads(units.parse_share, "1%", low=0.0, high=1.0, show=units.format_share)),
    _schema(units.SHARE_PATTERN, "1%", "0.05%"),
]
Packets = Annotated[
    float,
    PlainValidator(_reads(units.parse_packets, "8 packets", low=1.0, high=1e6, show=_show_packets)),
    _schema(units.PACKETS_PATTERN, "8 packets"),
]
WholePackets = Annotated[
    int,
    PlainValidator(_reads(_whole_packets, "20 packets", low=1, high=1_000_000, show=_show_packets)),
    _schema(units.PACKETS_PATTERN, "20 packets"),
]
Jitter = Annotated[
    int,
    PlainValidator(_reads(units.parse_duration, "5 ms", low=0, high=LARGEST_JITTER_US, show=units.format_duration)),
    _schema(units.DURATION_PATTERN, "5 ms"),
]
Interval = Annotated[
    int,
    PlainValidator(_reads(units.parse_duration, "10 ms", low=1, high=LONGEST_DELAY_US, show=units.format_duration)),
    _schema(units.DURATION_PATTERN, "10 ms"),
]
Size = Annotated[
    int,
    PlainValidator(_reads(units.parse_size, "64 kB", low=1, high=LARGEST_BUFFER_BYTES, show=units.format_size)),
    _schema(units.SIZE_PATTERN, "64 kB"),
]
FramingSize = Annotated[
    int,
    PlainValidator(_reads(units.parse_size, "48 B", low=0, high=LARGEST_FRAMING_BYTES, show=units.format_size)),
    _schema(units.SIZE_PATTERN, "48 B"),
]
BufferText = Annotated[
    Buffer,
    PlainValidator(_read_buffer),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": units.SIZE_PATTERN, "examples": ["250 kB"]},
                {"type": "string", "pattern": units.DURATION_PATTERN, "examples": ["200 ms"]},
                {"type": "string", "pattern": units.PACKETS_PATTERN, "examples": ["100 packets"]},
            ]
        }
    ),
]
SiteName = Annotated[
    str,
    PlainValidator(_read_site_name),
    WithJsonSchema({"type": "string", "pattern": SITE_NAME_PATTERN, "examples": ["virginia"]}),
]
Text = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, max_length=4_000)]
Name = Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]


def none_is_empty(value: Any) -> Any:
    """A key with nothing after it is an empty mapping: ``virginia:`` alone is a site with all defaults."""
    return {} if value is None else value


EmptyAllowed = BeforeValidator(none_is_empty)
