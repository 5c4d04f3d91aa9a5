"""PASS, FAIL and INVALID."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """INVALID: the WAN or the lab was not as specified, so the test says nothing about the system under test."""

    PASS = "PASS"
    FAIL = "FAIL"
    INVALID = "INVALID"
