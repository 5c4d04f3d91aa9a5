"""UdtSocket and Epoll as pyudt4 has them; the package's docstring says what differs."""

from __future__ import annotations

import itertools
import os
import select
import socket
import time
from typing import Protocol

from typing_extensions import Buffer

from syncer import udt
from syncer.udt.statistics import Statistics
from syncer.udt4.constants import (
    ECONNLOST,
    EINVPARAM,
    UDP_RCVBUF,
    UDP_SNDBUF,
    UDT_CC,
    UDT_EPOLL_ERR,
    UDT_EPOLL_IN,
    UDT_EPOLL_OUT,
    UDT_EVENT,
    UDT_FC,
    UDT_LINGER,
    UDT_MAXBW,
    UDT_MSS,
    UDT_RCVBUF,
    UDT_RCVDATA,
    UDT_RCVSYN,
    UDT_RCVTIMEO,
    UDT_RENDEZVOUS,
    UDT_REUSEADDR,
    UDT_SNDBUF,
    UDT_SNDDATA,
    UDT_SNDSYN,
    UDT_SNDTIMEO,
    UDT_STATE,
)
from syncer.udt4.failures import UDTException, translated
from syncer.udt4.options import ANY_TIME, Options, OptionValue
from syncer.udt4.trace import TRACEINFO, dump_perfmon, trace

__all__ = [
    "TRACEINFO",
    "UDP_RCVBUF",
    "UDP_SNDBUF",
    "UDT_CC",
    "UDT_EPOLL_ERR",
    "UDT_EPOLL_IN",
    "UDT_EPOLL_OUT",
    "UDT_EVENT",
    "UDT_FC",
    "UDT_LINGER",
    "UDT_MAXBW",
    "UDT_MSS",
    "UDT_RCVBUF",
    "UDT_RCVDATA",
    "UDT_RCVSYN",
    "UDT_RCVTIMEO",
    "UDT_RENDEZVOUS",
    "UDT_REUSEADDR",
    "UDT_SNDBUF",
    "UDT_SNDDATA",
    "UDT_SNDSYN",
    "UDT_SNDTIMEO",
    "UDT_STATE",
    "Epoll",
    "UDTException",
    "UdtSocket",
    "cleanup",
    "dump_perfmon",
    "startup",
]

_numbers = itertools.count(1)


def startup() -> int:
    """Nothing needs it."""
    return 0


def cleanup() -> int:
    """Nothing needs it: what is still open when the interpreter ends is closed then."""
    return 0


