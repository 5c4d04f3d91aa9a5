"""Kinds of value that stand in the header of a trace and in a topology's keys about traces."""

from __future__ import annotations

from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema

from harness.config.fields import LARGEST_BUFFER_BYTES, refuse
from harness.model import units

MOST_SPEED = 100.0


def _read_size(value: object) -> int:
    if not isinstance(value, str):
        raise refuse(f"expected a size such as 250 kB, found {units.quote(value)}")
    try:
        size = units.parse_size(value)
    except ValueError as error:
        raise refuse(str(error)) from None
    if not 1 <= size <= LARGEST_BUFFER_BYTES:
        accepted = f"1 B to {units.format_size(LARGEST_BUFFER_BYTES)}"
        raise refuse(f"{units.quote(value)} is out of range; accepted: {accepted}")
    return size


def _read_speed(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 / MOST_SPEED <= value <= MOST_SPEED:
        return float(value)
    accepted = f"a plain number from {1 / MOST_SPEED:g} to {MOST_SPEED:g}, 1 is as recorded"
    raise refuse(f"{units.quote(value)} is no speed; accepted: {accepted}")


SizeText = Annotated[
    int,
    PlainValidator(_read_size),
    WithJsonSchema({"type": "string", "pattern": units.SIZE_PATTERN, "examples": ["250 kB"]}),
]
Speed = Annotated[
    float,
    PlainValidator(_read_speed),
    WithJsonSchema({"type": "number", "minimum": 1 / MOST_SPEED, "maximum": MOST_SPEED, "examples": [1, 2.5]}),
]
