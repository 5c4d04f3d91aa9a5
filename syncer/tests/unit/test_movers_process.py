"""The mover's process around a listener that breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from syncer.errors import TransportError
from syncer.movers.process import MoverProcess
from syncer.movers.transport import Connection
from syncer.wire import mover_protocol as protocol

DEADLINE_MS = 10_000


class BreakingListener:
    """Breaks at once when it is the first."""

    port = 7421

    def __init__(self, *, breaks: bool) -> None:
        self._breaks = breaks
        self._closed = threading.Event()

    def accept(self) -> Connection:
        if not self._breaks:
            self._closed.wait()
        raise TransportError("broken")

    def close(self) -> None:
        self._closed.set()


class BreakingTransport:
    name = "breaking"

    def __init__(self) -> None:
        self.listeners = 0

    def listen(self, address: str, port: int) -> BreakingListener:
        self.listeners += 1
        return BreakingListener(breaks=self.listeners == 1)

    def connect(self, address: str, port: int) -> Connection:
        raise TransportError("refused")


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(f"ipc://{tmp_path}/m.ipc")
        socket.setsockopt(zmq.RCVTIMEO, DEADLINE_MS)
        yield socket


def test_a_listener_that_broke_is_made_anew(
    tmp_path: Path, coordinator: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncer.movers.process.signal.signal", lambda *_: None)  # of the main thread alone
    process = MoverProcess("mover", f"ipc://{tmp_path}/m.ipc", BreakingTransport())
    running = threading.Thread(target=process.run)
    running.start()

    def say(*messages: protocol.ToMover) -> None:
        coordinator.send_multipart([b"mover", protocol.encode(list(messages))])

    def wait_for_listening() -> None:
        deadline = time.monotonic() + DEADLINE_MS / 1000
        while True:
            assert time.monotonic() < deadline, "never listens again"
            _, frame = coordinator.recv_multipart()
            if any(isinstance(message, protocol.Listening) for message in protocol.decode_from_mover(frame)):
                return

    try:
        coordinator.recv_multipart()
        say(protocol.Welcome(incarnation=1), protocol.Listen(address="127.0.0.1", port=7421))
        wait_for_listening()
        wait_for_listening()
    finally:
        say(protocol.Stop())
        running.join()
