"""UDT sockets under the names of pyudt4 (udt4.pyudt), whose C API is Python 2's, so that its users can move.

    from syncer.native import pyudt4
    sock = pyudt4.UdtSocket()
    sock.connect(("198.18.0.2", 4032))

| pyudt4 0.5                                    | here                                                                |
|-----------------------------------------------|---------------------------------------------------------------------|
| UdtSocket(family, type, protocol)             | the same; protocol is ignored, as libudt ignores it                 |
| bind((host, port)) or bind(udp_socket)        | the same; the UDP socket is taken over (detached)                   |
| accept() -> (UdtSocket, host)                 | (UdtSocket, (host, port)), as Python's own sockets                  |
| connect, connect_ex, listen, close, fileno    | the same                                                            |
| getpeername, getsockname                      | the same                                                            |
| send(data, padding), sendmsg(data, ...)       | data is bytes-like; no padding; sendmsg(data, ttl, inorder) works   |
| sendall = send                                | sends all                                                           |
| recv, recvmsg, read, write, recvfrom, sendto  | the same, with bytes; recv_into and recvmsg work on any buffer      |
| sendfile(fd), recvfile(fd)                    | sendfile(path, offset, size), recvfile(path, offset, size)          |
| setsockopt(option, value), getsockopt         | the same; UDT_LINGER is a number of seconds, 0: off                 |
| setblocking, settimeout, gettimeout           | the same, milliseconds; gettimeout works (it raised)                |
| perfmon(clear) -> TRACEINFO                   | the same fields                                                     |
| UDTException: err[0] is the code              | err.code or err.args[0]                                             |
| Epoll.wait(do_uread, do_uwrite, wait, ...)    | the same: four sets, UdtSocket objects and system sockets           |
| Epoll.garbage_collect                         | not there: nothing needs it                                         |
| UDT_* and UDP_* constants                     | the same                                                            |
| shutdown, makefile, dup                       | not there: UDT has none                                             |
| -                                             | use_rate_control(), rate_control(): our congestion control          |

A UDT socket that the garbage collector finds open is closed without lingering; close() lingers as UDT_LINGER says.
"""

from __future__ import annotations

import socket
from typing import Protocol

from typing_extensions import Buffer

from syncer.native import _libudt
from syncer.native._libudt import (
    TRACEINFO,
    UDP_RCVBUF,
    UDP_SNDBUF,
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
    RateControl,
    UDTException,
    cleanup,
    startup,
)

__all__ = [
    "TRACEINFO",
    "UDP_RCVBUF",
    "UDP_SNDBUF",
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
    "RateControl",
    "UDTException",
    "UdtSocket",
    "cleanup",
    "startup",
]


