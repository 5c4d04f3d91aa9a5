"""A UDP relay on the loopback device that loses, repeats, holds back and delays datagrams, and can note them all.

Clients send to ``relay.address``. The server sees each client at a port of its own, so that addresses stay apart and
many connections can pass at once. Which datagrams are hit follows from the seed and their order alone.
"""

from __future__ import annotations

import heapq
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

Address = tuple[str, int]

_LARGEST_DATAGRAM = 65_535
_DRAIN = 64
"""Datagrams that are taken from one socket before the others have their turn."""

_BUFFER_BYTES = 8 * 1024 * 1024
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32


class Direction(StrEnum):
    TO_SERVER = "to server"
    TO_CLIENT = "to client"


@dataclass(frozen=True)
class Impairment:
    """What happens to the datagrams of one direction. Shares are probabilities."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Share that is held back by ``reorder_s``, so that later ones overtake it."""
    reorder_s: float = 0.005
    delay_s: float = 0.0


@dataclass
class Counts:
    arrived: int = 0
    lost: int = 0
    duplicated: int = 0
    held_back: int = 0


Judge = Callable[[Direction, bytes], list[bytes]]
"""Sees every datagram before the dice do: returns what is to be passed on in its place, an empty list to drop it."""

Note = Callable[[Direction, float, bytes], None]


@dataclass
class _Flow:
    """One client and the relay's socket that the server knows it by."""

    client: Address
    upstream: socket.socket


@dataclass
class UdpRelay:
    server: Address
    impairments: dict[Direction, Impairment] = field(default_factory=dict)
    seed: int = 1
    judge: Judge | None = None
    note: Note | None = None
    counts: dict[Direction, Counts] = field(default_factory=lambda: {each: Counts() for each in Direction})

    def __post_init__(self) -> None:
        self._family = socket.AF_INET6 if ":" in self.server[0] else socket.AF_INET
        self._host = "::1" if self._family == socket.AF_INET6 else "127.0.0.1"
        self._dice = {each: random.Random(f"{self.seed} {each}") for each in Direction}
        self._flows: dict[Address, _Flow] = {}
        self._selector = selectors.DefaultSelector()
        self._lock = threading.RLock()
        self._held: list[tuple[float, int, Direction, _Flow, bytes]] = []
        self._serial = 0
        self._front = self._socket()
        self._selector.register(self._front, selectors.EVENT_READ, None)
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="udp relay", daemon=True)
        self._thread.start()

    @property
    def address(self) -> Address:
        """Where clients send."""
        return self._front.getsockname()[:2]

    def seen_as(self, client: Address) -> Address:
        """The address under which the server will see this client, also before it has sent anything."""
        with self._lock:
            return self._flow(client).upstream.getsockname()[:2]

    def inject(self, direction: Direction, client: Address, datagram: bytes) -> None:
        """A datagram that neither end sent; the dice do not see it."""
        with self._lock:
            self._deliver(direction, self._flow(client), datagram)

    def close(self) -> None:
        self._stopping = True
        self._wake.send(b"x")
        self._thread.join()
        for each in (self._front, self._wake, self._woken, *(flow.upstream for flow in self._flows.values())):
            each.close()
        self._selector.close()

    def __enter__(self) -> UdpRelay:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _socket(self) -> socket.socket:
        made = socket.socket(self._family, socket.SOCK_DGRAM)
        made.bind((self._host, 0))
        made.setblocking(False)
        for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                made.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_BYTES)
            except PermissionError:
                made.setsockopt(socket.SOL_SOCKET, plain, _BUFFER_BYTES)
        return made

    def _flow(self, client: Address) -> _Flow:
        flow = self._flows.get(client)
        if flow is None:
            flow = self._flows[client] = _Flow(client, self._socket())
            self._selector.register(flow.upstream, selectors.EVENT_READ, flow)
        return flow

    def _run(self) -> None:
        while not self._stopping:
            timeout = max(0.0, self._held[0][0] - time.monotonic()) if self._held else None
            for key, _events in self._selector.select(timeout):
                if key.fileobj is self._woken:
                    return
                self._drain(key.fileobj, key.data)  # type: ignore[arg-type]
            self._release()

    def _drain(self, source: socket.socket, flow: _Flow | None) -> None:
        direction = Direction.TO_SERVER if flow is None else Direction.TO_CLIENT
        for _ in range(_DRAIN):
            try:
                datagram, sender = source.recvfrom(_LARGEST_DATAGRAM)
            except BlockingIOError:
                return
            except ConnectionRefusedError:  # the other end's port is closed; what it misses is lost, as on a network
                continue
            with self._lock:
                self._arrived(direction, flow or self._flow(sender[:2]), datagram)

    def _arrived(self, direction: Direction, flow: _Flow, datagram: bytes) -> None:
        counts = self.counts[direction]
        counts.arrived += 1
        if self.note is not None:
            self.note(direction, time.monotonic(), datagram)
        for each in [datagram] if self.judge is None else self.judge(direction, datagram):
            self._impair(direction, flow, each)

    def _impair(self, direction: Direction, flow: _Flow, datagram: bytes) -> None:
        impairment = self.impairments.get(direction)
        if impairment is None:
            self._deliver(direction, flow, datagram)
            return
        counts, die = self.counts[direction], self._dice[direction]
        lost, twice, late = die.random(), die.random(), die.random()
        if lost < impairment.loss:
            counts.lost += 1
            return
        delay = impairment.delay_s
        if late < impairment.reorder:
            counts.held_back += 1
            delay += impairment.reorder_s
        counts.duplicated += twice < impairment.duplicate
        for _ in range(1 + (twice < impairment.duplicate)):
            if delay > 0:
                self._serial += 1
                heapq.heappush(self._held, (time.monotonic() + delay, self._serial, direction, flow, datagram))
            else:
                self._deliver(direction, flow, datagram)

    def _release(self) -> None:
        now = time.monotonic()
        with self._lock:
            while self._held and self._held[0][0] <= now:
                _due, _serial, direction, flow, datagram = heapq.heappop(self._held)
                self._deliver(direction, flow, datagram)

    def _deliver(self, direction: Direction, flow: _Flow, datagram: bytes) -> None:
        try:
            if direction is Direction.TO_SERVER:
                flow.upstream.sendto(datagram, self.server)
            else:
                self._front.sendto(datagram, flow.client)
        except (BlockingIOError, ConnectionRefusedError):
            pass  # lost, as on a network


@contextmanager
def relay_to(server: Address, impairment: Impairment | None = None, seed: int = 1) -> Iterator[UdpRelay]:
    """A relay that treats both directions alike."""
    impairments = {} if impairment is None else dict.fromkeys(Direction, impairment)
    with UdpRelay(server, impairments, seed) as relay:
        yield relay
