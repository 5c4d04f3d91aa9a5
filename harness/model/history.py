"""What was done to the system under test and what was observed, in order. The checkers judge from this alone."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.model.base import Value


class Event(Value):
    """One entry of the history. ``at_s`` is seconds since the run began, on a monotonic clock.

    kinds: ``operation`` (a workload's write, delete, rename ... at a site), ``observation`` (a tree as it was read),
    ``wan`` (a link changed), ``fault`` (a process was killed, a site cut off), ``sut`` (started, stopped, settled),
    ``command`` (a command run on a node), ``note``.
    """

    at_s: float
    kind: Literal["operation", "observation", "wan", "fault", "sut", "command", "note"]
    site: str | None = None
    action: str
    path: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)