class UdtSocket:
    """Calls that wait release the GIL and end with Ctrl-C; close() may come from another thread and wakes them."""

    def __init__(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,
        protocol: int = 0,
        _sock: udt.UdtSocket | None = None,
        _options: Options | None = None,
    ) -> None:
        kind = udt.Kind.STREAM if type == socket.SOCK_STREAM else udt.Kind.MESSAGES
        self._options = _options or Options()
        self._sock = _sock if _sock is not None else udt.UdtSocket(kind)
        self._number = next(_numbers)
        self._family = family
        self._cleared: Statistics | None = None
        self.proto = protocol

    @property
    def family(self) -> int:
        return self._family

    @property
    def type(self) -> int:
        return socket.SOCK_STREAM if self._sock.kind is udt.Kind.STREAM else socket.SOCK_DGRAM

    @property
    def UDTSOCKET(self) -> udt.UdtSocket:
        return self._sock

    def fileno(self, udt_fileno: bool = True) -> int:
        """A number for the socket in this process: no descriptor of the system."""
        if not udt_fileno:
            raise UDTException(EINVPARAM, "a UDT socket has no descriptor of its own: many share a UDP port")
        return self._number

    # Setting up.

    def bind(self, address: tuple[str, int] | socket.socket) -> None:
        self._configure()
        with translated("set-up"):
            if isinstance(address, socket.socket):
                self._sock.bind_udp(address)
            else:
                self._sock.bind((str(address[0]), int(address[1])))

    def listen(self, backlog: int = 64) -> None:
        self._configure()
        with translated("set-up"):
            self._sock.listen(backlog)

    def accept(self) -> tuple[UdtSocket, tuple[str, int]]:
        self._sock.settimeout(self._options.timeout_s(UDT_RCVSYN, UDT_RCVTIMEO))
        with translated("receive"):
            accepted, peer = self._sock.accept()
        inherited = Options(dict(self._options.values))
        return UdtSocket(self._family, self.type, self.proto, accepted, inherited), peer

    def connect(self, address: tuple[str, int]) -> None:
        self._configure()
        self._sock.settimeout(None if self._options.get(UDT_SNDSYN) else 0.0)
        with translated("set-up"):
            self._sock.connect((str(address[0]), int(address[1])))

    def connect_ex(self, address: tuple[str, int]) -> int:
        """0, or the code of the failure."""
        try:
            self.connect(address)
        except UDTException as error:
            return error.code
        return 0

    def _configure(self) -> None:
        with translated("set-up"):
            self._sock.settings = self._options.settings()
            self._sock.native.configure(self._sock.settings.native())

    # Data.

    def send(self, data: Buffer, padding: int | None = None) -> int:
        """How many bytes were taken; may be fewer than given. ``padding``: zeros up to that size follow the data."""
        self._sock.settimeout(self._options.timeout_s(UDT_SNDSYN, UDT_SNDTIMEO))
        with translated("send"):
            return self._sock.send(_padded(data, padding))

    def sendall(self, data: Buffer, flags: int = 0) -> int:
        """All of it; how many bytes that are."""
        self._sock.settimeout(self._options.timeout_s(UDT_SNDSYN, UDT_SNDTIMEO))
        with translated("send"):
            self._sock.sendall(data)
        return memoryview(data).nbytes

    def recv(self, size: int) -> bytes:
        """Raises UDTException ECONNLOST at the end of the stream, as UDT4 does."""
        self._sock.settimeout(self._options.timeout_s(UDT_RCVSYN, UDT_RCVTIMEO))
        with translated("receive"):
            data = self._sock.recv(size)
        if not data and size > 0:
            raise UDTException(ECONNLOST, "the peer closed the connection, and all of it was read")
        return data

    def recv_into(self, buffer: Buffer, size: int = 0) -> int:
        self._sock.settimeout(self._options.timeout_s(UDT_RCVSYN, UDT_RCVTIMEO))
        with translated("receive"):
            got = self._sock.recv_into(buffer, size)
        if got == 0 and memoryview(buffer).nbytes > 0:
            raise UDTException(ECONNLOST, "the peer closed the connection, and all of it was read")
        return got

    def sendmsg(self, data: Buffer, padding: int | None = None, ttl: int = -1, inorder: bool = False) -> int:
        """``ttl``: milliseconds after which the message may be given up, -1: never. Returns its size."""
        self._sock.settimeout(self._options.timeout_s(UDT_SNDSYN, UDT_SNDTIMEO))
        message = _padded(data, padding)
        with translated("send"):
            self._sock.sendmsg(message, None if ttl < 0 else ttl / 1000, inorder)
        return memoryview(message).nbytes

    def recvmsg(self, size: int) -> bytes:
        self._sock.settimeout(self._options.timeout_s(UDT_RCVSYN, UDT_RCVTIMEO))
        with translated("receive"):
            message = self._sock.recvmsg(size)
        if message is None:
            raise UDTException(ECONNLOST, "the peer closed the connection, and all of it was read")
        return message

    read = recv
    write = send
    sendto = sendmsg
    recvfrom = recvmsg

    def sendfile(self, file: str, offset: int = 0, size: int | None = None) -> int:
        with translated("send"):
            self._sock.settimeout(None)
            return self._sock.sendfile(file, offset, size)

    def recvfile(self, file: str, offset: int, size: int) -> int:
        with translated("receive"):
            self._sock.settimeout(None)
            return self._sock.recvfile(file, offset, size)

    # Options.

    def setsockopt(self, option: int, value: OptionValue) -> None:
        if option not in ANY_TIME and self._sock.state > udt.State.OPENED:
            raise UDTException(5002, "this option is for before the socket connects or listens")
        self._options.set(option, value)
        if option == UDT_MAXBW and self._sock.state is udt.State.CONNECTED:
            with translated("set-up"):
                self._sock.set_rate_bps(self._options.ceiling_bps)

    def getsockopt(self, option: int) -> OptionValue:
        if option == UDT_STATE:
            return self.getsockstate()
        if option == UDT_EVENT:
            native = self._sock.native
            return (UDT_EPOLL_IN if native.can_read else 0) | (UDT_EPOLL_OUT if native.can_write else 0)
        if option == UDT_SNDDATA:
            with translated("send"):
                return self._sock.statistics().send_buffer_packets
        if option == UDT_RCVDATA:
            return self._sock.native.readable_bytes
        return self._options.get(option)

    def setblocking(self, flag: bool, flag_recv: bool | None = None) -> None:
        """Sending and receiving alike, or receiving apart."""
        self._options.set(UDT_SNDSYN, flag)
        self._options.set(UDT_RCVSYN, flag if flag_recv is None else flag_recv)

    def settimeout(self, timeo: int, timeo_recv: int | None = None) -> None:
        """Milliseconds, -1: none."""
        self._options.set(UDT_SNDTIMEO, timeo)
        self._options.set(UDT_RCVTIMEO, timeo if timeo_recv is None else timeo_recv)

    def gettimeout(self) -> tuple[int, int]:
        return self._options.number(UDT_SNDTIMEO), self._options.number(UDT_RCVTIMEO)

    # What it is, and its end.

    def getsockstate(self) -> int:
        return int(self._sock.state)

    def getsockname(self) -> tuple[str, int]:
        with translated("set-up"):
            return self._sock.getsockname()

    def getpeername(self) -> tuple[str, int]:
        with translated("set-up"):
            return self._sock.getpeername()

    def perfmon(self, clear: bool = True) -> TRACEINFO:
        with translated("set-up"):
            now = self._sock.statistics()
        before = self._cleared
        if clear:
            self._cleared = now
        return trace(now, before, self._options.number(UDT_SNDBUF), self._options.number(UDT_RCVBUF))

    def dup(self) -> UdtSocket:
        """Another object for the same socket: closing one closes both."""
        return UdtSocket(self._family, self.type, self.proto, self._sock, self._options)

    def shutdown(self, flags: int) -> None:
        """SHUT_WR and SHUT_RDWR announce the end of what is written, which a peer that is our own is told."""
        if flags != socket.SHUT_RD:
            with translated("send"):
                self._sock.finish()

    def close(self) -> None:
        """Waits until all is delivered, at most for UDT_LINGER seconds."""
        with translated("set-up"):
            self._sock.close(float(self._options.number(UDT_LINGER)))


