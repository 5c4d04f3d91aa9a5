"""One session: a connection, made or awaited, authenticated in both directions, then a sender and a receiver on it.

    waiting -> (connected or accepted) -> preambles -> hellos -> up -> down

A connection that breaks ends the session; a session ends with exactly one SessionDown.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable

import structlog

from syncer.errors import TransportError, WireError
from syncer.movers.disk import DiskPool
from syncer.movers.meter import MeteredConnection
from syncer.movers.receiver import Receiver
from syncer.movers.sender import Sender
from syncer.movers.speed_probe import SpeedProbe
from syncer.movers.transport import Connection, Transport
from syncer.wire import mover_protocol as protocol
from syncer.wire.record import (
    HELLO_TEXT,
    MAX_RECORD,
    PREAMBLE_SIZE,
    SALT_SIZE,
    Kind,
    Opener,
    Sealer,
    connection_key,
    pack_preamble,
    unpack_preamble,
)

CONNECT_DEADLINE_S = 30.0
CONNECT_PAUSE_S = 0.5
HANDSHAKE_S = 8.0

Report = Callable[[protocol.FromMover], None]
log = structlog.get_logger("mover")


class Session:
    """Made by OpenSession. ``on_end`` is called once, from a thread of the session, after SessionDown was reported."""

    def __init__(
        self, request: protocol.OpenSession, disk: DiskPool, report: Report, on_end: Callable[[Session], None]
    ) -> None:
        self.request = request
        self._disk = disk
        self._report = report
        self._on_end = on_end
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._connection: MeteredConnection | None = None
        self._rate_bps = request.rate_bps
        self._peer_salt = b""
        self._salts = (b"", b"")  # the connector's, the acceptor's
        self._sender: Sender | None = None
        self._receiver: Receiver | None = None
        self._probe: SpeedProbe | None = None
        self._early: list[protocol.SendFile | protocol.ExpectFile] = []
        self._up = False
        self._closing: str | None = None
        self._thread: threading.Thread | None = None

    # commands, from the process's thread

    def start_connecting(self, transport: Transport) -> None:
        self._start(lambda: self._connect(transport))

    def start_waiting(self) -> None:
        """Await ``adopt``; down if no connection comes before the deadline."""
        self._start(self._await_adoption)

    def adopt(self, connection: Connection, peer_salt: bytes) -> bool:
        """Give an accepted connection that claims this session. False if it is not wanted (any more)."""
        with self._changed:
            if self._closing is not None or self._connection is not None or self.request.role != "accept":
                return False
            self._connection = MeteredConnection(connection)
            self._peer_salt = peer_salt
            self._changed.notify_all()
            return True

    def submit(self, message: protocol.SendFile | protocol.ExpectFile) -> None:
        with self._lock:
            if self._sender is None or self._receiver is None:
                self._early.append(message)
                return
            sender, receiver = self._sender, self._receiver
        if isinstance(message, protocol.SendFile):
            sender.submit(message)
            return
        try:
            receiver.expect(message)
        except WireError as error:
            self._report(
                protocol.ReceiveFailed(
                    session=message.session, job=message.job, code="verify", detail=error.message, verified=message.have
                )
            )

    def cancel(self, message: protocol.CancelSend | protocol.CancelReceive) -> None:
        """Of the job in the named direction: the other direction's job of that number goes on."""
        sends = isinstance(message, protocol.CancelSend)
        unwanted = protocol.SendFile if sends else protocol.ExpectFile
        with self._lock:
            self._early = [
                early for early in self._early if not (isinstance(early, unwanted) and early.job == message.job)
            ]
            half = self._sender if sends else self._receiver
        if half is not None:
            half.cancel(message.job)

    def set_rate(self, rate_bps: int) -> None:
        with self._lock:
            self._rate_bps = rate_bps
            connection = self._connection
        if connection is not None:
            with contextlib.suppress(TransportError):  # it breaks, which its threads report
                connection.set_rate(rate_bps)

    def test_speed(self, message: protocol.SpeedTest | protocol.StopSpeedTest) -> None:
        """Ignored while the session is not up."""
        with self._lock:
            probe = self._probe if self._up else None
        if probe is None:
            return
        if isinstance(message, protocol.SpeedTest):
            probe.start(message)
        else:
            probe.stop(message.test)

    def close(self, reason: str) -> None:
        """Ends the session soon; SessionDown follows."""
        with self._changed:
            if self._closing is None:
                self._closing = reason
            connection, sender, receiver = self._connection, self._sender, self._receiver
            self._changed.notify_all()
        if sender is not None:
            sender.stop()
        if receiver is not None:
            receiver.stop()
        if connection is not None:
            connection.close()

    def join(self, timeout_s: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    def stats(self) -> protocol.SessionStats | None:
        """None unless the session is up."""
        with self._lock:
            if not self._up or self._connection is None or self._sender is None or self._receiver is None:
                return None
            connection, sender, receiver = self._connection, self._sender, self._receiver
        try:
            status = connection.status()
        except TransportError:
            return None
        return protocol.SessionStats(
            session=self.request.session,
            bytes_sent=sender.bytes_sent,
            bytes_received=receiver.bytes_received,
            rtt_us=status.rtt_us,
            target_rate_bps=status.target_rate_bps,
            delivered_rate_bps=status.delivered_rate_bps,
            packets_sent=status.packets_sent,
            packets_lost=status.packets_lost,
            packets_retransmitted=status.packets_retransmitted,
            content_received=receiver.content_received,
            min_rtt_us=status.min_rtt_us,
            congestion_control=status.congestion_control,
            rate_cap_bps=status.rate_cap_bps,
            held_up_us=int(connection.held_up_s * 1e6),
        )

    # the session's own threads

    def _start(self, obtain: Callable[[], MeteredConnection]) -> None:
        name = f"session-{self.request.session & 0xFFFF:04x}"
        self._thread = threading.Thread(target=self._run, args=(obtain,), name=name, daemon=True)
        self._thread.start()

    def _run(self, obtain: Callable[[], MeteredConnection]) -> None:
        reason = "closed"
        verified: dict[int, list[int]] = {}
        try:
            connection = obtain()
            with self._lock:
                rate_bps = self._rate_bps
            connection.set_rate(rate_bps)
            receiver, sender = self._authenticate(connection)
            sending = threading.Thread(
                target=self._run_sender, args=(sender,), name=f"{threading.current_thread().name}-send", daemon=True
            )
            self._go_up(sender, receiver)
            sending.start()
            try:
                receiver.run()
            finally:
                sender.stop()
                connection.close()
                sending.join()
                with self._lock:
                    self._up = False
                verified = receiver.finish()
        except (TransportError, WireError) as error:
            reason = error.message
        except Exception as error:
            log.exception("session failed", session=self.request.session)
            reason = f"internal error: {error}"
        finally:
            with self._lock:
                reason = self._closing or reason
                self._closing = reason
                connection_left = self._connection
            if connection_left is not None:
                connection_left.close()
            self._report(protocol.SessionDown(session=self.request.session, reason=reason, verified=verified))
            self._on_end(self)

    def _run_sender(self, sender: Sender) -> None:
        try:
            sender.run()
        except TransportError as error:
            self.close(error.message)
        except Exception as error:
            log.exception("sender failed", session=self.request.session)
            self.close(f"internal error: {error}")

    def _connect(self, transport: Transport) -> MeteredConnection:
        deadline = time.monotonic() + CONNECT_DEADLINE_S
        while True:
            try:
                connection = transport.connect(self.request.address, self.request.port)
                return self._introduce(MeteredConnection(connection))
            except TransportError:
                # Refused, or the other end's coordinator has not opened the session yet.
                with self._changed:
                    if time.monotonic() > deadline or self._closing is not None:
                        raise
                    self._changed.wait(CONNECT_PAUSE_S)
                    if self._closing is not None:
                        raise

    def _introduce(self, connection: MeteredConnection) -> MeteredConnection:
        with self._lock:
            if self._closing is not None:
                connection.close()
                raise TransportError("the session was closed")
            self._connection = connection
        try:
            own_salt = self._send_preamble(connection)
            session, peer_salt = read_preamble(connection)
        except TransportError:
            connection.close()
            raise
        if session != self.request.session:
            raise WireError("the other end answered for another session")
        self._salts = (own_salt, peer_salt)
        return connection

    def _await_adoption(self) -> MeteredConnection:
        deadline = time.monotonic() + CONNECT_DEADLINE_S
        with self._changed:
            while self._connection is None:
                left = deadline - time.monotonic()
                if self._closing is not None or left <= 0:
                    raise TransportError("the other end did not connect")
                self._changed.wait(left)
            connection = self._connection
        self._salts = (self._peer_salt, self._send_preamble(connection))
        return connection

    def _send_preamble(self, connection: Connection) -> bytes:
        salt = secrets.token_bytes(SALT_SIZE)
        connection.send(memoryview(pack_preamble(self.request.session, salt)))
        return salt

    def _authenticate(self, connection: Connection) -> tuple[Receiver, Sender]:
        request = self.request
        sealer = Sealer(connection_key(request.send_key, request.session, *self._salts), request.session)
        opener = Opener(connection_key(request.receive_key, request.session, *self._salts), request.session)
        receiver = Receiver(request.session, connection, opener, self._disk, self._report)
        # The second hello of the connector says that it could open the acceptor's.
        for say in (True, False, True) if request.role == "connect" else (False, True, False):
            if say:
                _say_hello(connection, sealer)
            else:
                _hear_hello(receiver)
        sender = Sender(request.session, connection, sealer, self._report)
        self._probe = SpeedProbe(request.session, self._report, sender.wake, lambda: receiver.bytes_received)
        receiver.on_probe, sender.probe = self._probe.on_record, self._probe
        return receiver, sender

    def _go_up(self, sender: Sender, receiver: Receiver) -> None:
        with self._lock:
            if self._closing is not None:
                raise TransportError("the session was closed")
            self._sender, self._receiver = sender, receiver
            self._up = True
            early, self._early = self._early, []
        self._report(protocol.SessionUp(session=self.request.session))
        for message in early:
            self.submit(message)


def _say_hello(connection: Connection, sealer: Sealer) -> None:
    record = memoryview(bytearray(MAX_RECORD))
    connection.send(record[: sealer.seal_into(Kind.HELLO, HELLO_TEXT, record)])


def _hear_hello(receiver: Receiver) -> None:
    kind, size = receiver.receive_record()
    if kind is not Kind.HELLO or receiver.content[:size] != HELLO_TEXT:
        raise WireError("the other end said no hello")


def read_preamble(connection: Connection) -> tuple[int, bytes]:
    """The session that the other end claims, and its salt. Raises TransportError and WireError."""
    buffer = memoryview(bytearray(PREAMBLE_SIZE))
    left = buffer
    deadline = time.monotonic() + HANDSHAKE_S
    while len(left):
        left = left[connection.receive_into(left) :]
        if time.monotonic() > deadline:
            raise TransportError("the other end did not introduce itself")
    return unpack_preamble(buffer)
