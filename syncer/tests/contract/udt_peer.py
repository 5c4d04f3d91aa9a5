"""One end of a UDT connection, of any implementation: ``python -m syncer.tests.contract.udt_peer TASK``.

The one argument is a JSON `Task`. A listener prints ``port N`` first. When all that is to come has come and all that is
to go was taken, the end prints its account as JSON, and closes once it reads a line: an end that closed at once could
take away what the other has not got yet.
"""

from __future__ import annotations

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import msgspec
from blake3 import blake3

from syncer.udt.perf.content import Content

LARGEST_MESSAGE = 4 * 1024 * 1024
BUFFER_BYTES = 16 * 1024 * 1024


class Task(msgspec.Struct, frozen=True):
    """``sends`` and ``receives``: bytes of the streams (or of each message) of this end and of the other one."""

    implementation: str
    role: str
    """``listen`` or ``connect``; in a rendezvous they only tell whose content is whose."""
    host: str
    port: int
    messages: bool
    sends: list[int]
    receives: list[int]
    seed: int
    in_order: bool = True
    idle_s: float = 0.0
    """How long the connection carries nothing before it carries everything."""
    fixed_bps: float | None = None
    """Send at this rate, where the implementation can; None: as its own congestion control finds."""
    rendezvous: bool = False
    """Both ends print their own port, and read the other's from standard input."""


class Account(msgspec.Struct, frozen=True):
    digests: list[str]
    seconds: float


class Peer(Protocol):
    """A socket; `listen` gives the port, `accept` and `connect` make it one end of a connection."""

    def listen(self, host: str) -> int: ...
    def accept(self) -> None: ...
    def connect(self, host: str, port: int) -> None: ...
    def bind_to_meet(self, host: str) -> int: ...
    def send_all(self, data: memoryview) -> None: ...
    def receive(self, size: int) -> bytes | memoryview: ...
    def send_message(self, data: bytes, in_order: bool) -> None: ...
    def receive_message(self) -> bytes: ...
    def settle(self) -> None:
        """Until all that was sent is known to have arrived, where the implementation can tell."""

    def close(self) -> None: ...


class LibudtPeer:
    def __init__(self, family: int, kind: int, fixed_bps: float | None = None) -> None:
        from syncer.native import _libudt

        self._socket = _libudt.Socket(family, kind)
        if fixed_bps is not None:
            self._socket.use_fixed_rate(fixed_bps)
        self._udt = _libudt
        self._socket.setsockopt(_libudt.UDT_LINGER, 20)

    def listen(self, host: str) -> int:
        self._socket.bind(host, 0)
        self._socket.listen()
        return self._socket.getsockname()[1]

    def accept(self) -> None:
        listener = self._socket
        self._socket, _peer = listener.accept()
        listener.close()

    def connect(self, host: str, port: int) -> None:
        self._socket.connect(host, port)

    def bind_to_meet(self, host: str) -> int:
        self._socket.setsockopt(self._udt.UDT_RENDEZVOUS, True)
        self._socket.bind(host, 0)
        return self._socket.getsockname()[1]

    def send_all(self, data: memoryview) -> None:
        self._socket.send_all(data)

    def receive(self, size: int) -> bytes:
        return self._socket.recv(size)

    def send_message(self, data: bytes, in_order: bool) -> None:
        self._socket.sendmsg(data, -1, in_order)

    def receive_message(self) -> bytes:
        return self._socket.recvmsg(LARGEST_MESSAGE)

    def settle(self) -> None:
        pass

    def close(self) -> None:
        self._socket.close()


class Udt4pyPeer:
    """PyPI's udt4py over Debian's shared library."""

    def __init__(self, family: int, kind: int) -> None:
        import udt4py

        assert family == socket.AF_INET, "udt4py has no IPv6"
        self._socket = udt4py.UDTSocket(family, kind)
        self._buffer = bytearray(LARGEST_MESSAGE)

    def listen(self, host: str) -> int:
        self._socket.bind((host, 0))
        self._socket.listen()
        return int(self._socket.address[1])

    def accept(self) -> None:
        listener = self._socket
        self._socket, _peer = listener.accept()
        listener.close()

    def connect(self, host: str, port: int) -> None:
        self._socket.connect((host, port))

    def bind_to_meet(self, host: str) -> int:
        self._socket.UDT_RENDEZVOUS = True
        self._socket.bind((host, 0))
        return int(self._socket.address[1])

    def send_all(self, data: memoryview) -> None:
        whole = bytes(data)
        while whole:
            whole = whole[self._socket.send(whole) :]

    def receive(self, size: int) -> memoryview:
        buffer = bytearray(min(size, 1 << 18))
        return memoryview(buffer)[: self._socket.recv(buffer)]

    def send_message(self, data: bytes, in_order: bool) -> None:
        self._socket.sendmsg(data, -1, in_order)

    def receive_message(self) -> bytes:
        return bytes(self._buffer[: self._socket.recvmsg(self._buffer)])

    def settle(self) -> None:
        pass

    def close(self) -> None:
        self._socket.close()


