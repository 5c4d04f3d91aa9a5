"""A UDT connection as an asyncio transport: no thread of its own; descriptors tell what the socket can do."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from typing_extensions import Buffer

from syncer.native import _udt
from syncer.udt.errors import Closed, UdtError, WouldBlock
from syncer.udt.socket import UdtSocket
from syncer.udt.statistics import Statistics

READ_SIZE = 256 * 1024
HIGH_WATER = 256 * 1024
"""Of bytes that wait outside the connection's own send buffer."""


class UdtTransport(asyncio.Transport):
    """``close`` delivers what was written, for at most ``linger_s``, and then tells ``connection_lost``."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: UdtSocket, protocol: asyncio.BaseProtocol, linger_s: float
    ) -> None:
        peer, own = sock.getpeername(), sock.getsockname()
        super().__init__({"peername": peer, "sockname": own, "socket": sock})
        self._loop = loop
        self._native: _udt.Socket = sock.native
        self._socket = sock
        self._protocol = protocol
        self._linger_s = linger_s
        self._readable = sock.readable_descriptor()
        self._writable = sock.writable_descriptor()
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._high = HIGH_WATER
        self._low = HIGH_WATER // 4
        self._reading = False
        self._watching_room = False
        self._protocol_paused = False
        self._end_wanted = False
        self._end_announced = False
        self._closing = False
        self._lost = False
        self._peer_ended = False
        self._give_up: asyncio.TimerHandle | None = None
        self._undelivered: int | None = None
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self.resume_reading)

    # Reading.

    def is_reading(self) -> bool:
        return self._reading

    def resume_reading(self) -> None:
        if not (self._reading or self._closing or self._peer_ended):
            self._reading = True
            self._loop.add_reader(self._readable, self._read)

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._readable)

    def _read(self) -> None:
        try:
            data = self._native.recv(READ_SIZE, 0.0)
        except WouldBlock:
            return
        except UdtError as error:
            self._lose(error)
            return
        assert isinstance(self._protocol, asyncio.Protocol)
        if data:
            self._protocol.data_received(data)
            return
        self.pause_reading()
        self._peer_ended = True
        if not self._protocol.eof_received():
            self.close()

    # Writing.

    def write(self, data: Buffer) -> None:
        if self._end_wanted or self._closing:
            raise Closed(9, "the end of what is written was announced already")
        if self._lost:
            return
        rest = memoryview(data).cast("B")
        if not self._waiting:
            try:
                while rest:
                    rest = rest[self._native.send(rest, 0.0) :]
            except WouldBlock:
                pass
            except UdtError as error:
                self._lose(error)
                return
        if rest:
            # The caller may change what it gave.
            self._waiting.append(memoryview(bytes(rest)))
            self._waiting_bytes += len(rest)
            self._watch_room()
            self._maybe_pause()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._end_wanted:
            self._end_wanted = True
            self._announce_end()

    def get_write_buffer_size(self) -> int:
        return self._waiting_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must not be below low ({low}), nor low below 0")
        self._high, self._low = high, low
        self._maybe_pause()

    def _watch_room(self) -> None:
        if not self._watching_room:
            self._watching_room = True
            self._loop.add_reader(self._writable, self._write_waiting)

    def _unwatch_room(self) -> None:
        if self._watching_room:
            self._watching_room = False
            self._loop.remove_reader(self._writable)

    def _write_waiting(self) -> None:
        try:
            while self._waiting:
                taken = self._native.send(self._waiting[0], 0.0)
                self._waiting_bytes -= taken
                if taken < len(self._waiting[0]):
                    self._waiting[0] = self._waiting[0][taken:]
                else:
                    self._waiting.popleft()
        except WouldBlock:
            pass
        except UdtError as error:
            self._lose(error)
            return
        if self._protocol_paused and self._waiting_bytes <= self._low:
            self._protocol_paused = False
            self._protocol.resume_writing()
        if self._waiting:
            return
        self._unwatch_room()
        self._announce_end()

    def _maybe_pause(self) -> None:
        if not self._protocol_paused and self._waiting_bytes > self._high:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def _announce_end(self) -> None:
        if not self._end_wanted or self._end_announced or self._waiting or self._lost:
            return
        try:
            self._native.finish()
        except UdtError as error:
            # A peer that closed after all had arrived misses nothing.
            self._lose(error if self.undelivered_bytes() else None)
            return
        self._end_announced = True
        if self._closing:
            self._await_delivery()

    # The end.

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.pause_reading()
        if self._lost:
            return
        self._give_up = self._loop.call_later(self._linger_s, self._lose, None)
        if self._end_announced:
            self._await_delivery()
        else:
            self._end_wanted = True
            self._announce_end()

    def abort(self) -> None:
        self._closing = True
        self._lose(None)

    def undelivered_bytes(self) -> int:
        """What is not known to have arrived; after the end, what never was."""
        if self._undelivered is not None:
            return self._undelivered
        return self._waiting_bytes + self._native.undelivered_bytes

    def statistics(self) -> Statistics:
        return self._socket.statistics()

    def _await_delivery(self) -> None:
        # From now on the descriptor tells that all has arrived, or that nothing more can.
        self._unwatch_room()
        self._watching_room = True
        self._loop.add_reader(self._writable, self._lose, None)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        if self._give_up is not None:
            self._give_up.cancel()
        self.pause_reading()
        self._unwatch_room()
        self._undelivered = self._waiting_bytes + self._native.undelivered_bytes
        self._waiting.clear()
        self._waiting_bytes = 0
        self._native.abort()
        self._loop.call_soon(self._protocol.connection_lost, error)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "statistics" and not self._lost:
            return self.statistics()
        return super().get_extra_info(name, default)

    def __del__(self) -> None:
        if not self._lost:
            self._native.abort()
