"""The speed tests of one session: what to send for them, and the count of what arrives.

A direction is named from here: ``there`` is towards the other end, ``back`` from it. The end that receives the bulk
counts, whoever asked. The session's other traffic goes on and is counted with it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from syncer.wire import mover_protocol as protocol
from syncer.wire.probe import LONGEST_TEST_US, Bulk, Last, Probe, Report, Request, pack_probe, unpack_probe
from syncer.wire.record import MAX_CONTENT

BULK_SIZE = MAX_CONTENT // 4
"""Small enough for a file that comes up meanwhile not to wait long behind one record on a slow link."""

WARM_UP_S = 1.0
"""Not counted in a test of three times this or longer: the transport is still finding its rate."""

Send = Callable[[protocol.FromMover], None]


@dataclass
class _Count:
    """Since when, and the session's received bytes then. ``warm`` is the same, taken after the warm-up."""

    test: int
    at: float
    bytes: int
    warm: tuple[float, int] | None = None


class SpeedProbe:
    """``start`` and ``stop`` are called from any thread, ``on_record`` from the receiver's, ``waits`` and
    ``next_record`` from the sender's, which ``wake`` wakes."""

    def __init__(self, session: int, report: Send, wake: Callable[[], None], received: Callable[[], int]) -> None:
        self._session = session
        self._report = report
        self._wake = wake
        self._received = received
        self._lock = threading.Lock()
        self._to_say: deque[Probe] = deque()
        self._own: dict[int, str] = {}
        self._bulk: tuple[int, float] | None = None  # the test, and when it ends
        self._count: _Count | None = None

    def start(self, message: protocol.SpeedTest) -> None:
        """One at a time in each direction: a new test ends the one before."""
        with self._lock:
            microseconds = min(int(message.seconds * 1e6), LONGEST_TEST_US)
            self._own[message.test] = message.direction
            if message.direction == "there":
                self._begin_bulk(message.test, microseconds)
            else:
                self._to_say.append(Request(message.test, microseconds))
        self._wake()

    def stop(self, test: int) -> None:
        with self._lock:
            if self._own.pop(test, None) == "back":
                self._to_say.append(Request(test, 0))
            elif self._bulk is not None and self._bulk[0] == test:
                self._bulk = test, 0.0
        self._wake()

    @property
    def waits(self) -> bool:
        return bool(self._to_say) or self._bulk is not None

    def next_record(self, content: memoryview, *, is_idle: bool) -> int:
        with self._lock:
            if self._bulk is not None and time.monotonic() >= self._bulk[1]:
                self._to_say.append(Last(self._bulk[0]))
                self._bulk = None
            if self._to_say:
                return pack_probe(content, self._to_say.popleft())
            if self._bulk is None or not is_idle:
                return 0
            return pack_probe(content, Bulk(self._bulk[0]), BULK_SIZE)

    def on_record(self, content: memoryview) -> None:
        """Raises WireError."""
        probe = unpack_probe(content)
        match probe:
            case Request():
                with self._lock:
                    if probe.microseconds:
                        self._begin_bulk(probe.test, probe.microseconds)
                    elif self._bulk is not None and self._bulk[0] == probe.test:
                        self._bulk = probe.test, 0.0
                self._wake()
            case Bulk():
                self._count_bulk(probe.test)
            case Last():
                self._conclude(probe.test)
            case Report():
                with self._lock:
                    known = self._own.pop(probe.test, None)
                if known == "there":
                    self._say_result(probe, "there")

    def _begin_bulk(self, test: int, microseconds: int) -> None:
        if self._bulk is not None:
            self._to_say.append(Last(self._bulk[0]))
        # Marks the beginning, also where files leave no turn for bulk.
        self._to_say.append(Bulk(test))
        self._bulk = test, time.monotonic() + microseconds / 1e6

    def _count_bulk(self, test: int) -> None:
        now, count = time.monotonic(), self._count
        if count is None or count.test != test:
            self._count = _Count(test, now, self._received())
        elif count.warm is None and now - count.at >= WARM_UP_S:
            count.warm = now, self._received()

    def _conclude(self, test: int) -> None:
        now, count = time.monotonic(), self._count
        self._count = None
        report = Report(test, 0, 0)
        if count is not None and count.test == test:
            at, base = count.at, count.bytes
            if count.warm is not None and now - count.at >= 3 * WARM_UP_S:
                at, base = count.warm
            report = Report(test, self._received() - base, int((now - at) * 1e6))
        with self._lock:
            is_own = self._own.pop(test, None) == "back"
            if not is_own:
                self._to_say.append(report)
        if is_own:
            self._say_result(report, "back")
        else:
            self._wake()

    def _say_result(self, report: Report, direction: str) -> None:
        self._report(
            protocol.SpeedResult(
                session=self._session,
                test=report.test,
                direction=direction,
                bytes=report.bytes,
                microseconds=report.microseconds,
            )
        )
