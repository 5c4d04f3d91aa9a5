"""UDT behind the transport port: one UDP port a site, our rate control, and the socket options that libudt needs."""

from __future__ import annotations

import contextlib
import socket

from syncer.errors import TransportError
from syncer.movers.transport import TransportStatus
from syncer.native import _libudt

BUFFER_BYTES = 32 * 1024 * 1024
"""Four times the bandwidth-delay product of 200 Mbit/s over 300 ms; libudt takes it only as it is used."""

UDP_BUFFER_BYTES = 8 * 1024 * 1024
WAKE_MS = 500
"""How long receive waits before it looks around."""

SMALLEST_QUEUE_PACKETS = 256
QUEUE_SECONDS = 0.1
"""How much may wait in libudt for its first transmission: more only makes urgent files late."""

DEFAULT_MSS = 1500
_SO_RCVBUFFORCE = 33


class UdtConnection:
    def __init__(self, sock: _libudt.Socket, mss: int) -> None:
        self._socket = sock
        self._rate = sock.rate_control()
        self._packet_bits = (mss + 14) * 8

    def wait_room(self, timeout_s: float) -> bool:
        rate = self._rate.status().target_bps / self._packet_bits
        room = max(SMALLEST_QUEUE_PACKETS, int(rate * QUEUE_SECONDS))
        try:
            return self._socket.wait_unsent_below(room, int(timeout_s * 1000))
        except _libudt.UDTException as error:
            raise TransportError(str(error.args[1])) from None

    def send(self, data: memoryview) -> None:
        try:
            self._socket.send_all(data)
        except _libudt.UDTException as error:
            raise TransportError(str(error.args[1])) from None

    def receive_into(self, buffer: memoryview) -> int:
        try:
            return self._socket.recv_full(buffer, len(buffer))
        except _libudt.UDTException as error:
            raise TransportError(str(error.args[1])) from None

    def heard(self) -> int:
        status = self._rate.status()
        return status.packets_received + status.packets_arrived

    def unacknowledged(self) -> bool:
        try:
            return int(self._socket.getsockopt(_libudt.UDT_SNDDATA)) > 0
        except _libudt.UDTException as error:
            raise TransportError(str(error.args[1])) from None

    def set_rate(self, bits_per_second: int) -> None:
        self._rate.rate_bps = float(bits_per_second)

    def status(self) -> TransportStatus:
        status = self._rate.status()
        try:
            trace = self._socket.perfmon(False)
        except _libudt.UDTException as error:
            raise TransportError(str(error.args[1])) from None
        return TransportStatus(
            rtt_us=status.rtt_us,
            target_rate_bps=int(status.target_bps),
            delivered_rate_bps=int(status.delivered_bps),
            packets_sent=trace.pktSentTotal,
            packets_lost=trace.pktSndLossTotal,
            packets_retransmitted=trace.pktRetransTotal,
            congestion_control="fixed" if self._rate.rate_bps else "adaptive",
            rate_cap_bps=int(self._rate.rate_bps),
        )

    def close(self) -> None:
        with contextlib.suppress(_libudt.UDTException):
            self._socket.close()


class UdtListener:
    def __init__(self, sock: _libudt.Socket, mss: int) -> None:
        self._socket = sock
        self._mss = mss
        self.port: int = sock.getsockname()[1]

    def accept(self) -> UdtConnection:
        while True:
            try:
                accepted, _peer = self._socket.accept()
            except _libudt.UDTException as error:
                raise TransportError(str(error.args[1])) from None
            try:
                return UdtConnection(accepted, self._mss)
            except _libudt.UDTException:
                # It broke before it was looked at: no fault of the listener.
                accepted.close()

    def close(self) -> None:
        with contextlib.suppress(_libudt.UDTException):
            self._socket.close()


class UdtTransport:
    """Connections leave from the listening port while there is one: a site needs one UDP port in its firewall."""

    name = "udt"

    def __init__(self, mss: int = DEFAULT_MSS) -> None:
        self._mss = mss
        self._listening: tuple[str, int] | None = None

    def listen(self, address: str, port: int) -> UdtListener:
        sock = self._socket(address)
        try:
            _bind(sock, address, port)
            sock.listen(64)
        except (_libudt.UDTException, OSError, ValueError) as error:
            sock.close()
            raise TransportError(f"cannot listen on {address} port {port}: {error}") from None
        listener = UdtListener(sock, self._mss)
        self._listening = (address, listener.port)
        return listener

    def connect(self, address: str, port: int) -> UdtConnection:
        sock = self._socket(address)
        try:
            if self._listening is not None:
                sock.bind(*self._listening)
            sock.connect(address, port)
            return UdtConnection(sock, self._mss)
        except (_libudt.UDTException, ValueError) as error:
            sock.close()
            raise TransportError(f"cannot connect to {address} port {port}: {error}") from None

    def _socket(self, address: str) -> _libudt.Socket:
        sock = _libudt.Socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(_libudt.UDT_MSS, self._mss)
        # FC first: libudt clips RCVBUF to it.
        sock.setsockopt(_libudt.UDT_FC, 2 * BUFFER_BYTES // (self._mss - 44))
        sock.setsockopt(_libudt.UDT_RCVBUF, BUFFER_BYTES)
        sock.setsockopt(_libudt.UDT_SNDBUF, BUFFER_BYTES)
        sock.setsockopt(_libudt.UDP_RCVBUF, UDP_BUFFER_BYTES)
        sock.setsockopt(_libudt.UDP_SNDBUF, UDP_BUFFER_BYTES)
        sock.setsockopt(_libudt.UDT_LINGER, 0)
        sock.setsockopt(_libudt.UDT_RCVTIMEO, WAKE_MS)
        sock.use_rate_control()
        return sock


def _bind(sock: _libudt.Socket, address: str, port: int) -> None:
    """Bind through a descriptor of our own: only so can the kernel's receive buffer be larger than rmem_max."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as system:
        system.bind((address, port))
        descriptor = system.detach()
    sock.bind_descriptor(descriptor)
    with contextlib.suppress(OSError), socket.socket(fileno=descriptor) as system:
        try:
            system.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, UDP_BUFFER_BYTES)
        finally:
            system.detach()
