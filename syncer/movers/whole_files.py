"""Small files that arrived whole: written and made durable in groups.

A disk makes hundreds of files durable in the time that it takes for one, so while one group is being synced the next
one gathers. A large group is synced with one syncfs(2), a third of the cost of an fsync for each; but that waits for
whatever else is written to the file system, so where it turns out slow, fsync is used for a while.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from syncer.native import _bulk

GROUP_FILES = 256
"""Descriptors that a group has open at once."""

TOGETHER_AT_LEAST = 4
SLOW_S = 0.5
AVOID_S = 20.0

Done = Callable[[list[int]], None]


class WholeFile(NamedTuple):
    """``data`` must not change until the file is done."""

    temp_path: bytes
    data: memoryview


class SyncChoice:
    """When to sync the whole file system. Pure but for the times it is given."""

    def __init__(self) -> None:
        self._avoid_until = 0.0

    def whole_file_system(self, files: int, now: float) -> bool:
        return files >= TOGETHER_AT_LEAST and now >= self._avoid_until

    def took(self, seconds: float, now: float) -> None:
        """A group that was synced so took so long."""
        if seconds > SLOW_S:
            self._avoid_until = now + AVOID_S


class WholeFileWriter:
    """One thread that writes groups in the order in which they came. All files are on one file system."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[list[WholeFile], Done]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._choice = SyncChoice()
        self._thread = threading.Thread(target=self._run, name="whole-files", daemon=True)
        self._thread.start()

    def submit(self, files: list[WholeFile], done: Done) -> None:
        """``done`` is called on the writer's thread with an errno value for each file (0: it is durable); it must not
        raise."""
        with self._wake:
            self._waiting.append((files, done))
            self._wake.notify()

    def close(self) -> None:
        """Finish what was submitted."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            errors = self._write([file for files, _ in group for file in files])
            at = 0
            for files, done in group:
                done(errors[at : at + len(files)])
                at += len(files)

    def _next_group(self) -> list[tuple[list[WholeFile], Done]] | None:
        with self._wake:
            while not self._waiting and not self._closed:
                self._wake.wait()
            if not self._waiting:
                return None
            group = [self._waiting.popleft()]
            count = len(group[0][0])
            while self._waiting and count + len(self._waiting[0][0]) <= GROUP_FILES:
                group.append(self._waiting.popleft())
                count += len(group[-1][0])
            return group

    def _write(self, files: list[WholeFile]) -> list[int]:
        began = time.monotonic()
        together = self._choice.whole_file_system(len(files), began)
        errors: list[int] = []
        for start in range(0, len(files), GROUP_FILES):
            errors += _bulk.write_files([(path, data) for path, data in files[start : start + GROUP_FILES]], together)
        now = time.monotonic()
        if together:
            self._choice.took(now - began, now)
        return errors
