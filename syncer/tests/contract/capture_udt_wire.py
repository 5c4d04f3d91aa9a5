"""Takes the golden set of libudt 4.11's packets: ``python -m syncer.tests.contract.capture_udt_wire [SCENARIO...]``.

Each scenario runs two sockets of the libudt binding through a relay on the loopback device that notes every datagram.
The files go to ``syncer/tests/golden/udt_wire``; its README.md says what each shows. Socket ids, cookies, sequence
numbers and times differ from capture to capture, so the files are not compared byte by byte with a new capture.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncer.native import _libudt
from syncer.native._libudt import Socket, UDTException
from syncer.tests.contract.udp_relay import Address, Direction, UdpRelay

GOLDEN = Path(__file__).parent.parent / "golden/udt_wire"
LOOPBACK = "127.0.0.1"
IDLE_S = 3.0
"""Long enough for several of libudt's keep-alives."""


@dataclass
class Capture:
    packets: list[dict[str, Any]] = field(default_factory=list)
    _begin: float | None = None

    def note(self, direction: Direction, at: float, datagram: bytes) -> None:
        self._begin = at if self._begin is None else self._begin
        sender = "client" if direction is Direction.TO_SERVER else "server"
        self.packets.append({"us": round((at - self._begin) * 1e6), "from": sender, "hex": datagram.hex()})

    def remark(self, text: str) -> None:
        self.packets.append({"remark": text})


@dataclass
class Bench:
    """A listener, the relay in front of it and what passes."""

    capture: Capture
    listener: Socket
    relay: UdpRelay
    pool: ThreadPoolExecutor

    def connect(self, client: Socket) -> Socket:
        accepting = self.pool.submit(self.listener.accept)
        client.connect(*self.relay.address)
        server, _peer = accepting.result(10)
        return server


@contextmanager
def bench(
    capture: Capture, type_: int = socket.SOCK_STREAM, host: str = LOOPBACK, options: dict[int, int] | None = None
) -> Iterator[Bench]:
    listener = Socket(socket.AF_INET6 if ":" in host else socket.AF_INET, type_)
    for option, value in (options or {}).items():
        listener.setsockopt(option, value)
    listener.bind(host, 0)
    listener.listen()
    with (
        UdpRelay((host, listener.getsockname()[1]), note=capture.note) as relay,
        ThreadPoolExecutor(4) as pool,
    ):
        yield Bench(capture, listener, relay, pool)
        listener.close()


def read_exactly(sock: Socket, size: int) -> bytes:
    buffer = bytearray(size)
    got = sock.recv_full(buffer, size)
    assert got == size, (got, size)
    return bytes(buffer)


def settle(seconds: float = 0.3) -> None:
    """A capture watches what happens when nothing is asked for: here time itself is the condition."""
    threading.Event().wait(seconds)


def control_type(datagram: bytes) -> int | None:
    """None for a data packet."""
    word = struct.unpack_from("!I", datagram)[0]
    return (word >> 16) & 0x7FFF if word & 0x8000_0000 else None


def stream_connect_idle_close(capture: Capture) -> None:
    with bench(capture) as bed:
        client = Socket()
        server = bed.connect(client)
        capture.remark("client: send 5 bytes; server: send 7")
        client.send_all(b"hello")
        assert read_exactly(server, 5) == b"hello"
        server.send_all(b"goodbye")
        assert read_exactly(client, 7) == b"goodbye"
        settle()
        capture.remark("both idle")
        settle(IDLE_S)
        capture.remark("client: close")
        client.close()
        settle()
        with suppress(UDTException):
            server.recv(1)
        capture.remark("server: close")
        server.close()
        settle(1.0)


def stream_mss_1400_at_the_client(capture: Capture) -> None:
    with bench(capture) as bed:
        client = Socket()
        client.setsockopt(_libudt.UDT_MSS, 1400)
        client.setsockopt(_libudt.UDT_FC, 1000)
        server = bed.connect(client)
        client.send_all(bytes(range(250)) * 16)
        read_exactly(server, 4000)
        settle()
        client.close()
        server.close()


