"""UDT sockets that wait, in the manner of Python's own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import IntEnum
from types import TracebackType
from typing import BinaryIO, Self, TypedDict, Unpack

from typing_extensions import Buffer

from syncer.native import _udt
from syncer.udt.errors import Misuse
from syncer.udt.settings import Control, UdtSettings
from syncer.udt.statistics import Statistics, read

Address = tuple[str, int]


class Kind(IntEnum):
    STREAM = 1
    MESSAGES = 2


class State(IntEnum):
    """UDT4's states under their numbers."""

    INIT = 1
    OPENED = 2
    LISTENING = 3
    CONNECTING = 4
    CONNECTED = 5
    BROKEN = 6
    CLOSING = 7
    CLOSED = 8


class SettingsGiven(TypedDict, total=False):
    """The fields of `UdtSettings` as keyword arguments."""

    mss: int
    send_buffer_bytes: int
    receive_buffer_bytes: int
    control: Control
    rate_bps: float
    ceiling_bps: float
    dead_after_s: float
    connect_timeout_s: float
    linger_s: float
    extensions: bool
    rendezvous: bool
    reuse_address: bool
    max_connections: int
    udp_receive_buffer_bytes: int
    udp_send_buffer_bytes: int
    offload: bool


class UdtSocket:
    """One end of a connection, or a listener.

    Any thread may use it; one at a time reads and one at a time writes. `close` from another thread wakes all who wait.
    Calls wait as `settimeout` says, and Ctrl-C ends a wait. A socket does not survive a fork: a child makes its own.
    """

    def __init__(
        self, kind: Kind = Kind.STREAM, settings: UdtSettings | None = None, *, native: _udt.Socket | None = None
    ) -> None:
        self.settings = settings or UdtSettings()
        self.native = native if native is not None else _udt.Socket(self.settings.native(), kind)
        self._timeout: float | None = None

    @property
    def kind(self) -> Kind:
        return Kind(self.native.kind)

    @property
    def state(self) -> State:
        return State(self.native.state)

    # Setting up.

    def bind(self, address: Address) -> None:
        """Port 0: any free one. ``("::", port)`` takes IPv4 as well."""
        family, host, port = resolve(address, passive=True)[0]
        self.native.bind(family, host, port)

    def bind_udp(self, udp: socket.socket) -> None:
        """Takes over a bound UDP socket (it is detached)."""
        self.native.bind_descriptor(udp.detach())

    def listen(self, backlog: int = 64) -> None:
        self.native.listen(backlog)

    def accept(self) -> tuple[UdtSocket, Address]:
        accepted = UdtSocket(settings=self.settings, native=self.native.accept(self._timeout))
        return accepted, accepted.getpeername()

    def connect(self, address: Address) -> None:
        """Raises ConnectionRefused, or TimedOut after ``connect_timeout_s`` or the socket's timeout."""
        family, host, port = resolve(address)[0]
        self.native.connect(family, host, port, self._timeout)

    # Data.

    def send(self, data: Buffer) -> int:
        """Waits for room for at least a byte; returns how many were taken."""
        return self.native.send(data, self._timeout)

    def sendall(self, data: Buffer) -> None:
        self.native.send_all(data, self._timeout)

    def recv(self, size: int) -> bytes:
        """At least one byte; none at the end of the stream."""
        return self.native.recv(size, self._timeout)

    def recv_into(self, buffer: Buffer, size: int = 0) -> int:
        return self.native.recv_into(buffer, size, self._timeout)

    def recv_exactly_into(self, buffer: Buffer, size: int = 0) -> int:
        """Fills the buffer, or its first ``size`` bytes. Fewer come only before the end or the timeout."""
        return self.native.recv_into(buffer, size, self._timeout, True)

    def finish(self) -> None:
        """No more will be written: the peer reads the end after all that was. Reading goes on."""
        self.native.finish()

    def sendmsg(self, data: Buffer, lifetime_s: float | None = None, in_order: bool = False) -> None:
        """A whole message. What is not delivered within its lifetime is given up."""
        self.native.sendmsg(data, -1.0 if lifetime_s is None else lifetime_s * 1000, in_order, self._timeout)

    def recvmsg(self, size: int) -> bytes | None:
        """A message, or its first ``size`` bytes; None at the end."""
        buffer = bytearray(size)
        got = self.native.recvmsg_into(buffer, self._timeout)
        return None if got is None else bytes(memoryview(buffer)[: min(got, size)])

    def recvmsg_into(self, buffer: Buffer) -> int | None:
        """The message's whole size, of which what fits was copied; None at the end."""
        return self.native.recvmsg_into(buffer, self._timeout)

    def sendfile(self, file: BinaryIO | str | os.PathLike[str], offset: int = 0, count: int | None = None) -> int:
        """Sends ``count`` bytes of the file, or all from the offset on; how many went. Its position is left alone."""
        with _descriptor(file, os.O_RDONLY) as descriptor:
            size = count if count is not None else max(os.fstat(descriptor).st_size - offset, 0)
            return self.native.sendfile(descriptor, offset, size, self._timeout)

    def recvfile(self, file: BinaryIO | str | os.PathLike[str], offset: int, count: int) -> int:
        """Writes ``count`` bytes that come to the file, which is made where it is missing; how many came."""
        with _descriptor(file, os.O_WRONLY | os.O_CREAT) as descriptor:
            return self.native.recvfile(descriptor, offset, count, self._timeout)

    def wait_unsent_below(self, packets: int, timeout_s: float | None = None) -> bool:
        """Until fewer packets than this wait for their first transmission. False: timeout."""
        return self.native.wait_unsent_below(packets, timeout_s)

    def wait_delivered(self, timeout_s: float | None = None) -> bool:
        """Until all that was written is known to have arrived. False: timeout."""
        return self.native.wait_delivered(timeout_s)

    # The end.

    def close(self, linger_s: float | None = None) -> int:
        """Delivers what was written, waiting for at most ``linger_s`` (the settings' if None), and closes.

        Returns how many bytes are not known to have arrived: 0 means that all of it did.
        """
        return self.native.close(self.settings.linger_s if linger_s is None else linger_s)

    def abort(self) -> None:
        """Closes at once; what has not arrived may be lost."""
        self.native.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    # What it is.

    def settimeout(self, seconds: float | None) -> None:
        """None: calls wait for ever. 0: they don't wait, but raise WouldBlock."""
        if seconds is not None and seconds < 0:
            raise Misuse(22, "a timeout must not be negative")
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)

    def getsockname(self) -> Address:
        return self.native.local_address()

    def getpeername(self) -> Address:
        return self.native.peer_address()

    def readable_descriptor(self) -> int:
        """A descriptor that selectors and event loops see as readable while a read (or accept) would not wait.

        It is the socket's: watch it, but neither read nor close it, and stop watching before the socket is closed.
        """
        return self.native.readable_descriptor()

    def writable_descriptor(self) -> int:
        """Likewise: *readable* while there is room to write, or after `finish` once all has arrived."""
        return self.native.writable_descriptor()

    def statistics(self) -> Statistics:
        return read(self.native)

    def set_rate_bps(self, bits_per_second: float) -> None:
        """A cap on what is sent, 0: none. It takes the place of ``ceiling_bps``, and lowers ``fixed`` as well."""
        self.native.set_rate_bps(bits_per_second)

    def __repr__(self) -> str:
        return f"<UdtSocket {self.kind.name.lower()} {self.state.name.lower()}>"


