"""How long the core itself takes to forward a packet: a known delay is set, and the excess is measured.

An emulated machine needs some tenths of a millisecond for each packet, a namespace next to nothing. What the core adds
is taken off every delay that it is asked for (harness.plan.shaping). A machine that has nothing to do takes longer to
wake up: on one that emulates, a lone packet took 0.6 ms, one of a thousand in a second 0.18 ms and no less at higher
rates. So the core is measured as it is when it carries traffic.
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
_PACKETS = 64
_WARM_UP = 4
_PACE_S = 0.001
_PAYLOAD = struct.Struct("@q28x")
"""When the packet was sent, in nanoseconds of the real-time clock."""

_DEADLINE_S = 2.0
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")


def one_way_delay_us(one: tuple[str, str], other: tuple[str, str]) -> float:
    """Delay in microseconds of packets between two sites, each a (namespace, address) of this host, both ways at once.

    The lower quartile: other work on this host delays some packets, and must not be taken for the core's own time.
    Arrival is the kernel's own timestamp. Raises ShapingError when packets do not arrive.
    """
    sockets = [_socket(*one), _socket(*other)]
    try:
        addresses = [each.getsockname() for each in sockets]
        begun = time.monotonic()
        for number in range(_PACKETS):
            time.sleep(max(0.0, begun + number * _PACE_S - time.monotonic()))
            sender = number % 2
            sockets[sender].sendto(_PAYLOAD.pack(time.time_ns()), addresses[1 - sender])
        delays = [_delay_us(sockets[1 - number % 2]) for number in range(_PACKETS)]
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


def _delay_us(receiver: socket.socket) -> float:
    payload, ancillary, _, _ = receiver.recvmsg(2048, 64)
    arrived_ns = time.time_ns()
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            arrived_ns = int(seconds * 10**9 + nanoseconds)
    (sent_ns,) = _PAYLOAD.unpack(payload)
    return float(arrived_ns - sent_ns) / 1000
