"""Which faults are in force at a lab, in a file that several processes write and that a kill -9 leaves readable.

A fault's line, with all that its undo needs, is on disk before the fault is made, and its end after it is undone.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from harness.model.base import Value
from harness.model.timeline import TimelineEvent


class FaultBegin(Value):
    """A fault is about to be made. Times are seconds on the host's monotonic clock. ``origin`` says who makes it."""

    op: Literal["begin"] = "begin"
    id: str
    event: TimelineEvent
    at_s: float
    planned_s: float | None = None
    origin: str
    undo: dict[str, Any] = Field(default_factory=dict)


class FaultUpdate(Value):
    """More that the undo needs."""

    op: Literal["update"] = "update"
    id: str
    undo: dict[str, Any]


class FaultEnd(Value):
    """A fault is undone; not ``made``: it could not be made at all."""

    op: Literal["end"] = "end"
    id: str
    at_s: float
    planned_s: float | None = None
    made: bool = True


_LINE: TypeAdapter[FaultBegin | FaultUpdate | FaultEnd] = TypeAdapter(
    Annotated[FaultBegin | FaultUpdate | FaultEnd, Field(discriminator="op")]
)


class FaultSpan(Value):
    """One fault from its begin to its end; ``ended_s`` None: in force."""

    begin: FaultBegin
    ended_s: float | None = None


class FaultJournal:
    """The file ``faults.jsonl`` of a lab. Safe for threads and processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread_lock = threading.RLock()
        self._depth = 0

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the journal against other threads and processes, so that faults on one thing are made one by one."""
        with self._thread_lock:
            if self._depth:
                yield
                return
            with self._path.open("ab") as file:
                self._path.chmod(0o600)
                fcntl.flock(file, fcntl.LOCK_EX)
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1

    def next_id(self) -> str:
        """A name that no fault of this lab had; hold the journal."""
        return f"f{1 + sum(isinstance(line, FaultBegin) for line in self._lines())}"

    def append(self, line: FaultBegin | FaultUpdate | FaultEnd) -> None:
        """Durably add one line."""
        with self.exclusive(), self._path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    # What a crash cut short must not swallow the next line.
                    file.write(b"\n")
            file.write(line.model_dump_json().encode() + b"\n")
            file.flush()
            os.fdatasync(file.fileno())

    def spans(self) -> tuple[FaultSpan, ...]:
        """Every fault that was made since the lab came up, in the order of their begins."""
        found: dict[str, FaultSpan] = {}
        for line in self._lines():
            match line:
                case FaultBegin():
                    found[line.id] = FaultSpan(begin=line)
                case FaultUpdate() if line.id in found:
                    begin = found[line.id].begin
                    begin = begin.model_copy(update={"undo": {**begin.undo, **line.undo}})
                    found[line.id] = found[line.id].model_copy(update={"begin": begin})
                case FaultEnd() if not line.made:
                    found.pop(line.id, None)
                case FaultEnd() if line.id in found:
                    found[line.id] = found[line.id].model_copy(update={"ended_s": line.at_s})
                case _:
                    continue
        return tuple(found.values())

    def in_force(self) -> tuple[FaultBegin, ...]:
        """The faults that were begun and not ended."""
        return tuple(span.begin for span in self.spans() if span.ended_s is None)

    def _lines(self) -> Iterator[FaultBegin | FaultUpdate | FaultEnd]:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return
        for line in text.splitlines():
            try:
                yield _LINE.validate_json(line)
            except ValidationError:
                # Cut short by a crash: what it announced was not made yet.
                continue
