"""Rates and sizes as users write them."""

from __future__ import annotations

import re

from syncer.errors import InputError

_PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]?)(?:bit(?:/s)?|bps)", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]i?|)B?", re.ASCII)


def rate_bps(text: str) -> float:
    """Bits a second of ``100Mbit/s``, ``1.5Gbit/s``, ``300kbit``."""
    found = _RATE.fullmatch(text.strip())
    if found is None or float(found[1]) == 0:
        raise InputError(f"'{text}' is no rate", hint="write for example 100Mbit/s, 1.5Gbit/s or 300kbit/s")
    return float(found[1]) * _PREFIXES[found[2]]


def size_bytes(text: str) -> int:
    """Bytes of ``1000000``, ``300MB``, ``64MiB``."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or (size := int(float(found[1]) * _PREFIXES[found[2]])) < 1:
        raise InputError(f"'{text}' is no size", hint="write for example 1000000, 300MB or 1GiB")
    return size


def shown_rate(bps: float) -> str:
    for unit, name in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if bps >= unit:
            return f"{bps / unit:.2f} {name}"
    return f"{bps:.0f} bit/s"


def shown_size(size: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"