class SystemSocket(Protocol):
    def fileno(self) -> int: ...


class Epoll:
    """Waits for UDT sockets and system sockets together."""

    def __init__(self) -> None:
        self._udt: dict[UdtSocket, int] = {}
        self._duplicates: dict[UdtSocket, dict[int, int]] = {}
        self._system: dict[SystemSocket, int] = {}

    def add_usock(self, udt_socket: UdtSocket, events: int = 0) -> None:
        """Also one that is not connected yet. ``events``: 0: all."""
        self._udt[udt_socket] = events or UDT_EPOLL_IN | UDT_EPOLL_OUT | UDT_EPOLL_ERR

    def add_ssock(self, sys_socket: SystemSocket, events: int = 0) -> None:
        self._system[sys_socket] = events or UDT_EPOLL_IN | UDT_EPOLL_OUT

    def remove_usock(self, udt_socket: UdtSocket, events: int = 0) -> None:
        """Is no error where it was not added."""
        self._udt.pop(udt_socket, None)
        for descriptor in self._duplicates.pop(udt_socket, {}).values():
            os.close(descriptor)

    def remove_ssock(self, sys_socket: SystemSocket, events: int = 0) -> None:
        self._system.pop(sys_socket, None)

    def garbage_collect(self) -> None:
        """Forgets sockets that were closed."""
        for each in [sock for sock in self._udt if sock.getsockstate() >= udt.State.CLOSED]:
            self.remove_usock(each)

    def wait(
        self, do_uread: bool, do_uwrite: bool, wait: int, do_sread: bool = False, do_swrite: bool = False
    ) -> tuple[set[UdtSocket], set[UdtSocket], set[SystemSocket], set[SystemSocket]]:
        """Readable and writable UDT sockets, then system sockets; a broken one is both. ``wait``: milliseconds, -1: for
        ever. Empty sets when it is over."""
        poll = select.poll()
        readable: dict[int, UdtSocket] = {}
        writable: dict[int, UdtSocket] = {}
        for sock, events in self._udt.items():
            for wanted, event, into in ((do_uread, UDT_EPOLL_IN, readable), (do_uwrite, UDT_EPOLL_OUT, writable)):
                if wanted and events & (event | UDT_EPOLL_ERR):
                    descriptor = self._descriptor(sock, event)
                    if descriptor is not None:
                        into[descriptor] = sock
                        poll.register(descriptor, select.POLLIN)
        system: dict[int, SystemSocket] = {}
        for each, events in self._system.items():
            mask = (select.POLLIN if do_sread and events & UDT_EPOLL_IN else 0) | (
                select.POLLOUT if do_swrite and events & UDT_EPOLL_OUT else 0
            )
            if mask:
                system[each.fileno()] = each
                poll.register(each.fileno(), mask)
        ready = _poll(poll, wait)
        failed = select.POLLERR | select.POLLHUP
        return (
            {readable[number] for number, _event in ready if number in readable},
            {writable[number] for number, _event in ready if number in writable},
            {
                system[number]
                for number, event in ready
                if number in system and do_sread and event & (select.POLLIN | failed)
            },
            {
                system[number]
                for number, event in ready
                if number in system and do_swrite and event & (select.POLLOUT | failed)
            },
        )

    def _descriptor(self, sock: UdtSocket, event: int) -> int | None:
        """A duplicate of ours: the socket's own goes with it, and its number may come to mean something else."""
        known = self._duplicates.setdefault(sock, {})
        if event not in known:
            try:
                native = sock.UDTSOCKET
                if event == UDT_EPOLL_OUT and native.state is udt.State.LISTENING:
                    return None
                own = native.readable_descriptor() if event == UDT_EPOLL_IN else native.writable_descriptor()
            except udt.UdtError:
                return None  # neither connected nor listening: nothing to tell
            known[event] = os.dup(own)
        return known[event]

    def __del__(self) -> None:
        for sock in list(getattr(self, "_duplicates", ())):
            self.remove_usock(sock)


def _poll(poll: select.poll, wait_ms: int) -> list[tuple[int, int]]:
    end = None if wait_ms < 0 else time.monotonic() + wait_ms / 1000
    while True:
        ready = poll.poll(None if end is None else max((end - time.monotonic()) * 1000, 0))
        if ready or end is None or time.monotonic() >= end:
            return ready


def _padded(data: Buffer, padding: int | None) -> Buffer:
    if padding is None:
        return data
    view = memoryview(data).cast("B")
    if padding < len(view):
        raise UDTException(EINVPARAM, f"a padding of {padding} is less than the data's {len(view)} bytes")
    return bytes(view) + bytes(padding - len(view))