def create_connection(
    address: Address, *, kind: Kind = Kind.STREAM, source: Address | None = None, **settings: Unpack[SettingsGiven]
) -> UdtSocket:
    """A connected socket; tries all addresses of the host's name. Raises UdtError, or OSError for an unknown name."""
    chosen = replace(UdtSettings(), **settings)
    failure: OSError | None = None
    for family, host, port in resolve(address):
        made = UdtSocket(kind, chosen)
        try:
            if source is not None:
                made.bind(source)
            made.native.connect(family, host, port, None)
        except OSError as error:
            made.abort()
            failure = error
        except BaseException:
            made.abort()
            raise
        else:
            return made
    assert failure is not None
    raise failure


def create_server(
    address: Address, *, kind: Kind = Kind.STREAM, backlog: int = 64, **settings: Unpack[SettingsGiven]
) -> UdtSocket:
    """A listening socket."""
    made = UdtSocket(kind, replace(UdtSettings(), **settings))
    try:
        made.bind(address)
        made.listen(backlog)
    except BaseException:
        made.abort()
        raise
    return made


def resolve(address: Address, *, passive: bool = False) -> list[tuple[int, str, int]]:
    """Family, numeric host and port of each address of a name. Raises OSError for an unknown one."""
    host, port = address
    if not 0 <= port <= 65535:
        raise Misuse(22, f"port {port} is not in 0..65535")
    if passive and host == "":
        host = "0.0.0.0"
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    return [(family, _numeric(str(at[0]), at), port) for family, _type, _protocol, _name, at in found]


def _numeric(host: str, at: tuple[object, ...]) -> str:
    """Link-local addresses are nothing without their device."""
    scope = at[3] if len(at) == 4 else 0
    return f"{host}%{scope}" if scope and "%" not in host else host


@contextmanager
def _descriptor(file: BinaryIO | str | os.PathLike[str], flags: int) -> Iterator[int]:
    if isinstance(file, (str, os.PathLike)):
        descriptor = os.open(file, flags | os.O_CLOEXEC, 0o666)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    else:
        file.flush()
        yield file.fileno()
