"""Sockets of our UDT over the loopback device and through a relay that loses packets."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from syncer import udt
from syncer.tests.contract.udp_relay import Direction, Impairment, UdpRelay, relay_to

LOOPBACK = "127.0.0.1"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as executor:
        yield executor


def pair(
    kind: udt.Kind = udt.Kind.STREAM, host: str = LOOPBACK, **settings: Any
) -> tuple[udt.UdtSocket, udt.UdtSocket]:
    """A client and the server's end; both give up after 20 s."""
    with udt.create_server((host, 0), kind=kind, **settings) as listener:
        listener.settimeout(10)
        client = udt.create_connection(listener.getsockname()[:2], kind=kind, **settings)
        server, _peer = listener.accept()
    for end in (client, server):
        end.settimeout(20)
    return client, server


def read_to_end(end: udt.UdtSocket) -> bytes:
    parts = []
    while part := end.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


# Streams.


@pytest.mark.parametrize("control", ["bbr", "native", "background", "fixed"])
def test_a_stream_arrives_whole_and_ends(pool: ThreadPoolExecutor, control: str) -> None:
    client, server = pair(control=control, rate_bps=900e6 if control == "fixed" else 0.0)
    data = os.urandom(10_000_000)
    reading = pool.submit(read_to_end, server)
    client.sendall(data)
    assert client.close() == 0
    assert hashlib.sha256(reading.result(20)).digest() == hashlib.sha256(data).digest()
    assert server.close() == 0


@pytest.mark.parametrize("loss", [0.01, 0.1])
def test_a_stream_arrives_whole_through_losses_repeats_and_reordering(pool: ThreadPoolExecutor, loss: float) -> None:
    data = os.urandom(3_000_000)
    with udt.create_server((LOOPBACK, 0)) as listener:
        listener.settimeout(10)
        bad = Impairment(loss=loss, duplicate=0.02, reorder=0.02, delay_s=0.005)
        with relay_to(listener.getsockname(), bad) as relay:
            client = udt.create_connection(relay.address)
            server, _peer = listener.accept()
            server.settimeout(30)
            both_ways = [pool.submit(read_to_end, end) for end in (client, server)]
            for end in (client, server):
                end.settimeout(30)
                pool.submit(lambda end=end: (end.sendall(data), end.finish()))
            assert [future.result(60) == data for future in both_ways] == [True, True]
            assert relay.counts[Direction.TO_SERVER].lost > 0
            assert client.close() == 0
            server.abort()


def test_half_closed_the_other_way_goes_on() -> None:
    client, server = pair()
    client.sendall(b"question")
    client.finish()
    assert read_to_end(server) == b"question"
    server.sendall(b"answer")
    with pytest.raises(udt.Closed):
        client.send(b"more")
    assert client.recv(100) == b"answer"
    assert server.close() == 0
    assert client.recv(100) == b""
    assert client.close() == 0


def test_ipv6_and_ipv4_reach_a_listener_on_all_addresses() -> None:
    with udt.create_server(("::", 0)) as listener:
        listener.settimeout(10)
        port = listener.getsockname()[1]
        for host in ("::1", "127.0.0.1", "127.0.0.5"):
            with udt.create_connection((host, port)) as client:
                server, peer = listener.accept()
                assert peer[0] == ("::1" if host == "::1" else "127.0.0.1")
                client.sendall(host.encode())
                server.settimeout(10)
                assert server.recv(100) == host.encode()
                server.abort()


def test_the_smaller_packet_size_is_agreed_on() -> None:
    with udt.create_server((LOOPBACK, 0), mss=1300) as listener:
        listener.settimeout(10)
        client = udt.create_connection(listener.getsockname(), mss=9000)
        server, _peer = listener.accept()
        assert client.statistics().mss_bytes == server.statistics().mss_bytes == 1300
        client.abort()
        server.abort()


def test_large_packets_carry_data(pool: ThreadPoolExecutor) -> None:
    client, server = pair(mss=16_000)
    data = os.urandom(5_000_000)
    reading = pool.submit(read_to_end, server)
    client.sendall(data)
    assert client.close() == 0
    assert reading.result(20) == data
    assert server.statistics().mss_bytes == 16_000
    server.abort()


