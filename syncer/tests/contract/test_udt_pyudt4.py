"""pyudt4's names over our UDT; with libudt's own numbers."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from syncer import udt4
from syncer.native import _libudt
from syncer.udt4 import constants, pyudt

LOOPBACK = "127.0.0.1"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def pair(
    pool: ThreadPoolExecutor, type_: int = socket.SOCK_STREAM, **options: int | bool | str
) -> tuple[pyudt.UdtSocket, pyudt.UdtSocket]:
    listener, client = pyudt.UdtSocket(type=type_), pyudt.UdtSocket(type=type_)
    for name, value in options.items():
        for sock in (listener, client):
            sock.setsockopt(getattr(pyudt, name), value)
    listener.bind((LOOPBACK, 0))
    listener.listen(5)
    accepting = pool.submit(listener.accept)
    client.connect(listener.getsockname())
    server, (host, _port) = accepting.result(10)
    assert host == LOOPBACK
    listener.close()
    return client, server


def test_the_numbers_are_libudts() -> None:
    for name in dir(_libudt):
        value = getattr(_libudt, name)
        if isinstance(value, int) and hasattr(constants, name):
            assert getattr(constants, name) == value, name
    for state in ("INIT", "OPENED", "LISTENING", "CONNECTING", "CONNECTED", "BROKEN", "CLOSING", "CLOSED", "NONEXIST"):
        assert getattr(udt4, f"UDTSTATUS_{state}") == getattr(_libudt, state)
    assert set(udt4.TRACEINFO.__dataclass_fields__) == {
        name for name in dir(_libudt.TRACEINFO) if not name.startswith("_") and "SndDuration" not in name
    }


def test_a_stream_and_its_numbers(pool: ThreadPoolExecutor) -> None:
    client, server = pair(pool)
    data = os.urandom(3_000_000)
    sending = pool.submit(client.sendall, data)
    received = b""
    while len(received) < len(data):
        received += server.recv(1 << 20)
    assert received == data
    assert sending.result(10) == len(data)
    first = client.perfmon()
    assert first.pktSentTotal == first.pktSent >= len(data) // 1456
    assert client.perfmon(False).pktSent < first.pktSent
    assert client.send(b"ab", 5) == 5
    assert server.read(10) == b"ab\0\0\0"
    assert client.getsockstate() == udt4.UDTSTATUS_CONNECTED
    assert client.getpeername() == server.getsockname()
    client.close()
    with pytest.raises(pyudt.UDTException) as caught:
        server.recv(10)
    assert caught.value[0] == caught.value.code == udt4.ECONNLOST
    server.close()
    assert server.getsockstate() == udt4.UDTSTATUS_CLOSED


def test_messages(pool: ThreadPoolExecutor) -> None:
    client, server = pair(pool, socket.SOCK_DGRAM)
    assert client.type == server.type == socket.SOCK_DGRAM
    assert client.sendmsg(b"one", inorder=True) == 3
    assert client.sendto(b"two", 6, 10_000, True) == 6
    assert [server.recvmsg(100), server.recvfrom(100)] == [b"one", b"two\0\0\0"]
    client.close()
    server.close()


def test_files(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    client, server = pair(pool)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 1000)
    receiving = pool.submit(server.recvfile, str(target), 0, 255_000)
    assert client.sendfile(str(source), 1_000) == 255_000
    assert receiving.result(10) == 255_000
    assert target.read_bytes() == source.read_bytes()[1_000:]
    client.close()
    server.close()


def test_it_speaks_with_libudt(pool: ThreadPoolExecutor) -> None:
    listener = _libudt.Socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(LOOPBACK, 0)
    listener.listen()
    accepting = pool.submit(listener.accept)
    client = pyudt.UdtSocket()
    client.connect(listener.getsockname())
    server, _peer = accepting.result(10)
    client.sendall(b"question")
    buffer = bytearray(8)
    assert server.recv_full(buffer, 8) == 8
    assert buffer == b"question"
    server.send_all(b"answer")
    assert client.recv(100) == b"answer"
    client.close()
    server.close()
    listener.close()


def test_failures_have_udt4s_codes(pool: ThreadPoolExecutor) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        free = probe.getsockname()
    client = pyudt.UdtSocket()
    assert client.connect_ex(free) == udt4.ENOSERVER
    client.close()

    fresh = pyudt.UdtSocket()
    for call, code in (
        (lambda: fresh.send(b"x"), udt4.ENOCONN),
        (lambda: fresh.recv(1), udt4.ENOCONN),
        (lambda: fresh.getpeername(), udt4.ENOCONN),
        (lambda: fresh.setsockopt(constants.UDT_STATE, 1), udt4.EINVPARAM),
        (lambda: fresh.setsockopt(constants.UDT_CC, "reno"), udt4.EINVPARAM),
        (lambda: fresh.fileno(False), udt4.EINVPARAM),
    ):
        with pytest.raises(udt4.UDTException) as caught:
            call()
        assert caught.value.code == code
    fresh.close()

    client, server = pair(pool)
    server.setblocking(True, False)
    for call, code in (
        (lambda: server.recv(1), udt4.EASYNCRCV),
        (lambda: client.sendmsg(b"x"), udt4.EINVOP),
        (lambda: client.setsockopt(constants.UDT_MSS, 1400), udt4.ECONNSOCK),
    ):
        with pytest.raises(udt4.UDTException) as caught:
            call()
        assert caught.value.code == code
    server.setblocking(True)
    server.settimeout(-1, 50)
    assert server.gettimeout() == (-1, 50)
    with pytest.raises(udt4.UDTException) as caught:
        server.recv(1)
    assert caught.value.code == udt4.ETIMEOUT
    client.close()
    server.close()


def test_options_read_back_and_count(pool: ThreadPoolExecutor) -> None:
    sock = pyudt.UdtSocket()
    for option, value in (
        (pyudt.UDT_MSS, 1400),
        (pyudt.UDT_FC, 50_000),
        (pyudt.UDT_LINGER, 3),
        (pyudt.UDT_RCVSYN, False),
        (pyudt.UDT_RCVTIMEO, 250),
        (pyudt.UDT_MAXBW, 12_500_000),
        (pyudt.UDT_CC, "native"),
    ):
        sock.setsockopt(option, value)
        assert sock.getsockopt(option) == value
    sock.setsockopt(pyudt.UDT_LINGER, (0, 5))
    assert sock.getsockopt(pyudt.UDT_LINGER) == 0
    sock.close()
    client, server = pair(pool, UDT_MSS=1400, UDT_CC="fixed", UDT_MAXBW=1_000_000)
    statistics = client.UDTSOCKET.statistics()
    assert (statistics.mss_bytes, statistics.control) == (1400, "fixed")
    assert statistics.target_bps == pytest.approx(8e6 * 1414 / 1400)
    client.setsockopt(pyudt.UDT_MAXBW, 500_000)
    assert client.UDTSOCKET.statistics().target_bps == pytest.approx(4e6 * 1414 / 1400)
    client.setsockopt(pyudt.UDT_LINGER, 0)
    client.close()
    server.close()


def test_epoll_sees_udt_and_system_sockets(pool: ThreadPoolExecutor) -> None:
    client, server = pair(pool)
    left, right = socket.socketpair()
    with left, right:
        epoll = pyudt.Epoll()
        epoll.add_usock(server, pyudt.UDT_EPOLL_IN)
        epoll.add_ssock(right, pyudt.UDT_EPOLL_IN)
        assert epoll.wait(True, False, 50, True) == (set(), set(), set(), set())
        client.sendall(b"x")
        assert epoll.wait(True, False, 5000)[0] == {server}
        left.send(b"y")
        assert server.recv(1) == b"x"
        assert epoll.wait(True, False, 5000, True)[2] == {right}
        epoll.add_usock(client)
        assert epoll.wait(False, True, 5000)[1] == {client}
        client.close()
        assert epoll.wait(True, False, 5000)[0] >= {server}
        epoll.garbage_collect()
        epoll.remove_usock(server)
        epoll.remove_ssock(right)
        assert epoll.wait(True, True, 10, True, True) == (set(), set(), set(), set())
    server.close()


def test_epoll_tells_of_connections_to_accept() -> None:
    listener = pyudt.UdtSocket()
    listener.bind((LOOPBACK, 0))
    epoll = pyudt.Epoll()
    epoll.add_usock(listener)
    listener.listen(5)
    assert epoll.wait(True, True, 0) == (set(), set(), set(), set())
    client = pyudt.UdtSocket()
    client.connect(listener.getsockname())
    assert epoll.wait(True, True, 5000)[0] == {listener}
    accepted, _peer = listener.accept()
    for sock in (client, accepted, listener):
        sock.close()


def test_a_forgotten_socket_closes_without_lingering(pool: ThreadPoolExecutor) -> None:
    client, server = pair(pool, UDT_CC="fixed", UDT_MAXBW=50_000)
    client.sendall(bytes(2_000_000))
    begin = time.monotonic()
    del client
    gc.collect()
    assert time.monotonic() - begin < 2
    server.close()
