"""Which id and slot a new lab gets, beside labs that are known here and labs that only their addresses show."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from harness.errors import InputError, LabError
from harness.lab import claims
from harness.plan.addressing import LAB_SLOTS


@pytest.fixture(autouse=True)
def slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(claims, "SLOTS_DIRECTORY", tmp_path / "slots")
    return tmp_path


def claim(slot: int, lab_id: str, directory: Path) -> None:
    ledger = directory / f"{lab_id}.jsonl"
    ledger.touch()
    claims.write_claim(slot, claims.Claim(lab_id=lab_id, ledger=ledger))


def test_the_first_free_id_and_slot() -> None:
    assert claims.choose(None, {}) == ("lab1", 0)


def test_what_is_claimed_is_not_given_again(slots: Path) -> None:
    claim(0, "lab1", slots)
    assert claims.choose(None, {}) == ("lab2", 1)
    with pytest.raises(InputError, match="exists already"):
        claims.choose("lab1", {})


def test_a_claim_whose_ledger_is_gone_counts_for_nothing(slots: Path) -> None:
    claim(0, "lab1", slots)
    (slots / "lab1.jsonl").unlink()
    assert claims.choose(None, {}) == ("lab1", 0)


def test_a_later_versions_claim_counts(slots: Path) -> None:
    claim(0, "lab1", slots)
    path = claims.claim_path(0)
    path.write_text(json.dumps({**json.loads(path.read_text()), "of_a_later_version": 1}))
    assert claims.choose(None, {}) == ("lab2", 1)


def test_a_lab_that_claimed_elsewhere_is_seen_by_its_addresses(slots: Path) -> None:
    claim(1, "mine", slots)
    addresses = {"lhlab1m0": IPv4Address("198.19.0.0"), "lhlab1m1": IPv4Address("198.19.0.2")}
    assert claims.choose(None, addresses) == ("lab2", 2)
    with pytest.raises(InputError, match="exists already"):
        claims.choose("lab1", addresses)


def test_no_slot_left(slots: Path) -> None:
    for slot in range(LAB_SLOTS):
        claim(slot, f"l{slot}", slots)
    with pytest.raises(LabError, match="slots"):
        claims.choose(None, {})
