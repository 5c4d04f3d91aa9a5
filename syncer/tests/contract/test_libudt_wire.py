"""What libudt 4.11 does with packets, as our UDT relies on it: a raw UDP socket speaks to it, byte by byte."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from syncer.native import _libudt

SERVER, CLIENT = "127.0.0.2", "127.0.0.3"
HANDSHAKE = struct.Struct("!iiIiiiiI4I")
REQUEST, CONCLUSION, REFUSED = 1, -1, 1002
HANDSHAKE_TYPE, KEEP_ALIVE, ACK, NAK, SHUTDOWN, ACK2, ERROR, USER = 0, 1, 2, 3, 5, 6, 8, 0x7FFF
QUIET_S = 0.3
"""libudt answers within a millisecond here: silence for so long is silence."""

ANSWER_S = 5.0


@dataclass(frozen=True)
class Packet:
    """``kind`` None: data, whose sequence number is in ``info``."""

    kind: int | None
    info: int
    destination: int
    body: bytes

    @classmethod
    def parsed(cls, datagram: bytes) -> Packet:
        first, second, _time, destination = struct.unpack_from("!4I", datagram)
        if first >> 31:
            return cls((first >> 16) & 0x7FFF, second, destination, datagram[16:])
        return cls(None, first, destination, datagram[16:])

    @property
    def words(self) -> tuple[int, ...]:
        return struct.unpack(f"!{len(self.body) // 4}I", self.body)


@dataclass
class Handshake:
    version: int = 4
    type: int = 1
    initial: int = 0x1234
    mss: int = 1500
    window: int = 8192
    request: int = REQUEST
    id: int = 77
    cookie: int = 0
    address: tuple[int, int, int, int] = (0x0200007F, 0, 0, 0)

    def body(self) -> bytes:
        return HANDSHAKE.pack(
            self.version,
            self.type,
            self.initial,
            self.mss,
            self.window,
            self.request,
            self.id,
            self.cookie,
            *self.address,
        )

    @classmethod
    def parsed(cls, body: bytes) -> Handshake:
        *fields, a, b, c, d = HANDSHAKE.unpack(body)
        return cls(*fields, (a, b, c, d))


@dataclass
class RawClient:
    """A client whose every packet the test writes itself."""

    port: int
    handshake: Handshake = field(default_factory=Handshake)
    peer: int = 0

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((CLIENT, 0))
        self.handshake.id = random.randrange(1, 1 << 30)

    def put(
        self, kind: int, body: bytes = b"", *, info: int = 0, subtype: int = 0, destination: int | None = None
    ) -> None:
        to = self.peer if destination is None else destination
        header = struct.pack("!4I", 0x8000_0000 | kind << 16 | subtype, info, 0, to)
        self.socket.sendto(header + body, (SERVER, self.port))

    def put_data(self, sequence: int, data: bytes) -> None:
        header = struct.pack("!4I", sequence, 0xC000_0001, 0, self.peer)
        self.socket.sendto(header + data, (SERVER, self.port))

    def get(self, kind: int | None, timeout_s: float = ANSWER_S) -> Packet | None:
        """The next packet of the kind; others are passed over."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                packet = Packet.parsed(self.socket.recv(2000))
            except TimeoutError:
                return None
            if packet.kind == kind:
                return packet
        return None

    def shake(self, request: int, extra: bytes = b"", **header: int) -> Handshake | None:
        self.handshake.request = request
        self.put(HANDSHAKE_TYPE, self.handshake.body() + extra, destination=0, **header)
        answer = self.get(HANDSHAKE_TYPE, QUIET_S)
        return None if answer is None else Handshake.parsed(answer.body)

    def connect(self) -> Handshake:
        answer = self.shake(REQUEST)
        assert answer is not None
        self.handshake.cookie = answer.cookie
        answer = self.shake(CONCLUSION)
        assert answer is not None
        assert answer.request == CONCLUSION
        self.peer = answer.id
        return answer


@pytest.fixture
def listener() -> Iterator[_libudt.Socket]:
    made = _libudt.Socket()
    made.bind(SERVER, 0)
    made.listen()
    yield made
    made.close()


@pytest.fixture
def client(listener: _libudt.Socket) -> Iterator[RawClient]:
    made = RawClient(listener.getsockname()[1])
    yield made
    made.put(SHUTDOWN, bytes(4))
    made.socket.close()


def accepted(listener: _libudt.Socket) -> _libudt.Socket:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(listener.accept).result(ANSWER_S)[0]


def still_reads(client: RawClient, server: _libudt.Socket, sequence: int) -> None:
    client.put_data(sequence, b"alive")
    assert server.recv(100) == b"alive"


def test_the_cookie_comes_first_and_the_initial_number_is_the_clients(client: RawClient) -> None:
    first = client.shake(REQUEST)
    assert first is not None
    assert (first.request, first.id, first.initial) == (REQUEST, client.handshake.id, client.handshake.initial)
    client.handshake.cookie = first.cookie
    client.handshake.mss = 1400
    second = client.shake(CONCLUSION)
    assert second is not None
    assert (second.request, second.initial, second.mss) == (CONCLUSION, client.handshake.initial, 1400)
    assert second.id != client.handshake.id
    # The address that the server sees, each word with its bytes turned round.
    assert second.address[0] == int.from_bytes(socket.inet_aton(CLIENT), "little")


