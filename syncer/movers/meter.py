"""A connection that also notes how long its sender was held up by it: only then does a rate say anything of a link."""

from __future__ import annotations

import time

from syncer.movers.transport import Connection, TransportStatus


class MeteredConnection:
    """Passes everything on. ``held_up_s`` is the time spent in ``wait_room`` and ``send``, by one sending thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.held_up_s = 0.0

    def wait_room(self, timeout_s: float) -> bool:
        began = time.monotonic()
        try:
            return self._connection.wait_room(timeout_s)
        finally:
            self.held_up_s += time.monotonic() - began

    def send(self, data: memoryview) -> None:
        began = time.monotonic()
        try:
            self._connection.send(data)
        finally:
            self.held_up_s += time.monotonic() - began

    def receive_into(self, buffer: memoryview) -> int:
        return self._connection.receive_into(buffer)

    def heard(self) -> int:
        return self._connection.heard()

    def unacknowledged(self) -> bool:
        return self._connection.unacknowledged()

    def set_rate(self, bits_per_second: int) -> None:
        self._connection.set_rate(bits_per_second)

    def status(self) -> TransportStatus:
        return self._connection.status()

    def close(self) -> None:
        self._connection.close()