class UdtSocket:
    """A UDT socket. Calls that wait release the GIL; close() may come from another thread and wakes them."""

    def __init__(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,
        protocol: int = 0,
        _sock: _libudt.Socket | None = None,
    ) -> None:
        self._sock = _sock if _sock is not None else _libudt.Socket(family, type)
        self.proto = protocol

    @property
    def family(self) -> int:
        return self._sock.family

    @property
    def type(self) -> int:
        return self._sock.type

    @property
    def UDTSOCKET(self) -> _libudt.Socket:
        return self._sock

    def fileno(self) -> int:
        """libudt's number for the socket: no descriptor of the system."""
        return self._sock.id

    def bind(self, address: tuple[str, int] | socket.socket) -> None:
        if isinstance(address, socket.socket):
            self._sock.bind_descriptor(address.detach())
        else:
            self._sock.bind(address[0], address[1])

    def listen(self, backlog: int = 64) -> None:
        self._sock.listen(backlog)

    def accept(self) -> tuple[UdtSocket, tuple[str, int]]:
        accepted, peer = self._sock.accept()
        return UdtSocket(_sock=accepted), peer

    def connect(self, address: tuple[str, int]) -> None:
        self._sock.connect(address[0], address[1])

    def connect_ex(self, address: tuple[str, int]) -> int:
        """0, or the code of the failure."""
        try:
            self.connect(address)
        except UDTException as error:
            return error.code
        return 0

    def close(self) -> None:
        self._sock.close()

    def send(self, data: Buffer) -> int:
        """How many bytes were taken; may be fewer than given."""
        return self._sock.send(data)

    def sendall(self, data: Buffer) -> None:
        self._sock.send_all(data)

    def recv(self, size: int) -> bytes:
        return self._sock.recv(size)

    def recv_into(self, buffer: Buffer, size: int = 0) -> int:
        return self._sock.recv_into(buffer, size)

    def sendmsg(self, data: Buffer, ttl: int = -1, inorder: bool = False) -> int:
        """For SOCK_DGRAM. ``ttl``: milliseconds after which the message may be given up, -1: never."""
        return self._sock.sendmsg(data, ttl, inorder)

    def recvmsg(self, size: int) -> bytes:
        return self._sock.recvmsg(size)

    read = recv
    write = send
    sendto = sendmsg
    recvfrom = recvmsg

    def sendfile(self, path: str, offset: int, size: int) -> int:
        return self._sock.sendfile(path, offset, size)

    def recvfile(self, path: str, offset: int, size: int) -> int:
        return self._sock.recvfile(path, offset, size)

    def setsockopt(self, option: int, value: int | bool) -> None:
        self._sock.setsockopt(option, value)

    def getsockopt(self, option: int) -> int | bool:
        return self._sock.getsockopt(option)

    def getsockstate(self) -> int:
        return self._sock.state

    def getsockname(self) -> tuple[str, int]:
        return self._sock.getsockname()

    def getpeername(self) -> tuple[str, int]:
        return self._sock.getpeername()

    def setblocking(self, flag: bool, flag_recv: bool | None = None) -> None:
        """Sending and receiving alike, or receiving apart."""
        self._sock.setsockopt(UDT_SNDSYN, flag)
        self._sock.setsockopt(UDT_RCVSYN, flag if flag_recv is None else flag_recv)

    def settimeout(self, timeo: int, timeo_recv: int | None = None) -> None:
        """Milliseconds, -1: none."""
        self._sock.setsockopt(UDT_SNDTIMEO, timeo)
        self._sock.setsockopt(UDT_RCVTIMEO, timeo if timeo_recv is None else timeo_recv)

    def gettimeout(self) -> tuple[int, int]:
        return int(self._sock.getsockopt(UDT_SNDTIMEO)), int(self._sock.getsockopt(UDT_RCVTIMEO))

    def perfmon(self, clear: bool = True) -> TRACEINFO:
        return self._sock.perfmon(clear)

    def use_rate_control(self, rate_bps: float = 0.0, floor_bps: float = 300e3, ceiling_bps: float = 0.0) -> None:
        """Before connect or listen; accepted sockets inherit it. Bits a second on the wire; rate 0: adaptive."""
        self._sock.use_rate_control(rate_bps, floor_bps, ceiling_bps)

    def rate_control(self) -> RateControl:
        """The handle of a connected socket's rate control."""
        return self._sock.rate_control()


class SystemSocket(Protocol):
    def fileno(self) -> int: ...


class Epoll:
    """Waits for UDT sockets and system sockets together."""

    def __init__(self) -> None:
        self._epoll = _libudt.Epoll()
        self._udt_sockets: dict[int, UdtSocket] = {}
        self._system_sockets: dict[int, SystemSocket] = {}

    def add_usock(self, udt_socket: UdtSocket, events: int = UDT_EPOLL_IN | UDT_EPOLL_OUT | UDT_EPOLL_ERR) -> None:
        self._epoll.add(udt_socket.UDTSOCKET, events)
        self._udt_sockets[udt_socket.fileno()] = udt_socket

    def add_ssock(self, sys_socket: SystemSocket, events: int = UDT_EPOLL_IN | UDT_EPOLL_OUT) -> None:
        self._epoll.add_descriptor(sys_socket.fileno(), events)
        self._system_sockets[sys_socket.fileno()] = sys_socket

    def remove_usock(self, udt_socket: UdtSocket) -> None:
        self._epoll.remove(udt_socket.UDTSOCKET)
        self._udt_sockets.pop(udt_socket.fileno(), None)

    def remove_ssock(self, sys_socket: SystemSocket) -> None:
        self._epoll.remove_descriptor(sys_socket.fileno())
        self._system_sockets.pop(sys_socket.fileno(), None)

    def wait(
        self, do_uread: bool, do_uwrite: bool, wait: int, do_sread: bool = False, do_swrite: bool = False
    ) -> tuple[set[UdtSocket], set[UdtSocket], set[SystemSocket], set[SystemSocket]]:
        """Readable and writable UDT sockets, then system sockets. ``wait``: milliseconds, -1: for ever."""
        readable, writable, system_readable, system_writable = self._epoll.wait(wait)
        return (
            {self._udt_sockets[number] for number in readable if do_uread and number in self._udt_sockets},
            {self._udt_sockets[number] for number in writable if do_uwrite and number in self._udt_sockets},
            {self._system_sockets[number] for number in system_readable if do_sread},
            {self._system_sockets[number] for number in system_writable if do_swrite},
        )