def test_small_buffers_hold_a_fast_writer_back(pool: ThreadPoolExecutor) -> None:
    client, server = pair(send_buffer_bytes=100_000, receive_buffer_bytes=100_000)
    client.settimeout(0)
    taken = 0
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            taken += client.send(bytes(10_000))
        except udt.WouldBlock:
            if server.native.readable_bytes > 90_000:
                break
    assert 100_000 < taken < 400_000
    client.settimeout(0.2)
    with pytest.raises(udt.TimedOut):
        client.sendall(bytes(300_000))
    reading = pool.submit(read_to_end, server)
    client.close()
    assert len(reading.result(10)) >= taken
    server.abort()


def test_files_go_at_offsets(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    content = os.urandom(3_000_000)
    source.write_bytes(content)
    client, server = pair()
    receiving = pool.submit(server.recvfile, target, 500, 2_000_000)
    assert client.sendfile(source, 1_000_000) == 2_000_000
    assert receiving.result(20) == 2_000_000
    assert target.read_bytes() == bytes(500) + content[1_000_000:]
    receiving = pool.submit(server.recvfile, target, 0, 2_000)
    with source.open("rb") as file:
        assert client.sendfile(file, 0, 1_000) == 1_000
    client.close()
    assert receiving.result(20) == 1_000
    server.abort()


# Messages.


def test_messages_keep_their_bounds() -> None:
    client, server = pair(udt.Kind.MESSAGES)
    messages = [os.urandom(size) for size in (1, 100, 1456, 50_000)]
    for message in messages:
        client.sendmsg(message, in_order=True)
    assert [server.recvmsg(100_000) for _ in messages] == messages
    client.sendmsg(bytes(2_000))
    assert server.recvmsg_into(bytearray(10)) == 2_000
    with pytest.raises(udt.MessageTooLarge):
        client.sendmsg(bytes(64 * 1024 * 1024))
    with pytest.raises(udt.Misuse):
        client.send(b"x")
    assert client.close() == 0
    assert server.recvmsg(10) is None
    server.abort()


def test_a_message_that_lived_too_long_does_not_come() -> None:
    with udt.create_server((LOOPBACK, 0), kind=udt.Kind.MESSAGES) as listener:
        listener.settimeout(10)
        cut = threading.Event()
        with UdpRelay(listener.getsockname(), judge=lambda _way, datagram: [] if cut.is_set() else [datagram]) as relay:
            client = udt.create_connection(relay.address, kind=udt.Kind.MESSAGES)
            server, _peer = listener.accept()
            server.settimeout(20)
            client.sendmsg(b"first", in_order=True)
            assert server.recvmsg(100) == b"first"
            cut.set()
            client.sendmsg(bytes(5_000), lifetime_s=0.05)
            assert not client.wait_delivered(0.5)
            cut.clear()
            client.sendmsg(b"third", in_order=True)
            assert server.recvmsg(100) == b"third"
            client.abort()
            server.abort()


# Ends.


def test_nobody_listens() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        free = probe.getsockname()[1]
    begin = time.monotonic()
    with pytest.raises(udt.ConnectionRefused, match="no UDT server there"):
        udt.create_connection((LOOPBACK, free))
    assert time.monotonic() - begin < 5


def test_nobody_answers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind((LOOPBACK, 0))
        with pytest.raises(udt.TimedOut, match="no answer within"):
            udt.create_connection(deaf.getsockname(), connect_timeout_s=0.5)


def test_another_kind_of_socket_is_refused() -> None:
    with (
        udt.create_server((LOOPBACK, 0)) as listener,
        pytest.raises(udt.ConnectionRefused, match="expects another kind of socket"),
    ):
        udt.create_connection(listener.getsockname(), kind=udt.Kind.MESSAGES)


def test_a_peer_that_dies_is_told_from_one_that_closed() -> None:
    client, server = pair()
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    client.abort()
    with pytest.raises(udt.Broken):
        server.recv(1)
    assert server.state is udt.State.BROKEN
    with pytest.raises(udt.Broken):
        server.send(b"x")
    server.close()


def test_a_silent_peer_is_noticed() -> None:
    with udt.create_server((LOOPBACK, 0), dead_after_s=0.6) as listener:
        listener.settimeout(10)
        cut = threading.Event()
        with UdpRelay(listener.getsockname(), judge=lambda _way, datagram: [] if cut.is_set() else [datagram]) as relay:
            client = udt.create_connection(relay.address, dead_after_s=2.5)
            server, _peer = listener.accept()
            cut.set()
            server.settimeout(10)
            begin = time.monotonic()
            with pytest.raises(udt.PeerSilent):
                server.recv(1)
            assert time.monotonic() - begin < 3
            client.sendall(bytes(50_000))
            begin = time.monotonic()
            assert client.close(10) == 50_000
            assert time.monotonic() - begin < 5
            server.abort()


def test_a_path_that_swallows_large_packets_is_named() -> None:
    with udt.create_server((LOOPBACK, 0), dead_after_s=0.8) as listener:
        listener.settimeout(10)
        small = UdpRelay(
            listener.getsockname(), judge=lambda _way, datagram: [datagram] if len(datagram) < 1300 else []
        )
        with small as relay:
            client = udt.create_connection(relay.address, dead_after_s=0.8)
            server, _peer = listener.accept()
            client.sendall(bytes(100_000))
            client.settimeout(20)
            with pytest.raises(udt.UdtError, match="connect again with a smaller mss") as caught:
                client.recv(1)
            assert caught.value.errno == errno.EMSGSIZE
            client.abort()
            server.abort()
            client = udt.create_connection(relay.address, dead_after_s=0.8, mss=1300)
            server, _peer = listener.accept()
            client.sendall(bytes(100_000))
            assert client.close() == 0
            server.abort()


def test_an_idle_connection_lives_on() -> None:
    client, server = pair(dead_after_s=0.5)
    server.settimeout(1.5)
    with pytest.raises(udt.TimedOut):
        server.recv(1)
    client.sendall(b"still here")
    assert server.recv(100) == b"still here"
    client.abort()
    server.abort()


def test_close_wakes_a_reader_a_writer_and_an_acceptor(pool: ThreadPoolExecutor) -> None:
    client, server = pair(send_buffer_bytes=50_000, receive_buffer_bytes=50_000)
    client.settimeout(None)
    server.settimeout(None)
    with udt.create_server((LOOPBACK, 0)) as listener:
        waiting = [
            pool.submit(server.recv, 1),
            pool.submit(client.sendall, bytes(10_000_000)),
            pool.submit(listener.accept),
        ]
        # The reader got something: it waits no more, so a second read does.
        waiting[0].result(10)
        waiting[0] = pool.submit(lambda: [server.recv(1 << 20) for _ in iter(int, 1)])
        server.abort()
        client.abort()
        listener.abort()
        for future in waiting:
            with pytest.raises((udt.Closed, udt.Broken)):
                future.result(10)


def test_the_end_comes_behind_what_another_thread_is_writing(pool: ThreadPoolExecutor) -> None:
    for _ in range(20):
        client, server = pair()
        reading = pool.submit(read_to_end, server)

        def write(end: udt.UdtSocket = client) -> int:
            done = 0
            try:
                while True:
                    done += end.send(bytes(200_000))
            except udt.Closed:
                return done

        writing = pool.submit(write)
        while client.native.undelivered_bytes == 0 and not writing.done():
            pass
        assert client.close() == 0
        assert len(reading.result(10)) >= writing.result(10)
        server.abort()


def test_a_second_close_and_use_after_it() -> None:
    client, server = pair()
    assert client.close() == 0
    assert client.close() == 0
    with pytest.raises(udt.Closed):
        client.send(b"x")
    assert client.state is udt.State.CLOSED
    server.close()


def test_close_tells_how_much_did_not_arrive() -> None:
    client, server = pair(control="fixed", rate_bps=1e6)
    client.sendall(bytes(1_000_000))
    begin = time.monotonic()
    assert 500_000 < client.close(0.2) < 1_000_000
    assert time.monotonic() - begin < 2
    server.abort()


@pytest.mark.parametrize("extensions", [True, False])
def test_a_reader_that_closes_at_once_has_acknowledged_what_came(extensions: bool) -> None:
    for _ in range(10):
        client, server = pair(extensions=extensions)
        server.sendall(b"x" * 5_000)
        assert client.recv_exactly_into(bytearray(5_000)) == 5_000
        client.abort()
        assert server.close(5) == 0


def test_a_connection_that_outlives_its_listener() -> None:
    client, server = pair()
    client.sendall(b"after")
    assert server.recv(10) == b"after"
    port = server.getsockname()[1]
    with pytest.raises(udt.TimedOut):
        udt.create_connection((LOOPBACK, port), connect_timeout_s=0.4)
    client.abort()
    server.abort()


def test_a_full_backlog_refuses_and_has_room_again() -> None:
    with udt.create_server((LOOPBACK, 0), backlog=2) as listener:
        listener.settimeout(10)
        address = listener.getsockname()
        clients = [udt.create_connection(address) for _ in range(2)]
        with pytest.raises(udt.ConnectionRefused):
            udt.create_connection(address)
        clients += [udt.create_connection(address) for _ in [listener.accept()]]
        for client in clients:
            client.abort()


def test_a_listener_limits_its_connections() -> None:
    with udt.create_server((LOOPBACK, 0), max_connections=1) as listener:
        listener.settimeout(10)
        address = listener.getsockname()
        first = udt.create_connection(address)
        accepted, _peer = listener.accept()
        with pytest.raises(udt.ConnectionRefused):
            udt.create_connection(address)
        accepted.abort()
        end = time.monotonic() + 5
        while True:
            try:
                udt.create_connection(address).abort()
                break
            except udt.ConnectionRefused:
                assert time.monotonic() < end
        first.abort()


# Ports.


def test_many_connections_share_a_port(pool: ThreadPoolExecutor) -> None:
    with udt.create_server((LOOPBACK, 0)) as listener:
        address = listener.getsockname()

        def serve() -> None:
            listener.settimeout(20)
            server, _peer = listener.accept()
            server.settimeout(20)
            server.sendall(read_to_end(server))
            assert server.close() == 0

        def ask(number: int) -> bytes:
            client = udt.create_connection(address)
            client.settimeout(20)
            client.sendall(b"%d " % number * 10_000)
            client.finish()
            answer = read_to_end(client)
            client.close()
            return answer

        serving = [pool.submit(serve) for _ in range(8)]
        asked = [pool.submit(ask, number) for number in range(8)]
        assert [future.result(30) for future in asked] == [b"%d " % number * 10_000 for number in range(8)]
        for future in serving:
            future.result(30)


def test_outgoing_connections_share_the_listeners_port() -> None:
    with udt.create_server((LOOPBACK, 0)) as here, udt.create_server((LOOPBACK, 0)) as there:
        there.settimeout(10)
        client = udt.create_connection(there.getsockname(), source=here.getsockname())
        server, peer = there.accept()
        assert peer == here.getsockname() == client.getsockname()
        client.abort()
        server.abort()
        with pytest.raises(udt.AddressInUse):
            udt.create_server(here.getsockname())


def test_a_port_is_free_again_at_once() -> None:
    for _ in range(5):
        with udt.create_server((LOOPBACK, 0)) as listener:
            address = listener.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(address)


def test_a_udp_socket_can_be_handed_over() -> None:
    system = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    system.bind((LOOPBACK, 0))
    address = system.getsockname()
    listener = udt.UdtSocket()
    listener.bind_udp(system)
    listener.listen()
    client = udt.create_connection(address)
    client.abort()
    listener.abort()


def test_rendezvous(pool: ThreadPoolExecutor) -> None:
    ends = [udt.UdtSocket(settings=udt.UdtSettings(rendezvous=True)) for _ in range(2)]
    for end in ends:
        end.bind((LOOPBACK, 0))
        end.settimeout(20)
    addresses = [end.getsockname() for end in ends]
    connecting = [pool.submit(ends[each].connect, addresses[1 - each]) for each in (0, 1)]
    for future in connecting:
        future.result(20)
    ends[0].sendall(b"hello")
    assert ends[1].recv(10) == b"hello"
    assert ends[0].close() == 0
    ends[1].abort()


# The rest.


def test_misuse_is_reported() -> None:
    sock = udt.UdtSocket()
    assert sock.state is udt.State.INIT
    for call in (lambda: sock.send(b"x"), lambda: sock.recv(1), sock.statistics, sock.getpeername, sock.getsockname):
        with pytest.raises(udt.NotConnected):
            call()
    for wrong in (lambda: sock.listen(), lambda: sock.accept(), lambda: sock.bind((LOOPBACK, 70_000))):
        with pytest.raises(udt.Misuse):
            wrong()
    with pytest.raises(OSError, match="known"):
        sock.connect(("no.such.host.invalid", 1))
    sock.bind((LOOPBACK, 0))
    assert sock.state is udt.State.OPENED
    sock.close()
    for field, value in {"mss": 100, "control": "reno", "rate_bps": -1.0, "dead_after_s": 0.0, "mss ": 0}.items():
        with pytest.raises((udt.Misuse, TypeError)):
            udt.UdtSocket(settings=udt.UdtSettings(**{field: value}))
    with pytest.raises(udt.Misuse, match="needs a rate_bps"):
        udt.UdtSocket(settings=udt.UdtSettings(control="fixed"))


def test_the_rate_can_change_on_the_way(pool: ThreadPoolExecutor) -> None:
    client, server = pair(control="fixed", rate_bps=400e6, ceiling_bps=1e6)
    reading = pool.submit(read_to_end, server)
    client.sendall(bytes(3_000_000))
    assert client.wait_unsent_below(2_000, 10)
    assert client.statistics().target_bps == pytest.approx(1e6)
    client.set_rate_bps(0)
    assert client.statistics().target_bps == pytest.approx(400e6)
    assert client.close(10) == 0
    assert len(reading.result(10)) == 3_000_000
    server.abort()


@pytest.mark.parametrize("mbit", [8, 40])
def test_a_fixed_rate_is_right_on_the_wire(pool: ThreadPoolExecutor, mbit: int) -> None:
    rates: list[float] = []
    # A machine that is busy with something else makes a transfer slower; nothing makes one faster than it may be.
    while len(rates) < 3 and not any(rate >= mbit * 0.9e6 for rate in rates):
        client, server = pair(control="fixed", rate_bps=mbit * 1e6)
        reading = pool.submit(read_to_end, server)
        begin = time.monotonic()
        client.sendall(bytes(mbit * 100_000))
        assert client.wait_delivered(20)
        seconds = time.monotonic() - begin
        rates.append(client.statistics().packets_sent * 1514 * 8 / seconds)
        client.close()
        reading.result(10)
        server.abort()
    assert max(rates) == pytest.approx(mbit * 1e6, rel=0.1), rates


def test_statistics_agree_with_what_happened(pool: ThreadPoolExecutor) -> None:
    client, server = pair()
    reading = pool.submit(server.recv_exactly_into, bytearray(1_000_000))
    client.sendall(bytes(1_000_000))
    assert client.wait_delivered(10)
    assert reading.result(10) == 1_000_000
    sent, received = client.statistics(), server.statistics()
    assert sent.bytes_sent == sent.bytes_delivered == received.bytes_received == 1_000_000
    assert sent.packets_delivered == received.packets_received >= 1_000_000 // 1456
    assert sent.extended_peer and received.extended_peer
    assert sent.control == "bbr"
    assert 0 < sent.min_rtt_s < 1
    assert sent.udp_receive_buffer_bytes > 0
    assert sent.as_dict()["unsent_packets"] == 0
    client.abort()
    server.abort()


def test_ctrl_c_ends_a_wait() -> None:
    """In a process of its own: the interpreter's main thread waits for a peer that says nothing."""
    script = """
from syncer import udt
with udt.create_server(("127.0.0.1", 0)) as listener:
    client = udt.create_connection(listener.getsockname())
    try:
        print("waiting", flush=True)
        client.recv(1)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    client.abort()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(10) == 0


def test_the_end_of_a_process_tells_its_peers(pool: ThreadPoolExecutor) -> None:
    script = """
import sys
from syncer import udt
client = udt.create_connection(("127.0.0.1", int(sys.argv[1])))
client.sendall(b"x")
client.wait_delivered(10)
"""
    with udt.create_server((LOOPBACK, 0)) as listener:
        listener.settimeout(20)
        accepting = pool.submit(listener.accept)
        command = [sys.executable, "-W", "error", "-c", script, str(listener.getsockname()[1])]
        done = subprocess.run(command, timeout=20, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        server, _peer = accepting.result(10)
        server.settimeout(2)
        assert server.recv(1) == b"x"
        with pytest.raises(udt.Broken):
            server.recv(1)
        server.abort()


def test_a_forked_child_is_told_and_ends_well() -> None:
    script = """
import os, sys
from syncer import udt
listener = udt.create_server(("127.0.0.1", 0))
client = udt.create_connection(listener.getsockname())
child = os.fork()
if child == 0:
    try:
        client.send(b"x")
    except udt.Misuse as error:
        assert "fork" in str(error)
    with udt.create_server(("127.0.0.1", 0)) as own:
        udt.create_connection(own.getsockname()).abort()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
client.send(b"x")
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=30, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_sockets_that_come_and_go_leave_nothing(pool: ThreadPoolExecutor) -> None:
    def once() -> None:
        client, server = pair()
        client.sendall(bytes(100_000))
        assert server.recv_exactly_into(bytearray(100_000)) == 100_000
        client.close()
        server.close()

    def count(what: str) -> int:
        return len(list(Path("/proc/self", what).iterdir()))

    for _ in range(20):
        once()
    gc.collect()
    threads = count("task")
    descriptors = count("fd")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(40):
        once()
    gc.collect()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000
    assert count("task") == threads
    assert count("fd") == descriptors


def test_a_forgotten_socket_closes_without_lingering() -> None:
    client, server = pair(control="fixed", rate_bps=400_000)
    client.sendall(bytes(2_000_000))
    begin = time.monotonic()
    del client
    gc.collect()
    assert time.monotonic() - begin < 2
    server.abort()


def test_garbage_and_strangers_do_no_harm(pool: ThreadPoolExecutor) -> None:
    client, server = pair()
    target = server.getsockname()
    ids = [client.statistics().socket_id, server.statistics().socket_id]
    reading = pool.submit(server.recv_exactly_into, bytearray(2_000_000))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for number in range(3_000):
            stranger.sendto(os.urandom(number % 200), target)
            # A shutdown and data for the connection, but not from its peer.
            for head in (b"\x80\x05\x00\x00" + bytes(8), bytes(12)):
                stranger.sendto(head + ids[1].to_bytes(4, "big") + b"spam", target)
        client.sendall(bytes(2_000_000))
    assert reading.result(20) == 2_000_000
    assert client.close() == 0
    assert server.recv(1) == b""
    server.abort()


def test_a_request_that_is_replayed_opens_nothing() -> None:
    """While its connection lives, and after."""
    seen: list[bytes] = []
    with udt.create_server((LOOPBACK, 0)) as listener:
        listener.settimeout(10)
        with UdpRelay(listener.getsockname(), note=lambda _way, _at, datagram: seen.append(datagram)) as relay:
            client = udt.create_connection(relay.address)
            server, _peer = listener.accept()
            conclusion = next(each for each in seen if each[36:40] == b"\xff\xff\xff\xff")
            source = client.getsockname()
            # The relay knows the client by the address that it sends from, which for one bound to all is the loopback.
            origin = (LOOPBACK, source[1])
            listener.settimeout(0.2)
            relay.inject(Direction.TO_SERVER, origin, conclusion)
            with pytest.raises(udt.TimedOut):
                listener.accept()
            client.sendall(b"still one")
            assert server.recv(100) == b"still one"
            client.close()
            server.close()
            relay.inject(Direction.TO_SERVER, origin, conclusion)
            with pytest.raises(udt.TimedOut):
                listener.accept()


def test_a_flood_of_requests_keeps_nothing() -> None:
    """Requests without a right cookie are answered, and forgotten."""
    with udt.create_server((LOOPBACK, 0)) as listener:
        listener.settimeout(0)
        address = listener.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
            flood.settimeout(5)
            words = [4, 1, 1, 1500, 8192]
            for number in range(2_000):
                for request in (1, 0xFFFFFFFF):
                    handshake = [*words, request, number + 1, 12345, 0, 0, 0, 0]
                    flood.sendto(b"\x80" + bytes(15) + b"".join(word.to_bytes(4, "big") for word in handshake), address)
            answer = flood.recv(2_000)
        assert len(answer) == 64
        with pytest.raises(udt.WouldBlock):
            listener.accept()
        udt.create_connection(address).abort()