class LonghaulPeer:
    """Ours. ``longhaul-plain`` speaks plain UDT4 even to its like."""

    def __init__(self, family: int, kind: int, fixed_bps: float | None = None, *, extensions: bool = True) -> None:
        from syncer import udt

        self._udt = udt
        self._settings = udt.UdtSettings(extensions=extensions)
        if fixed_bps is not None:
            self._settings = replace(self._settings, control="fixed", rate_bps=fixed_bps)
        self._kind = udt.Kind.STREAM if kind == socket.SOCK_STREAM else udt.Kind.MESSAGES
        self._socket = udt.UdtSocket(self._kind, self._settings)

    def listen(self, host: str) -> int:
        self._socket.bind((host, 0))
        self._socket.listen()
        return self._socket.getsockname()[1]

    def accept(self) -> None:
        listener = self._socket
        self._socket, _peer = listener.accept()
        listener.close()

    def connect(self, host: str, port: int) -> None:
        self._socket.connect((host, port))

    def bind_to_meet(self, host: str) -> int:
        meeting = replace(self._settings, rendezvous=True)
        self._socket = self._udt.UdtSocket(self._kind, meeting)
        self._socket.bind((host, 0))
        return self._socket.getsockname()[1]

    def send_all(self, data: memoryview) -> None:
        self._socket.sendall(data)

    def receive(self, size: int) -> bytes:
        data = self._socket.recv(min(size, 1 << 18))
        assert data, "the stream ended too early"
        return data

    def send_message(self, data: bytes, in_order: bool) -> None:
        self._socket.sendmsg(data, None, in_order)

    def receive_message(self) -> bytes:
        message = self._socket.recvmsg(LARGEST_MESSAGE)
        assert message is not None, "the messages ended too early"
        return message

    def settle(self) -> None:
        assert self._socket.wait_delivered(60), f"{self._socket.native.undelivered_bytes} bytes do not arrive"

    def close(self) -> None:
        undelivered = self._socket.close()
        assert undelivered == 0, f"{undelivered} bytes were not delivered"


def made(task: Task) -> Peer:
    family = socket.AF_INET6 if ":" in task.host else socket.AF_INET
    kind = socket.SOCK_DGRAM if task.messages else socket.SOCK_STREAM
    if task.implementation == "libudt":
        return LibudtPeer(family, kind, task.fixed_bps)
    if task.implementation == "udt4py":
        return Udt4pyPeer(family, kind)
    return LonghaulPeer(family, kind, task.fixed_bps, extensions=task.implementation != "longhaul-plain")


def content(seed: int, role: str, index: int) -> Content:
    """What the end of this role sends as its ``index``-th stream or message."""
    return Content(seed, 2 * index + (role != "listen"))


def send(peer: Peer, task: Task) -> None:
    for index, size in enumerate(task.sends):
        pieces = content(task.seed, task.role, index).pieces(size)
        if task.messages:
            peer.send_message(b"".join(pieces), task.in_order)
        else:
            for piece in pieces:
                peer.send_all(piece)


def receive(peer: Peer, task: Task) -> list[str]:
    digests = []
    for size in task.receives:
        hasher = blake3()
        if task.messages:
            hasher.update(peer.receive_message())
        else:
            left = size
            while left:
                data = peer.receive(left)
                hasher.update(data)
                left -= len(data)
        digests.append(hasher.hexdigest())
    return digests


def main(argument: str) -> int:
    task = msgspec.json.decode(argument, type=Task)
    peer = made(task)
    if task.rendezvous:
        print("port", peer.bind_to_meet(task.host), flush=True)
        peer.connect(task.host, int(sys.stdin.readline()))
    elif task.role == "listen":
        print("port", peer.listen(task.host), flush=True)
        peer.accept()
    else:
        peer.connect(task.host, task.port)
    time.sleep(task.idle_s)
    begin = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        sending = pool.submit(send, peer, task)
        digests = receive(peer, task)
        sending.result()
    peer.settle()
    print(msgspec.json.encode(Account(digests, time.monotonic() - begin)).decode(), flush=True)
    sys.stdin.readline()
    peer.close()
    print("closed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
