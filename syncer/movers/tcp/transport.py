"""TCP behind the transport port: BBR where the kernel allows it, short queues, the kernel's own pacing for caps."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator

from syncer.core.wire_rate import tcp_payload_rate
from syncer.errors import TransportError
from syncer.movers.tcp.kernel import (
    NO_PACING,
    SO_MAX_PACING_RATE,
    TcpInfo,
    choose_congestion_control,
    enlarge_buffers,
    read_info,
)
from syncer.movers.transport import TransportStatus

BUFFER_BYTES = 32 * 1024 * 1024
"""Four times the bandwidth-delay product of 200 Mbit/s over 300 ms."""

CONNECT_S = 4.0
WAKE_S = 0.5
"""How long receive waits before it looks around."""

SMALLEST_QUEUE_BYTES = 128 * 1024
LARGEST_QUEUE_BYTES = 4 * 1024 * 1024
QUEUE_SECONDS = 0.05
"""How much may wait in the kernel for its first transmission: more only makes urgent files late."""

QUEUE_REVIEW_S = 0.1
DEAD_PEER_MS = 15_000
"""For the kernel, should the session not have noticed before: unacknowledged data ends the connection."""

KEEPALIVE = ((socket.TCP_KEEPIDLE, 2), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 5))
CONGESTION_CONTROL = "bbr"
_SIOCOUTQ = 0x5411


class TcpConnection:
    """One thread sends, one receives, any may close."""

    def __init__(self, sock: socket.socket, congestion_control: str) -> None:
        self._socket = sock
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        self._congestion_control = congestion_control
        self._cap_bps = 0
        self._queue_bytes = 0
        self._review_at = 0.0
        self._last = 0, time.monotonic()
        sock.setblocking(True)
        seconds = int(WAKE_S)
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, int((WAKE_S - seconds) * 1e6))
        )
        self._writable = select.poll()
        self._writable.register(sock, select.POLLOUT)
        self._review_queue(SMALLEST_QUEUE_BYTES)

    def wait_room(self, timeout_s: float) -> bool:
        with self._in_use() as sock:
            now = time.monotonic()
            if now >= self._review_at:
                self._review_at = now + QUEUE_REVIEW_S
                self._review_queue(int(read_info(sock).delivery_rate * QUEUE_SECONDS))
            ready = self._writable.poll(timeout_s * 1000)
            if ready and ready[0][1] & (select.POLLERR | select.POLLHUP):
                raise OSError(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNRESET, "")
            return bool(ready)

    def send(self, data: memoryview) -> None:
        with self._in_use() as sock:
            sock.sendall(data)

    def receive_into(self, buffer: memoryview) -> int:
        with self._in_use() as sock:
            try:
                got = sock.recv_into(buffer, len(buffer), socket.MSG_WAITALL)
            except BlockingIOError:
                return 0
            if not got and len(buffer):
                raise OSError(errno.ECONNRESET, "the other end closed the connection")
            return got

    def heard(self) -> int:
        with self._in_use() as sock:
            return read_info(sock).segments_received

    def unacknowledged(self) -> bool:
        with self._in_use() as sock:
            (queued,) = struct.unpack("i", fcntl.ioctl(sock, _SIOCOUTQ, bytes(4)))
            return int(queued) > 0

    def set_rate(self, bits_per_second: int) -> None:
        with self._in_use() as sock:
            self._cap_bps = bits_per_second
            rate = NO_PACING
            if bits_per_second:
                rate = tcp_payload_rate(bits_per_second, read_info(sock).mss, is_ipv6=sock.family == socket.AF_INET6)
            sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("=Q", rate))

    def status(self) -> TransportStatus:
        with self._in_use() as sock:
            info = read_info(sock)
        return TransportStatus(
            rtt_us=info.rtt_us,
            target_rate_bps=_target_rate(info, self._cap_bps),
            delivered_rate_bps=info.delivery_rate * 8,
            packets_sent=info.data_segments_sent,
            packets_lost=max(0, info.retransmitted_segments - info.needless_retransmissions),
            packets_retransmitted=info.retransmitted_segments,
            min_rtt_us=info.min_rtt_us,
            congestion_control=self._congestion_control,
            rate_cap_bps=self._cap_bps,
        )

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(OSError):
                # Nothing waits in the kernel for a peer that may be gone: reset.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._socket.shutdown(socket.SHUT_RDWR)
            if not self._users:
                self._socket.close()

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[socket.socket]:
        """The socket, which is not closed under its user: its number might be another file's by then."""
        with self._lock:
            if self._closed:
                raise TransportError("the connection is closed")
            self._users += 1
        try:
            yield self._socket
        except OSError as error:
            reason = "the connection is closed" if self._closed else _reason(error)
            raise TransportError(reason) from None
        finally:
            with self._lock:
                self._users -= 1
                if self._closed and not self._users:
                    self._socket.close()

    def _review_queue(self, wanted: int) -> None:
        wanted = min(max(wanted, SMALLEST_QUEUE_BYTES), LARGEST_QUEUE_BYTES)
        if abs(wanted - self._queue_bytes) * 4 >= self._queue_bytes:
            self._queue_bytes = wanted
            # The kernel wakes a waiting writer at half of this.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 2 * wanted)


