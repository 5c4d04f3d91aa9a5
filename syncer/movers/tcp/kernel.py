"""What the Linux kernel tells of a TCP connection (TCP_INFO, linux/tcp.h) and the option numbers that Python lacks."""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
SO_MAX_PACING_RATE = 47
NO_PACING = (1 << 64) - 1

_INFO = struct.Struct("=8B24I4Q2I4I4Q2I2Q2I")
"""struct tcp_info up to ``tcpi_reord_seen``; Linux has all of it since 4.19."""


class TcpInfo(NamedTuple):
    """Times in microseconds, rates in bytes per second, the rest in bytes and packets since the connection began."""

    rtt_us: int
    min_rtt_us: int
    mss: int
    pacing_rate: int
    delivery_rate: int
    unacknowledged_packets: int
    not_sent_bytes: int
    bytes_sent: int
    """Payload, retransmissions included."""
    segments_sent: int
    """Acknowledgements included."""
    segments_received: int
    data_segments_sent: int
    retransmitted_segments: int
    needless_retransmissions: int
    """As far as the other end reported them (DSACK)."""


def read_info(sock: socket.socket) -> TcpInfo:
    """Raises OSError."""
    data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    if len(data) < _INFO.size:
        raise OSError(errno.ENOTSUP, "this kernel tells too little of TCP connections")
    values = _INFO.unpack(data)
    # 8 bytes of flags; rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent
    # last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt
    # rcv_space total_retrans; pacing_rate max_pacing_rate bytes_acked bytes_received; segs_out segs_in notsent_bytes
    # min_rtt data_segs_in data_segs_out; delivery_rate busy_time rwnd_limited sndbuf_limited; delivered delivered_ce;
    # bytes_sent bytes_retrans; dsack_dups reord_seen
    words = values[8:32]
    return TcpInfo(
        rtt_us=words[15],
        min_rtt_us=values[39],
        mss=words[2],
        pacing_rate=values[32],
        delivery_rate=values[42],
        unacknowledged_packets=words[4],
        not_sent_bytes=values[38],
        bytes_sent=values[48],
        segments_sent=values[36],
        segments_received=values[37],
        data_segments_sent=values[41],
        retransmitted_segments=words[23],
        needless_retransmissions=values[50],
    )


def choose_congestion_control(sock: socket.socket, wanted: str) -> str:
    """Set ``wanted`` if the kernel has it and allows it; the name of what is in use then."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, wanted.encode())
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EPERM):
            raise
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def enlarge_buffers(sock: socket.socket, size: int) -> None:
    """Give the socket buffers of ``size`` bytes, or leave them to the kernel's tuning if that grows them further.

    Asking for a size ends the tuning, and only a privileged process gets more than net.core.?mem_max.
    """
    for forced, plain, which in (
        (SO_SNDBUFFORCE, socket.SO_SNDBUF, "w"),
        (SO_RCVBUFFORCE, socket.SO_RCVBUF, "r"),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, size)
        except PermissionError:
            if min(_limit(f"net/core/{which}mem_max"), size) > _limit(f"net/ipv4/tcp_{which}mem"):
                sock.setsockopt(socket.SOL_SOCKET, plain, size)


def _limit(name: str) -> int:
    try:
        with open(f"/proc/sys/{name}") as file:  # noqa: PTH123
            return int(file.read().split()[-1])
    except (OSError, ValueError):
        return 0
