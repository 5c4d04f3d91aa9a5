"""The UDT implementations by name. To add one, write a module with ``load()`` beside this and name it here."""

from __future__ import annotations

from importlib import import_module

from syncer.errors import InputError, SyncerError
from syncer.udt.perf.port import Implementation, Settings

IMPLEMENTATIONS = {"longhaul": "syncer.udt.perf.longhaul", "libudt": "syncer.udt.perf.libudt"}


def load(name: str) -> Implementation:
    if name not in IMPLEMENTATIONS:
        raise InputError(f"there is no UDT implementation '{name}'", hint=f"there are {' and '.join(IMPLEMENTATIONS)}")
    try:
        implementation: Implementation = import_module(IMPLEMENTATIONS[name]).load()
    except ImportError as error:
        raise SyncerError(
            f"the UDT implementation '{name}' is not built here: {error}",
            hint="in a checkout, `./longhaul doctor` builds it; libudt needs Debian's libudt-dev",
        ) from None
    return implementation


def checked(implementation: Implementation, settings: Settings) -> Settings:
    """The settings with the control named, or ``InputError`` when it cannot have them."""
    control = settings.control or implementation.controls[0]
    if control not in implementation.controls:
        raise InputError(
            f"{implementation.name} has no congestion control '{control}'",
            hint=f"it has {', '.join(implementation.controls)}",
        )
    if control == "fixed" and settings.rate_bps is None:
        raise InputError("a fixed rate needs a number", hint="add for example --rate 100Mbit/s")
    return Settings(control, settings.rate_bps, settings.mss, settings.buffer_bytes)
