"""A node's clock that runs wrong or jumps; several faults add up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from harness.errors import InputError
from harness.model.timeline import ClockJump, ClockSkew
from harness.nodes.node_clock import ClockShift, has_clock, read_clock, set_clock
from harness.nodes.node_faults import Fault, FaultyNode, Undo

_TOLERANCE_S = 0.001


class ClockFault:
    """Skew and jump alike: the clock is moved by all that are in force."""

    def prepare(self, node: FaultyNode, event: ClockSkew | ClockJump, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        if not has_clock(node.root / "etc"):
            raise InputError(
                f"the clock of {node.name} cannot be moved",
                hint="Write `clock: adjustable` under its site, or plan it in the timeline, and bring the lab up.",
            )
        if isinstance(event, ClockSkew):
            return ClockShift(rate=event.rate, since_s=time.monotonic()).model_dump()
        return ClockShift(offset_s=event.offset_s).model_dump()

    def make(
        self, node: FaultyNode, event: ClockSkew | ClockJump, undo: Undo, others: Sequence[Undo]
    ) -> dict[str, Any]:
        """See Fault."""
        self._set(node, [*others, undo])
        return {}

    def undo(self, node: FaultyNode, event: ClockSkew | ClockJump, undo: Undo, others: Sequence[Undo]) -> None:
        """See Fault."""
        self._set(node, others)

    def problem(self, node: FaultyNode, event: ClockSkew | ClockJump, undo: Undo, others: Sequence[Undo]) -> str | None:
        """See Fault."""
        now_s = time.monotonic()
        shifts = [ClockShift.model_validate(other) for other in others]
        expected_s = sum(shift.offset_s + shift.rate * (now_s - shift.since_s) for shift in shifts)
        found_s = read_clock(node.root / "etc")
        if abs(found_s - expected_s) > _TOLERANCE_S + abs(expected_s) * 1e-6:
            return f"the clock of {node.name} is {found_s:+.3f} s off, and should be {expected_s:+.3f} s"
        return None

    def _set(self, node: FaultyNode, shifts: Sequence[Undo]) -> None:
        set_clock(node.root / "etc", [ClockShift.model_validate(shift) for shift in shifts])


KINDS: dict[str, Fault] = {"clock-skew": ClockFault(), "clock-jump": ClockFault()}
