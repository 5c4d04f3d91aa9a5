"""How long the core itself takes to forward a packet: a known delay is set, and the excess is measured.

An emulated machine needs a good part of a millisecond for each packet, a namespace next to nothing. What the core adds
is taken off every delay that it is asked for (harness.plan.shaping).
"""

from __future__ import annotations

import socket
import statistics
import struct
import time

from harness.errors import ShapingError
from harness.model.impairment import Impairment
from harness.wan.local_transport import in_netns

CALIBRATION = Impairment(delay_us=5000, rate_bps=100_000_000)
_PACKETS = 24
_WARM_UP = 4
_PAYLOAD = bytes(36)
_DEADLINE_S = 2.0
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")


def one_way_delay_us(one: tuple[str, str], other: tuple[str, str]) -> float:
    """Delay in microseconds of packets to and fro between two sites, each a (namespace, address) of this host.

    The lower quartile: other work on this host delays some packets, and must not be taken for the core's own time.
    Arrival is the kernel's own timestamp. Raises ShapingError when packets do not arrive.
    """
    sockets = [_socket(*one), _socket(*other)]
    try:
        addresses = [each.getsockname() for each in sockets]
        delays = []
        for number in range(_PACKETS):
            sender = number % 2
            started_ns = time.time_ns()
            sockets[sender].sendto(_PAYLOAD, addresses[1 - sender])
            delays.append((_arrival_ns(sockets[1 - sender]) - started_ns) / 1000)
    except TimeoutError as error:
        raise ShapingError("packets do not cross the WAN core that was just built") from error
    finally:
        for each in sockets:
            each.close()
    return statistics.quantiles(delays[_WARM_UP:], n=4)[0]


def _socket(netns: str, address: str) -> socket.socket:
    with in_netns(netns):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    made.settimeout(_DEADLINE_S)
    made.bind((address, 0))
    return made


def _arrival_ns(receiver: socket.socket) -> int:
    _, ancillary, _, _ = receiver.recvmsg(2048, 64)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return int(seconds * 10**9 + nanoseconds)
    return time.time_ns()
