"""A place for log lines that never fails its writer: a full disk loses lines, not the engine."""

from __future__ import annotations

import contextlib
import os


class LogSink:
    """A text stream, as far as structlog needs one, over a descriptor that is open for appending."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.write(self._fd, text.encode(errors="replace"))
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""
