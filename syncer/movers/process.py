"""The mover process: the coordinator's socket on one side, sessions on the other. Transport-neutral.

One thread owns the socket. Everything else hands its reports over in a queue and wakes it through an eventfd.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque

import msgspec
import structlog
import zmq

from syncer.errors import TransportError
from syncer.movers.disk import DiskPool
from syncer.movers.doorkeeper import Doorkeeper
from syncer.movers.session import Session
from syncer.movers.transport import Transport
from syncer.wire import mover_protocol as protocol

HELLO_S = 1.0
FIRST_HELLO_S = 0.2
SILENCE_S = 5.0
STATS_S = 1.0
LISTEN_RETRY_S = 1.0
STOP_S = 3.0
MAX_BATCH = 1000

log = structlog.get_logger("mover")


class MoverProcess:
    """Runs until Stop or SIGTERM. ``name`` is the identity on the coordinator's ROUTER at ``endpoint``."""

    def __init__(self, name: str, endpoint: str, transport: Transport) -> None:
        self._name = name
        self._endpoint = endpoint
        self._transport = transport
        self._disk = DiskPool()
        self._reports: deque[protocol.FromMover] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._sessions: dict[int, Session] = {}
        self._door: Doorkeeper | None = None
        self._listen: protocol.Listen | None = None
        self._retry_listen_at = 0.0
        self._incarnation: int | None = None
        self._stopping = False

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        context = zmq.Context()
        socket = context.socket(zmq.DEALER)
        try:
            socket.setsockopt(zmq.IDENTITY, self._name.encode())
            socket.setsockopt(zmq.LINGER, 1000)
            # Nothing is kept for a coordinator that is not there: its successor could not use it.
            socket.setsockopt(zmq.IMMEDIATE, 1)
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.SNDHWM, 0)
            socket.connect(self._endpoint)
            self._loop(socket)
        finally:
            self._shut_down(socket)
            socket.close()
            context.term()

    # any thread

    def report(self, message: protocol.FromMover) -> None:
        self._reports.append(message)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._wake_fd, 1)

    def _on_signal(self, number: int, frame: object) -> None:
        self._stopping = True
        self._wake()

    def _find(self, number: int) -> Session | None:
        with self._lock:
            return self._sessions.get(number)

    def _forget(self, session: Session) -> None:
        with self._lock:
            if self._sessions.get(session.request.session) is session:
                del self._sessions[session.request.session]

    # the socket's thread

    def _loop(self, socket: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wake_fd, zmq.POLLIN)
        next_hello, next_stats = 0.0, time.monotonic() + STATS_S
        last_heard = 0.0
        while not self._stopping:
            now = time.monotonic()
            silent = now - last_heard > SILENCE_S
            if now >= next_hello:
                if self._incarnation is None or silent:
                    self._send(socket, [self._hello()])
                next_hello = now + (HELLO_S if self._incarnation is not None else FIRST_HELLO_S)
            if now >= next_stats:
                self._report_stats()
                next_stats = now + STATS_S
            if self._door is not None and not self._door.is_there:
                self._door.close()
                self._door, self._retry_listen_at = None, now + LISTEN_RETRY_S
            if self._listen is not None and self._door is None and now >= self._retry_listen_at:
                self._try_listen()
            self._flush(socket)
            wait = max(0.0, min(next_hello, next_stats) - time.monotonic())
            ready = dict(poller.poll(int(wait * 1000) + 1))
            if self._wake_fd in ready:
                os.eventfd_read(self._wake_fd)
            if socket in ready:
                last_heard = time.monotonic()
                self._receive_all(socket)

    def _hello(self) -> protocol.Hello:
        return protocol.Hello(name=self._name, transport=self._transport.name, pid=os.getpid())

    @staticmethod
    def _send(socket: zmq.Socket[bytes], messages: list[protocol.FromMover]) -> None:
        # Again: no coordinator is connected.
        with contextlib.suppress(zmq.Again):
            socket.send(protocol.encode(messages), zmq.NOBLOCK)

    def _flush(self, socket: zmq.Socket[bytes]) -> None:
        while self._reports:
            batch: list[protocol.FromMover] = []
            while self._reports and len(batch) < MAX_BATCH:
                batch.append(self._reports.popleft())
            self._send(socket, _joined(batch))

    def _receive_all(self, socket: zmq.Socket[bytes]) -> None:
        while True:
            try:
                frame = socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                messages = protocol.decode_to_mover(frame)
            except msgspec.DecodeError as error:
                log.error("a frame from the coordinator makes no sense", reason=str(error))
                continue
            for message in messages:
                self._handle(message)

    def _handle(self, message: protocol.ToMover) -> None:
        if isinstance(message, protocol.Welcome):
            self._welcome(message)
        elif isinstance(message, protocol.Stop):
            self._stopping = True
        elif self._incarnation is None:
            log.warning("dropped a message before Welcome", type=type(message).__name__)
        elif isinstance(message, protocol.Listen):
            self._start_listening(message)
        elif isinstance(message, protocol.OpenSession):
            self._open(message)
        else:
            session = self._find(message.session)
            if session is None:
                # It went down: SessionDown is on its way, or was before the coordinator sent this.
                return
            if isinstance(message, protocol.CloseSession):
                session.close("closed by the coordinator")
            elif isinstance(message, protocol.SetRate):
                session.set_rate(message.rate_bps)
            elif isinstance(message, protocol.SpeedTest | protocol.StopSpeedTest):
                session.test_speed(message)
            elif isinstance(message, protocol.CancelSend | protocol.CancelReceive):
                session.cancel(message)
            else:
                session.submit(message)

    def _welcome(self, message: protocol.Welcome) -> None:
        if message.incarnation == self._incarnation:
            return
        if self._incarnation is not None:
            log.info("the coordinator was restarted")
            self._close_sessions("the coordinator was restarted")
            # The old incarnation's reports mean nothing to the new one.
            self._reports.clear()
        self._incarnation = message.incarnation

    def _start_listening(self, message: protocol.Listen) -> None:
        if self._door is not None:
            if self._listen == message or message.port == 0:
                self.report(protocol.Listening(address=message.address, port=self._door.port))
                return
            self._door.close()
            self._door = None
        self._listen = message
        self._try_listen()

    def _try_listen(self) -> None:
        if self._listen is None:
            return
        try:
            listener = self._transport.listen(self._listen.address, self._listen.port)
        except TransportError as error:
            self._retry_listen_at = time.monotonic() + LISTEN_RETRY_S
            self.report(protocol.ListenFailed(reason=error.message))
            return
        self._door = Doorkeeper(listener, self._find)
        self.report(protocol.Listening(address=self._listen.address, port=listener.port))

    def _open(self, message: protocol.OpenSession) -> None:
        if message.role not in ("connect", "accept"):
            self.report(protocol.SessionDown(session=message.session, reason=f"unknown role {message.role!r}"))
            return
        session = Session(message, self._disk, self.report, self._forget)
        with self._lock:
            if message.session in self._sessions:
                log.warning("the session is open already", session=message.session)
                return
            self._sessions[message.session] = session
        if message.role == "connect":
            session.start_connecting(self._transport)
        else:
            session.start_waiting()

    def _report_stats(self) -> None:
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            stats = session.stats()
            if stats is not None:
                self._reports.append(stats)

    def _close_sessions(self, reason: str) -> None:
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            session.close(reason)
        deadline = time.monotonic() + STOP_S
        for session in sessions:
            session.join(max(0.0, deadline - time.monotonic()))

    def _shut_down(self, socket: zmq.Socket[bytes]) -> None:
        if self._door is not None:
            self._door.close()
        self._close_sessions("the mover stops")
        self._disk.close()
        self._flush(socket)
        os.close(self._wake_fd)


def _joined(batch: list[protocol.FromMover]) -> list[protocol.FromMover]:
    """Neighbouring Received (and Sent) of one session as one message; the order of the rest is kept."""
    joined: list[protocol.FromMover] = []
    for message in batch:
        last = joined[-1] if joined else None
        if isinstance(message, protocol.Received) and isinstance(last, protocol.Received):
            if message.session == last.session:
                last.jobs.extend(message.jobs)
                continue
        elif isinstance(message, protocol.Sent) and isinstance(last, protocol.Sent) and message.session == last.session:
            last.jobs.extend(message.jobs)
            continue
        joined.append(message)
    return joined