def stream_mss_1400_at_the_server(capture: Capture) -> None:
    with bench(capture, options={_libudt.UDT_MSS: 1400, _libudt.UDT_FC: 1000}) as bed:
        client = Socket()
        server = bed.connect(client)
        client.send_all(bytes(range(250)) * 16)
        read_exactly(server, 4000)
        settle()
        client.close()
        server.close()


def stream_over_ipv6(capture: Capture) -> None:
    with bench(capture, host="::1") as bed:
        client = Socket(socket.AF_INET6)
        server = bed.connect(client)
        client.send_all(b"hello")
        read_exactly(server, 5)
        settle()
        client.close()
        server.close()


def type_refused(capture: Capture) -> None:
    """A message client calls a stream listener."""
    with bench(capture) as bed:
        client = Socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            client.connect(*bed.relay.address)
        except UDTException as error:
            capture.remark(f"client: connect failed with {error.args}")
        client.close()


def nobody_there(capture: Capture) -> None:
    with UdpRelay((LOOPBACK, 1), note=capture.note) as relay:
        client = Socket()
        try:
            client.connect(*relay.address)
        except UDTException as error:
            capture.remark(f"client: connect failed with {error.args}")
        client.close()


def connection_request_lost(capture: Capture) -> None:
    """The first answer of each kind is lost, and the first conclusion."""
    with bench(capture) as bed:
        seen: set[tuple[Direction, int]] = set()

        def judge(direction: Direction, datagram: bytes) -> list[bytes]:
            if control_type(datagram) != 0:
                return [datagram]
            request = struct.unpack_from("!i", datagram, 36)[0]
            if (direction, request) in seen:
                return [datagram]
            seen.add((direction, request))
            capture.remark("that one was lost")
            return []

        bed.relay.judge = judge
        client = Socket()
        server = bed.connect(client)
        client.send_all(b"hello")
        read_exactly(server, 5)
        settle()
        client.close()
        server.close()


def messages(capture: Capture) -> None:
    with bench(capture, socket.SOCK_DGRAM) as bed:
        client = Socket(socket.AF_INET, socket.SOCK_DGRAM)
        server = bed.connect(client)
        for size, in_order in ((1, True), (100, False), (1456, True), (1457, True), (5000, False)):
            capture.remark(f"client: sendmsg of {size} bytes, in_order={in_order}")
            client.sendmsg(bytes(size), -1, in_order)
            assert len(server.recvmsg(100_000)) == size
            settle(0.05)
        settle()
        client.close()
        server.close()


def message_lifetime_over(capture: Capture) -> None:
    """Every data packet of the first transmission of a message that lives 50 ms is lost."""
    with bench(capture, socket.SOCK_DGRAM) as bed:
        client = Socket(socket.AF_INET, socket.SOCK_DGRAM)
        server = bed.connect(client)
        client.sendmsg(b"first", -1, True)
        assert server.recvmsg(100) == b"first"
        settle(0.1)
        dropping = True

        def judge(direction: Direction, datagram: bytes) -> list[bytes]:
            if dropping and direction is Direction.TO_SERVER and control_type(datagram) is None:
                capture.remark("that one was lost")
                return []
            return [datagram]

        bed.relay.judge = judge
        capture.remark("client: sendmsg of 4000 bytes with a lifetime of 50 ms")
        client.sendmsg(bytes(4000), 50, True)
        settle(0.2)
        dropping = False
        capture.remark("client: sendmsg of 4 bytes for ever")
        client.sendmsg(b"last", -1, True)
        assert server.recvmsg(100) == b"last"
        settle(1.0)
        client.close()
        server.close()


def losses(capture: Capture) -> None:
    """Of 40 data packets the 3rd, the 6th to 9th, and the 12th and 14th are lost once."""
    with bench(capture) as bed:
        client = Socket()
        server = bed.connect(client)
        first: list[int] = []
        hit: set[int] = set()

        def judge(direction: Direction, datagram: bytes) -> list[bytes]:
            if direction is Direction.TO_SERVER and control_type(datagram) is None:
                sequence = struct.unpack_from("!I", datagram)[0]
                first.append(sequence)
                offset = sequence - first[0] + 1
                if offset in {3, 6, 7, 8, 9, 12, 14} and offset not in hit:
                    hit.add(offset)
                    capture.remark("that one was lost")
                    return []
            return [datagram]

        bed.relay.judge = judge
        client.send_all(bytes(40 * 1456))
        read_exactly(server, 40 * 1456)
        settle()
        client.close()
        server.close()


