"""Structured logs: one JSON object a line, to a file per process; a message that repeats is not repeated in the log."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

from syncer.log_sink import LogSink

REPEAT_S = 5.0


class _Quiet:
    """Drops an event that was logged within REPEAT_S with the same subject, and counts what it drops."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[tuple[object, ...], tuple[float, int]] = {}

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        subject = (event.get("event"), event.get("level"), event.get("site"), event.get("reason"))
        now = self._clock()
        last, dropped = self._last.get(subject, (float("-inf"), 0))
        if now - last < REPEAT_S and event.get("level") != "error":
            self._last[subject] = (last, dropped + 1)
            raise structlog.DropEvent
        if len(self._last) > 1000:
            self._last.clear()
        self._last[subject] = (now, 0)
        if dropped:
            event["repeated"] = dropped
        return event


def configure(path: Path) -> None:
    """Log to ``path``, appending. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _Quiet(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", LogSink(fd))),
    )
