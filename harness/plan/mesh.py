"""Full meshes of any size, for benchmarks and to see how software scales with sites. Pure: a seed fixes all numbers."""

from __future__ import annotations

import hashlib
import math

from harness.model.impairment import Impairment
from harness.model.topology import Link, Site, Topology

FIBRE_KM_PER_MS = 200.0
"""Light in glass covers about two thirds of its speed in vacuum."""

DETOUR = 1.5
"""Cables are longer than great circles (own choice, within what public tables of RTTs between regions show)."""

EARTH_RADIUS_KM = 6371.0
_LAST_MILE_US = 1_000


def mesh(sites: int, *, seed: int = 1, rate_bps: int | None = 100_000_000, mtu: int = 1500) -> Topology:
    """``sites`` data centres at random places of the globe; delays follow from their distances.

    So the RTTs are those of one possible world: symmetric, and they keep the triangle inequality. They lie between 2 ms
    and some 302 ms. The buffer of each link is its own bandwidth-delay product, at least 64 KiB. Raises ValueError for
    fewer than 2 sites.
    """
    if sites < 2:
        raise ValueError(f"{sites} sites; a mesh has at least 2")
    digits = len(str(sites))
    places = {f"s{number:0{digits}}": _place(seed, number) for number in range(1, sites + 1)}
    links = []
    for source, here in places.items():
        for destination, there in places.items():
            if source == destination:
                continue
            delay_us = _LAST_MILE_US + round(_distance_km(here, there) * DETOUR / FIBRE_KM_PER_MS * 1000)
            buffer = None if rate_bps is None else max(64 << 10, rate_bps * 2 * delay_us // 8_000_000)
            impairment = Impairment(delay_us=delay_us, rate_bps=rate_bps, buffer_bytes=buffer)
            links.append(Link(source=source, destination=destination, impairment=impairment))
    return Topology(
        name=f"mesh-{sites}",
        description=f"{sites} data centres at random places of the globe, every two of them joined.",
        source_note=f"Made from seed {seed}; great circles at {FIBRE_KM_PER_MS:g} km/ms, {DETOUR:g} times as long.",
        mtu=mtu,
        sites=tuple(Site(name=name) for name in places),
        links=tuple(links),
    )


def _place(seed: int, number: int) -> tuple[float, float, float]:
    """A point of the unit sphere, uniformly; the same one for a site of any mesh with this seed."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    z, turn = (int.from_bytes(part, "little") / 2**64 for part in (digest[:8], digest[8:16]))
    z = 2 * z - 1
    angle = 2 * math.pi * turn
    radius = math.sqrt(1 - z * z)
    return radius * math.cos(angle), radius * math.sin(angle), z


def _distance_km(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """Along the great circle between two points of the unit sphere."""
    cosine = sum(a * b for a, b in zip(one, other, strict=True))
    return EARTH_RADIUS_KM * math.acos(max(-1.0, min(1.0, cosine)))
