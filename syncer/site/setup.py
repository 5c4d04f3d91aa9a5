"""Making a site, and telling it about others."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import zmq
from msgspec.structs import replace
from zmq.utils import z85

from syncer.errors import InputError, NotRunning
from syncer.files.root import Root
from syncer.site.home import (
    AUTO,
    DEFAULT_CONTROL_PORT,
    KEY_LENGTH,
    TRANSPORTS,
    Config,
    Home,
    PeerConfig,
    check_site_name,
)
from syncer.site.status import ask

RELOAD_S = 3.0
UNLIMITED = "auto"
DEFAULT = "default"
_RATE_UNITS = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmg])bit(?:/s)?", re.IGNORECASE)
SLOWEST_BPS = 64_000


def parse_rate(text: str) -> int:
    """Bits per second; 0 for ``auto``. Raises InputError."""
    if text == UNLIMITED:
        return 0
    match = _RATE.fullmatch(text)
    if match is None:
        hint = f"use {UNLIMITED}, or a number with kbit, mbit or gbit, as 90mbit or 50Mbit/s"
        if re.search(r"[0-9] ?[kmg]i?b(/s|ps)?$", text, re.IGNORECASE):
            hint = "rates are in bits, not bytes: 8 Mbit/s carry 1 MB/s"
        raise InputError(f"{text!r} is no rate", hint=hint)
    rate = int(float(match[1]) * _RATE_UNITS[match[2].lower()])
    if rate < SLOWEST_BPS:
        raise InputError(f"{text} is too slow", hint=f"the least is {SLOWEST_BPS // 1000} kbit/s; {UNLIMITED}: no cap")
    return rate


def parse_transport(text: str) -> str:
    """The name itself, or ``auto``. Raises InputError."""
    if text not in (AUTO, *TRANSPORTS):
        raise InputError(f"{text!r} is no transport", hint=f"use {', '.join((AUTO, *TRANSPORTS))}")
    return text


def initialise(
    home: Path,
    *,
    site: str,
    folder: Path,
    address: str,
    control_port: int,
    data_port: int,
    rate_bps: int,
    transport: str = AUTO,
) -> Config:
    """Make the home, the keys and the folder. Raises InputError."""
    place = Home(home)
    check_site_name(site)
    _check_address(address)
    place.create()
    with Root(folder).create() as root:
        absolute = str(root.folder)
    if place.path.is_relative_to(absolute):
        raise InputError(
            "the home may not be inside the folder", hint="choose another --home: its keys would be synced"
        )
    public, secret = zmq.curve_keypair()
    place.save_secret(secret)
    config = Config(
        site=site,
        folder=absolute,
        address=address,
        control_port=control_port,
        data_port=data_port,
        rate_bps=rate_bps,
        transport=transport,
        public_key=public.decode(),
    )
    place.save(config)
    return config


def add_site(
    home: Path,
    name: str,
    *,
    address: str,
    key: str,
    data_port: int,
    transport: str | None = None,
    rate_bps: int | None = None,
) -> bool:
    """Add or change a site; whether a running engine took it up. ``transport`` and ``rate_bps`` None: as they are, or
    as this site's. Raises InputError."""
    place = Home(home)
    config = place.load()
    check_site_name(name)
    if name == config.site:
        raise InputError(f"{name} is this site itself", hint="add the others")
    host, _, port = address.partition(":")
    _check_address(host)
    if port and not (port.isdigit() and 0 < int(port) < 65536):
        raise InputError(f"{port!r} is no port", hint="use IP or IP:PORT")
    _check_key(key)
    if key == config.public_key:
        raise InputError("that is this site's own key", hint="use the key that the other site's init printed")
    known_peer = config.peer(name)
    if known_peer is not None:
        transport = known_peer.transport if transport is None else transport
        rate_bps = known_peer.rate_bps if rate_bps is None else rate_bps
    peer = PeerConfig(
        name=name,
        address=host,
        control_port=int(port or DEFAULT_CONTROL_PORT),
        data_port=data_port,
        key=key,
        transport=transport,
        rate_bps=rate_bps,
    )
    others = [known for known in config.sites if known.name != name]
    if any(known.key == key for known in others):
        raise InputError("another site has that key already", hint="each site has its own")
    place.save(replace(config, sites=sorted([*others, peer], key=lambda known: known.name)))
    return _reload(place)


def remove_site(home: Path, name: str) -> bool:
    """Forget a site; whether a running engine let it go. Raises InputError."""
    place = Home(home)
    config = place.load()
    if config.peer(name) is None:
        raise _unknown(name, config)
    place.save(replace(config, sites=[peer for peer in config.sites if peer.name != name]))
    return _reload(place)


def set_site(home: Path, name: str, *, transport: str | None, rate: str | None) -> bool:
    """Pin a link's transport or cap its rate; of this site itself: of all links that have nothing of their own.

    None leaves a thing as it is, ``default`` takes a link's own away. Whether a running engine took it up. Raises
    InputError."""
    place = Home(home)
    config = place.load()
    if transport is None and rate is None:
        raise InputError("nothing to set", hint="say --transport or --rate, or both")
    changes: dict[str, object] = {}
    if transport is not None:
        changes["transport"] = None if transport == DEFAULT else parse_transport(transport)
    if rate is not None:
        changes["rate_bps"] = None if rate == DEFAULT else parse_rate(rate)
    if name == config.site:
        if None in changes.values():
            raise InputError(f"{name} is this site itself: it has nothing to fall back to", hint="use auto")
        place.save(replace(config, **changes))
        return _reload(place)
    if config.peer(name) is None:
        raise _unknown(name, config)
    sites = [replace(peer, **changes) if peer.name == name else peer for peer in config.sites]
    place.save(replace(config, sites=sites))
    return _reload(place)


def _unknown(name: str, config: Config) -> InputError:
    known = ", ".join(peer.name for peer in config.sites) or "none"
    return InputError(f"no site {name!r} is known", hint=f"known are: {known}")


def _reload(home: Home) -> bool:
    if home.read_pid("supervisor") is None:
        return False
    try:
        ask(home, {"ask": "reload"}, timeout_s=RELOAD_S)
    except NotRunning:
        return False
    return True


def _check_address(address: str) -> None:
    try:
        ipaddress.IPv4Address(address)
    except ValueError as error:
        raise InputError(f"{address!r} is no IPv4 address", hint="use numbers, as 192.0.2.10") from error


def _check_key(key: str) -> None:
    try:
        if len(key) != KEY_LENGTH:
            raise ValueError
        z85.decode(key)
    except (ValueError, KeyError) as error:
        raise InputError(f"{key!r} is no public key", hint="it has 40 characters; quote it for the shell") from error
