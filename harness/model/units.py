"""Quantities as people write them, and as the model holds them: text with a unit, and whole base units.

Durations are microseconds, rates bits per second, sizes bytes (all ``int``), shares are 0 to 1 (``float``).
``parse_*`` is strict: a bare number, an unknown unit or a fraction of a base unit is a ValueError whose message names
what is accepted. ``format_*`` is exact (``parse(format(x)) == x``); ``brief_*`` rounds to three digits, for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

DURATION_UNITS: Mapping[str, int] = {"us": 1, "ms": 1_000, "s": 1_000_000}
RATE_UNITS: Mapping[str, int] = {"bit/s": 1, "kbit/s": 1_000, "Mbit/s": 1_000_000, "Gbit/s": 1_000_000_000}
SIZE_UNITS: Mapping[str, int] = {
    "B": 1,
    "kB": 1_000,
    "KiB": 1 << 10,
    "MB": 1_000_000,
    "MiB": 1 << 20,
    "GB": 1_000_000_000,
    "GiB": 1 << 30,
}
PACKET_UNITS = ("packets", "packet")

_RATE_SPELLINGS: Mapping[str, int] = {
    **RATE_UNITS,
    "kbit": RATE_UNITS["kbit/s"],
    "mbit": RATE_UNITS["Mbit/s"],
    "gbit": RATE_UNITS["Gbit/s"],
    "Mbit": RATE_UNITS["Mbit/s"],
    "Gbit": RATE_UNITS["Gbit/s"],
}
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]+)?)[ ]?([A-Za-zµ%/]+)")
_BARE_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]+)?")
_LONGEST_TEXT = 400

DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(us|ms|s)$"
RATE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(bit/s|kbit/s|Mbit/s|Gbit/s|kbit|mbit|gbit|Mbit|Gbit)$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(B|kB|KiB|MB|MiB|GB|GiB)$"
SHARE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?%$"
PACKETS_PATTERN = r"^[0-9]+(\.[0-9]+)? ?packets?$"


def parse_duration(text: str) -> int:
    """``"80.5 ms"`` to microseconds."""
    return _whole(text, "a duration", DURATION_UNITS, "us, ms, s", "80 ms", "microsecond")


def parse_rate(text: str) -> int:
    """``"100 Mbit/s"`` to bits per second."""
    return _whole(text, "a rate", _RATE_SPELLINGS, "bit/s, kbit/s, Mbit/s, Gbit/s", "100 Mbit/s", "bit per second")


def parse_size(text: str) -> int:
    """``"250 kB"`` to bytes. kB and MB are decimal, KiB and MiB binary."""
    return _whole(text, "a size", SIZE_UNITS, "B, kB, KiB, MB, MiB, GB, GiB", "250 kB", "byte")


def parse_share(text: str) -> float:
    """``"1.5%"`` to 0.015. Raises ValueError above 100%."""
    number, _ = _split(text, "a percentage", ("%",), "%", "1.5%")
    share = number / 100
    if share > 1:
        raise ValueError(f"{quote(text)} is more than 100%; accepted: 0% to 100%")
    return float(share)


def parse_packets(text: str) -> float:
    """``"8 packets"`` to 8.0: a mean, so it may be fractional."""
    number, _ = _split(text, "a number of packets", PACKET_UNITS, "packets", "8 packets")
    return float(number)


def format_duration(microseconds: int) -> str:
    """Exact, in the unit that gives the shortest text: ``80.5 ms``."""
    return _exact(microseconds, DURATION_UNITS, zero="0 ms")


def format_rate(bits_per_second: int) -> str:
    """Exact: ``100 Mbit/s``."""
    return _exact(bits_per_second, RATE_UNITS, zero="0 bit/s")


def format_size(size: int) -> str:
    """Exact: ``64 KiB``, ``250 kB``."""
    return _exact(size, SIZE_UNITS, zero="0 B")


def format_share(share: float) -> str:
    """Exact: ``0.1%``."""
    return f"{_plain(Decimal(repr(share)).scaleb(2))}%"


def brief_duration(microseconds: float) -> str:
    """To three digits, for people: ``80.6 ms``. Takes measured fractions of a microsecond."""
    return _brief(microseconds, DURATION_UNITS, "us")


def brief_rate(bits_per_second: float) -> str:
    """To three digits, for people: ``94.1 Mbit/s``."""
    return _brief(bits_per_second, RATE_UNITS, "bit/s")


def brief_size(size: float) -> str:
    """To three digits, for people, in decimal units: ``1.01 MB``."""
    return _brief(size, {unit: scale for unit, scale in SIZE_UNITS.items() if "i" not in unit}, "B")


def brief_share(share: float) -> str:
    """To three digits, for people: ``1.23%``."""
    return f"{brief_number(share * 100)}%"


def brief_number(number: float) -> str:
    """To three digits, without an exponent and without trailing zeros: ``0.0123``, ``12.3``, ``1234``."""
    if number == 0:
        return "0"
    if abs(number) >= 100:
        return f"{number:.0f}"
    return _plain(Decimal(f"{number:.3g}"))


def quote(value: object) -> str:
    """A user's value inside a message: short, on one line, with nothing that a terminal would obey."""
    text = ascii(value) if not isinstance(value, str) else repr(value)
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _whole(text: str, what: str, units: Mapping[str, int], accepted: str, example: str, base: str) -> int:
    number, unit = _split(text, what, tuple(units), accepted, example)
    value = number * units[unit]
    if value.denominator != 1:
        raise ValueError(f"{quote(text)} is not a whole number of {base}s; the finest step is one {base}")
    return int(value)


def _split(text: str, what: str, units: tuple[str, ...], accepted: str, example: str) -> tuple[Fraction, str]:
    stripped = text.strip().replace("µs", "us")
    if len(stripped) > _LONGEST_TEXT:
        raise ValueError(f"{quote(text)} is too long for {what}; an example is {example}")
    match = _QUANTITY.fullmatch(stripped)
    if match is None:
        if _BARE_NUMBER.fullmatch(stripped):
            raise ValueError(f"{stripped} has no unit; accepted units: {accepted} (for example {example})")
        raise ValueError(
            f"{quote(text)} is not {what}; write a number and a unit of {accepted} (for example {example})"
        )
    number, unit = match.groups()
    if unit not in units:
        raise ValueError(f"{quote(text)} has the unknown unit {quote(unit)}; accepted units: {accepted}")
    return Fraction(number), unit


def _exact(value: int, units: Mapping[str, int], zero: str) -> str:
    if value < 0:
        raise ValueError(f"{value} is negative")
    if value == 0:
        return zero
    texts = [f"{_decimal(value, scale)} {unit}" for unit, scale in units.items() if value >= scale]
    # The later of two texts of one length has the larger unit.
    return min(reversed(texts), key=len)


def _decimal(value: int, scale: int) -> str:
    """``value / scale`` written out; finite, since every scale divides a power of ten."""
    digits = 0
    while (value * 10**digits) % scale:
        digits += 1
    whole = str(value * 10**digits // scale)
    return f"{whole[:-digits]}.{whole[-digits:]}" if digits else whole


def _brief(value: float, units: Mapping[str, int], smallest: str) -> str:
    # 999.6 us reads better as 1 ms than as 1000 us, so the unit is chosen after rounding.
    rounded = float(f"{value:.3g}")
    unit = max(
        (unit for unit, scale in units.items() if abs(rounded) >= scale), key=units.__getitem__, default=smallest
    )
    return f"{brief_number(value / units[unit])} {unit}"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
