"""Slots of this host: each lab has one, and with it its addresses. Hold the host's lock for all of these."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

from pydantic import ConfigDict

from harness.errors import InputError, LabError
from harness.model.base import Value
from harness.nodes.host_lock import HOST_DIRECTORY
from harness.plan.addressing import LAB_SLOTS, management_slot

SLOTS_DIRECTORY = HOST_DIRECTORY / "slots"
_MANAGEMENT_LINK = re.compile(r"lh([a-z0-9]{1,6})m\d+")


class Claim(Value):
    """Who holds a slot. A claim whose ledger is gone counts for nothing; one of a later version counts."""

    model_config = ConfigDict(extra="ignore")

    lab_id: str
    ledger: Path


def claims() -> Mapping[int, Claim]:
    """The slots that are taken."""
    found = {}
    if SLOTS_DIRECTORY.is_dir():
        for path in SLOTS_DIRECTORY.iterdir():
            claim = _read(path)
            if claim is not None and claim.ledger.exists():
                found[int(path.name)] = claim
    return found


def choose(lab_id: str | None, addresses: Mapping[str, IPv4Address]) -> tuple[str, int]:
    """A lab id (the one asked for, or a free one) and a free slot.

    ``addresses``: the management addresses that interfaces of this host have. Those of a lab that claimed its slot
    elsewhere (a container with this host's network has another /run) take their slot and their id as well.
    Raises InputError when the id is taken, LabError when no slot is free.
    """
    taken = claims()
    used = {management_slot(address) for address in addresses.values()}
    free = [slot for slot in range(LAB_SLOTS) if slot not in taken and slot not in used]
    if not free:
        raise LabError(f"all {LAB_SLOTS} lab slots of this host are taken", hint="`longhaul down` some of them.")
    ids = {claim.lab_id for claim in taken.values()}
    ids |= {match[1] for name in addresses if (match := _MANAGEMENT_LINK.fullmatch(name))}
    if lab_id is None:
        return next(name for name in (f"lab{number}" for number in range(1, LAB_SLOTS + 2)) if name not in ids), free[0]
    if lab_id in ids:
        raise InputError(f"a lab {lab_id!r} exists already", hint=f"Choose another id, or `longhaul down {lab_id}`.")
    return lab_id, free[0]


def claim_path(slot: int) -> Path:
    """The file that claims a slot."""
    return SLOTS_DIRECTORY / str(slot)


def write_claim(slot: int, claim: Claim) -> None:
    """Take a slot; record it in the ledger first."""
    SLOTS_DIRECTORY.mkdir(exist_ok=True)
    claim_path(slot).write_text(claim.model_dump_json())


def _read(path: Path) -> Claim | None:
    try:
        return Claim.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None