def test_a_wrong_cookie_is_met_with_silence(client: RawClient) -> None:
    client.handshake.cookie = 1
    assert client.shake(CONCLUSION) is None


@pytest.mark.parametrize("extra", [1, 4, 16, 52])
def test_a_longer_handshake_is_met_with_silence(client: RawClient, extra: int) -> None:
    assert client.shake(REQUEST, bytes(extra)) is None
    assert client.shake(REQUEST) is not None


@pytest.mark.parametrize(("version", "type_"), [(5, 1), (0x10004, 1), (4, 2)])
def test_another_version_or_type_is_refused(client: RawClient, version: int, type_: int) -> None:
    client.handshake.version, client.handshake.type = version, type_
    first = client.shake(REQUEST)
    assert first is not None
    client.handshake.cookie = first.cookie
    second = client.shake(CONCLUSION)
    assert second is not None
    assert second.request == REFUSED


def test_a_repeated_conclusion_has_the_same_answer(client: RawClient, listener: _libudt.Socket) -> None:
    first = client.connect()
    again = client.shake(CONCLUSION)
    assert again is not None
    assert (again.request, again.id) == (CONCLUSION, first.id)


@pytest.mark.parametrize("kind", [USER, 9, 100, 4, ERROR])
@pytest.mark.parametrize("body", [b"", bytes(4), bytes(1400)], ids=len)
def test_messages_that_it_does_not_know_do_no_harm(
    client: RawClient, listener: _libudt.Socket, kind: int, body: bytes
) -> None:
    client.connect()
    server = accepted(listener)
    client.put(kind, body, info=0xDEADBEEF, subtype=0x1234)
    still_reads(client, server, client.handshake.initial)
    server.close()


def test_it_speaks_only_when_it_has_heard_nothing_for_a_while(client: RawClient, listener: _libudt.Socket) -> None:
    """Whoever sends it something every 100 ms hears nothing; keep-alives are never answered."""
    client.connect()
    server = accepted(listener)
    for _ in range(15):
        client.put(KEEP_ALIVE, bytes(4))
        assert client.get(KEEP_ALIVE, 0.1) is None
    assert client.get(KEEP_ALIVE) is not None
    server.close()


@pytest.mark.parametrize("ahead", [0, -1], ids=["of nothing new", "backward"])
def test_a_full_acknowledgement_is_always_answered(client: RawClient, listener: _libudt.Socket, ahead: int) -> None:
    client.connect()
    server = accepted(listener)
    for number in (7, 7, 3):
        client.put(ACK, struct.pack("!4I", client.handshake.initial + ahead, 1000, 500, 100), info=number)
        answer = client.get(ACK2)
        assert answer is not None
        assert answer.info == number
    still_reads(client, server, client.handshake.initial)
    server.close()


def test_a_light_acknowledgement_frees_nothing(client: RawClient, listener: _libudt.Socket) -> None:
    client.connect()
    server = accepted(listener)
    server.send_all(bytes(3000))
    client.put(ACK, struct.pack("!I", client.handshake.initial + 3))
    assert client.get(ACK2, QUIET_S) is None
    assert server.getsockopt(_libudt.UDT_SNDDATA) == 3
    client.put(ACK, struct.pack("!4I", client.handshake.initial + 3, 1000, 500, 100), info=1)
    assert client.get(ACK2) is not None
    # It answers before it frees.
    deadline = time.monotonic() + ANSWER_S
    while server.getsockopt(_libudt.UDT_SNDDATA) != 0:
        assert time.monotonic() < deadline
        client.get(ACK2, 0.02)
    server.close()


def test_a_loss_report_is_obeyed_each_time(client: RawClient, listener: _libudt.Socket) -> None:
    client.connect()
    server = accepted(listener)
    server.send_all(bytes(3000))
    initial = client.handshake.initial
    assert [packet.info for _ in range(3) if (packet := client.get(None))] == [initial, initial + 1, initial + 2]
    for _ in range(2):
        client.put(NAK, struct.pack("!I", initial + 1))
        again = client.get(None)
        assert again is not None
        assert again.info == initial + 1
    server.setsockopt(_libudt.UDT_LINGER, 0)
    server.close()


@pytest.mark.parametrize(
    ("kind", "body"),
    [(ACK, struct.pack("!4I", 0x1234 + 1000, 1000, 500, 100)), (NAK, struct.pack("!I", 0x1234 + 1000))],
    ids=["acknowledged", "reported lost"],
)
def test_what_was_never_sent_breaks_the_connection(
    client: RawClient, listener: _libudt.Socket, kind: int, body: bytes
) -> None:
    client.connect()
    server = accepted(listener)
    client.put(kind, body, info=1)
    with pytest.raises(_libudt.UDTException) as caught:
        server.recv(1)
    assert caught.value.code == _libudt.ECONNLOST
    server.close()


def test_a_loss_is_reported_once_and_the_gap_by_its_ends(client: RawClient, listener: _libudt.Socket) -> None:
    client.connect()
    server = accepted(listener)
    client.put_data(client.handshake.initial + 3, b"later")
    report = client.get(NAK)
    assert report is not None
    assert report.words == (0x8000_0000 | client.handshake.initial, client.handshake.initial + 2)
    assert client.get(NAK, 1.5) is None
    server.close()
