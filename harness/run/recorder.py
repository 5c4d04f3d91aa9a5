"""The history as it grows: thread-safe, on disk line by line, so that a crash leaves all that happened before it."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import LabError
from harness.model.history import Event
from harness.model.tree import Tree, tree_to_json


class Recorder:
    """Appends events to ``path`` (JSON lines). Times are seconds since ``started`` on the monotonic clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.monotonic()
        # Unbuffered: what a full disk refuses must not come up again when the file is closed.
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._trees: set[str] = set()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def record(
        self,
        kind: Any,
        action: str,
        *,
        site: str | None = None,
        path: str | None = None,
        at_s: float | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> Event:
        """Append one event, now unless ``at_s`` says otherwise. Raises LabError when it cannot be written."""
        with self._lock:
            event = Event(
                at_s=round(self.now() if at_s is None else at_s, 6),
                kind=kind,
                site=site,
                action=action,
                path=path,
                data=dict(data or {}),
            )
            self._events.append(event)
            try:
                self._write(event.model_dump_json(exclude_defaults=True).encode() + b"\n")
            except OSError as error:
                raise LabError(f"cannot write {self.path}: {error.strerror}", hint="Is its disk full?") from error
        return event

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[self._file.write(rest) :]

    def record_tree(self, site: str, tree: Tree) -> None:
        """Append an observation; a tree that was seen before is named by its digest alone."""
        rows = tree_to_json(tree)
        digest = hashlib.blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()
        with self._lock:
            known = digest in self._trees
            self._trees.add(digest)
        data: dict[str, Any] = {"tree": digest, "entries": len(rows)}
        if not known:
            data["rows"] = rows
        self.record("observation", "tree", site=site, data=data)

    def mark(self) -> int:
        """How many events there are; ``since`` takes it."""
        with self._lock:
            return len(self._events)

    def since(self, mark: int = 0) -> tuple[Event, ...]:
        """The events from a mark on."""
        with self._lock:
            return tuple(self._events[mark:])

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            self._file.close()
