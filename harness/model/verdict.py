"""PASS, FAIL, INVALID and how they merge."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """INVALID: the WAN or the lab was not as specified, so the test says nothing about the system under test."""

    PASS = "PASS"
    FAIL = "FAIL"
    INVALID = "INVALID"

    @staticmethod
    def merge(verdicts: Iterable[Verdict]) -> Verdict:
        """The worst one: INVALID over FAIL over PASS; PASS when there are none."""
        found = set(verdicts)
        for verdict in (Verdict.INVALID, Verdict.FAIL):
            if verdict in found:
                return verdict
        return Verdict.PASS
