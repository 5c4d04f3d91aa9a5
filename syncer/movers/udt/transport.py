"""UDT behind the transport port: one UDP port a site, short queues, `bbr` with a ceiling where there is a cap."""

from __future__ import annotations

import contextlib
import socket
import time

from syncer.errors import TransportError
from syncer.movers.transport import TransportStatus
from syncer.native import _udt
from syncer.udt import UdtSettings

BUFFER_BYTES = 32 * 1024 * 1024
"""Four times the bandwidth-delay product of 200 Mbit/s over 300 ms; memory is taken only as it is used."""

CONNECT_S = 4.0
WAKE_S = 0.5
"""How long receive waits before it looks around."""

SMALLEST_QUEUE_PACKETS = 128
QUEUE_SECONDS = 0.05
"""How much may wait for its first transmission: more only makes urgent files late."""

QUEUE_REVIEW_S = 0.1
DEFAULT_MSS = 1500
LINK_HEADER = 14


class UdtConnection:
    """One thread sends, one receives, any may close."""

    def __init__(self, sock: _udt.Socket) -> None:
        self._socket = sock
        self._room_packets = SMALLEST_QUEUE_PACKETS
        self._review_at = 0.0
        self._cap_bps = 0

    def wait_room(self, timeout_s: float) -> bool:
        now = time.monotonic()
        try:
            if now >= self._review_at:
                self._review_at = now + QUEUE_REVIEW_S
                statistics = self._socket.statistics()
                packet_bits = (statistics["mss_bytes"] + LINK_HEADER) * 8
                packets = statistics["delivered_bps"] / packet_bits * QUEUE_SECONDS
                self._room_packets = max(SMALLEST_QUEUE_PACKETS, int(packets))
            return self._socket.wait_unsent_below(self._room_packets, timeout_s)
        except _udt.UdtError as error:
            raise _broken(error) from None

    def send(self, data: memoryview) -> None:
        try:
            self._socket.send_all(data)
        except _udt.UdtError as error:
            raise _broken(error) from None

    def receive_into(self, buffer: memoryview) -> int:
        try:
            got = self._socket.recv_into(buffer, timeout_s=WAKE_S, full=True)
        except _udt.TimedOut:
            return 0
        except _udt.UdtError as error:
            raise _broken(error) from None
        if not got and len(buffer):
            raise TransportError("the other end closed the connection")
        return got

    def heard(self) -> int:
        try:
            statistics = self._socket.statistics()
        except _udt.UdtError as error:
            raise _broken(error) from None
        kinds = ("packets_received", "packets_duplicate", "acknowledgements_received", "loss_reports_received")
        return sum(int(statistics[kind]) for kind in kinds)

    def unacknowledged(self) -> bool:
        try:
            return self._socket.undelivered_bytes > 0
        except _udt.UdtError as error:
            raise _broken(error) from None

    def set_rate(self, bits_per_second: int) -> None:
        try:
            self._socket.set_rate_bps(float(bits_per_second))
        except _udt.UdtError as error:
            raise _broken(error) from None
        self._cap_bps = bits_per_second

    def status(self) -> TransportStatus:
        try:
            statistics = self._socket.statistics()
        except _udt.UdtError as error:
            raise _broken(error) from None
        return TransportStatus(
            rtt_us=int(statistics["rtt_s"] * 1e6),
            target_rate_bps=int(statistics["target_bps"]),
            delivered_rate_bps=int(statistics["delivered_bps"]),
            packets_sent=statistics["packets_sent"],
            packets_lost=statistics["packets_lost"] - statistics["packets_spurious"],
            packets_retransmitted=statistics["packets_retransmitted"],
            min_rtt_us=int(statistics["min_rtt_s"] * 1e6),
            congestion_control=statistics["control"],
            rate_cap_bps=self._cap_bps,
        )

    def close(self) -> None:
        # Any error means that it was closed before.
        with contextlib.suppress(_udt.UdtError):
            self._socket.abort()


class UdtListener:
    def __init__(self, sock: _udt.Socket) -> None:
        self._socket = sock
        self.port: int = sock.local_address()[1]

    def accept(self) -> UdtConnection:
        try:
            return UdtConnection(self._socket.accept())
        except _udt.UdtError as error:
            raise _broken(error) from None

    def close(self) -> None:
        with contextlib.suppress(_udt.UdtError):
            self._socket.close()


class UdtTransport:
    """Connections leave from the listening port while there is one: a site needs one UDP port in its firewall."""

    name = "udt"

    def __init__(self, mss: int = DEFAULT_MSS) -> None:
        self._settings = UdtSettings(
            mss=mss,
            send_buffer_bytes=BUFFER_BYTES,
            receive_buffer_bytes=BUFFER_BYTES,
            connect_timeout_s=CONNECT_S,
        ).native()
        self._listening: tuple[str, int] | None = None

    def listen(self, address: str, port: int) -> UdtListener:
        sock = _udt.Socket(self._settings)
        try:
            sock.bind(_family(address), address, port)
            sock.listen()
            listener = UdtListener(sock)
        except (_udt.UdtError, ValueError) as error:
            sock.abort()
            raise TransportError(f"cannot listen on {address} port {port}: {_reason(error)}") from None
        self._listening = (address, listener.port)
        return listener

    def connect(self, address: str, port: int) -> UdtConnection:
        sock = _udt.Socket(self._settings)
        try:
            if self._listening is not None:
                sock.bind(_family(address), *self._listening)
            sock.connect(_family(address), address, port)
            return UdtConnection(sock)
        except (_udt.UdtError, ValueError) as error:
            sock.abort()
            raise TransportError(f"cannot connect to {address} port {port}: {_reason(error)}") from None


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _broken(error: _udt.UdtError) -> TransportError:
    return TransportError(_reason(error))