def nak_lost(capture: Capture) -> None:
    """One data packet is lost, and so is the report of it; nothing follows for a while."""
    with bench(capture) as bed:
        client = Socket()
        server = bed.connect(client)
        first: list[int] = []
        lost: set[str] = set()

        def judge(direction: Direction, datagram: bytes) -> list[bytes]:
            kind = control_type(datagram)
            if direction is Direction.TO_SERVER and kind is None:
                first.append(struct.unpack_from("!I", datagram)[0])
                if first[-1] - first[0] == 2 and "data" not in lost:
                    lost.add("data")
                    capture.remark("that one was lost")
                    return []
            if direction is Direction.TO_CLIENT and kind == 3 and "nak" not in lost:
                lost.add("nak")
                capture.remark("that one was lost")
                return []
            return [datagram]

        bed.relay.judge = judge
        client.send_all(bytes(20 * 1456))
        read_exactly(server, 20 * 1456)
        settle()
        client.close()
        server.close()


def light_acks(capture: Capture) -> None:
    """Enough at once for acknowledgements between those of the timer. Data packets are noted without their payload."""
    with bench(capture) as bed:
        client = Socket()
        server = bed.connect(client)
        client.send_all(bytes(1456 * 1500))
        read_exactly(server, 1456 * 1500)
        settle()
        client.close()
        server.close()
        settle()
    for packet in capture.packets:
        if "hex" in packet and len(packet["hex"]) > 1000:
            packet["hex"] = packet["hex"][:32]
            packet["payload_cut"] = True
    keep = [at for at, packet in enumerate(capture.packets) if not packet.get("payload_cut")]
    kept = {near for at in keep for near in range(at - 1, at + 2)}
    capture.packets[:] = [packet for at, packet in enumerate(capture.packets) if at in kept]


def rendezvous(capture: Capture) -> None:
    """Both ends call each other. "client" and "server" name the relay's two sides only."""
    first, second = Socket(), Socket()
    for each in (first, second):
        each.setsockopt(_libudt.UDT_RENDEZVOUS, True)
        each.setsockopt(_libudt.UDT_REUSEADDR, False)
        each.bind(LOOPBACK, 0)
    client: Address = (LOOPBACK, first.getsockname()[1])
    with (
        UdpRelay((LOOPBACK, second.getsockname()[1]), note=capture.note) as relay,
        ThreadPoolExecutor(2) as pool,
    ):
        seen_as = relay.seen_as(client)
        capture.remark(f"client is bound to {client}, server to {relay.server}; relay at {relay.address} and {seen_as}")
        calling = pool.submit(first.connect, *relay.address)
        settle()
        answering = pool.submit(second.connect, *seen_as)
        calling.result(10)
        answering.result(10)
        first.send_all(b"hello")
        read_exactly(second, 5)
        settle()
        first.close()
        second.close()
        settle()


SCENARIOS: tuple[Callable[[Capture], None], ...] = (
    stream_connect_idle_close,
    stream_mss_1400_at_the_client,
    stream_mss_1400_at_the_server,
    stream_over_ipv6,
    type_refused,
    nobody_there,
    connection_request_lost,
    messages,
    message_lifetime_over,
    losses,
    nak_lost,
    light_acks,
    rendezvous,
)


def main(names: list[str]) -> int:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    chosen = [scenario for scenario in SCENARIOS if not names or scenario.__name__ in names]
    if not chosen:
        print(f"no such scenario; there are: {', '.join(each.__name__ for each in SCENARIOS)}", file=sys.stderr)
        return 2
    for scenario in chosen:
        capture = Capture()
        begin = time.monotonic()
        scenario(capture)
        document = {"scenario": scenario.__name__, "taken_from": "libudt 4.11, both ends", "packets": capture.packets}
        (GOLDEN / f"{scenario.__name__}.json").write_text(json.dumps(document, indent=0) + "\n")
        print(f"{scenario.__name__}: {len(capture.packets)} packets in {time.monotonic() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