class TcpListener:
    """One thread accepts, any may close."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._accepting = False
        self._closed = False
        self.port: int = sock.getsockname()[1]

    def accept(self) -> TcpConnection:
        with self._lock:
            if self._closed:
                raise TransportError("the listener is closed")
            self._accepting = True
        try:
            return self._accept()
        except OSError as error:
            raise TransportError(_reason(error)) from None
        finally:
            with self._lock:
                self._accepting = False
                if self._closed:
                    self._dispose()

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                os.eventfd_write(self._wake_fd, 1)
                if not self._accepting:
                    self._dispose()

    def _accept(self) -> TcpConnection:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wake_fd, select.POLLIN)
        while True:
            poll.poll()
            if self._closed:
                raise TransportError("the listener is closed")
            try:
                accepted, _peer = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            try:
                return TcpConnection(accepted, _prepare(accepted))
            except OSError:
                # It broke before it was looked at: no fault of the listener.
                accepted.close()

    def _dispose(self) -> None:
        self._socket.close()
        os.close(self._wake_fd)


class TcpTransport:
    """Connections leave from the listening address while there is one, from a port of the kernel's choice."""

    name = "tcp"

    def __init__(self) -> None:
        self._listening = ""

    def listen(self, address: str, port: int) -> TcpListener:
        sock = socket.socket(_family(address), socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Before the handshake, so that the window scale fits the buffer.
            enlarge_buffers(sock, BUFFER_BYTES)
            sock.bind((address, port))
            sock.listen(64)
            sock.setblocking(False)
        except (OSError, OverflowError) as error:
            sock.close()
            raise TransportError(f"cannot listen on {address} port {port}: {_reason(error)}") from None
        self._listening = address
        return TcpListener(sock)

    def connect(self, address: str, port: int) -> TcpConnection:
        sock = socket.socket(_family(address), socket.SOCK_STREAM)
        try:
            congestion_control = _prepare(sock)
            if self._listening:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((self._listening, 0))
            sock.settimeout(CONNECT_S)
            sock.connect((address, port))
            return TcpConnection(sock, congestion_control)
        except (OSError, OverflowError) as error:
            sock.close()
            raise TransportError(f"cannot connect to {address} port {port}: {_reason(error)}") from None


def _prepare(sock: socket.socket) -> str:
    """Set the options of a connection; the name of its congestion control."""
    enlarge_buffers(sock, BUFFER_BYTES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
    return choose_congestion_control(sock, CONGESTION_CONTROL)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _target_rate(info: TcpInfo, cap_bps: int) -> int:
    """Of a connection without pacing (cubic, say) the kernel states no sensible rate."""
    paced = info.pacing_rate * 8
    if cap_bps:
        return min(paced, cap_bps)
    return paced if info.pacing_rate < NO_PACING else 0


def _reason(error: OSError | OverflowError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    return getattr(error, "strerror", None) or os.strerror(getattr(error, "errno", None) or 0) or str(error)
