"""Values that only a timeline and a site's disk have: links, nodes, expressions, offsets, skews."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from harness.config.fields import SITE_NAME_PATTERN, Text, refuse
from harness.model import units

SMALLEST_DISK, LARGEST_DISK = 16_000_000, 1_000_000_000_000
"""Bytes: the least that ext4 with a journal is of use on, and more than any test needs."""

_SITE = SITE_NAME_PATTERN.strip("^$")
_LINK = re.compile(rf"({_SITE})>({_SITE})")
NODE_PATTERN = rf"^{_SITE}(\.{_SITE})?$"


def _read_link(value: object) -> tuple[str, str]:
    match = _LINK.fullmatch(value.replace(" ", "")) if isinstance(value, str) else None
    if match is None:
        raise refuse(f"{units.quote(value)} is not a link; accepted: SITE>SITE, such as tokyo>ireland")
    return match[1], match[2]


def _read_node(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(NODE_PATTERN, value):
        return value
    raise refuse(
        f"{units.quote(value)} is not a node's name; accepted: a site's name, or SITE.NODE for its further ones"
    )


def _read_expression(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise refuse("expected a regular expression")
    try:
        re.compile(value)
    except re.error as error:
        raise refuse(f"{units.quote(value)} is no regular expression: {error}") from None
    return value


def _read_offset(value: object) -> int:
    """Microseconds, with a sign."""
    text = str(value).strip()
    try:
        size = units.parse_duration(text.removeprefix("-" if text.startswith("-") else "+"))
    except ValueError as error:
        raise refuse(str(error)) from None
    return -size if text.startswith("-") else size


def _read_skew(value: object) -> float:
    text = str(value).strip()
    try:
        size = units.parse_share(text.removeprefix("-" if text.startswith("-") else "+"))
    except ValueError as error:
        raise refuse(str(error)) from None
    if text.startswith("-") and size >= 1:
        raise refuse("a clock that loses all its time stands still; accepted: above -100%")
    return -size if text.startswith("-") else size


def _pattern(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


def _read_disk(value: object) -> int:
    try:
        size = units.parse_size(str(value))
    except ValueError as error:
        raise refuse(str(error)) from None
    if not SMALLEST_DISK <= size <= LARGEST_DISK:
        limits = f"{units.format_size(SMALLEST_DISK)} to {units.format_size(LARGEST_DISK)}"
        raise refuse(f"{units.quote(value)} is out of range; accepted: {limits}")
    return size


DiskSize = Annotated[
    int,
    PlainValidator(_read_disk),
    WithJsonSchema({"type": "string", "pattern": units.SIZE_PATTERN, "examples": ["1 GB"]}),
]
LinkText = Annotated[tuple[str, str], PlainValidator(_read_link), _pattern(rf"^{_SITE} ?> ?{_SITE}$", "tokyo>ireland")]
NodeName = Annotated[str, PlainValidator(_read_node), _pattern(NODE_PATTERN, "tokyo")]
Expression = Annotated[str, PlainValidator(_read_expression), _pattern("^.+$", "postgres: writer")]
Offset = Annotated[int, PlainValidator(_read_offset), _pattern(r"^[+-]?\d", "-30 s")]
Skew = Annotated[float, PlainValidator(_read_skew), _pattern(r"^[+-]?\d+(\.\d+)?\s*%$", "-0.5%")]
PathPattern = Annotated[Text, Field(min_length=1)]
