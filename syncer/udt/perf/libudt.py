"""libudt 4.11 as it is: its own congestion control, or a fixed rate through its control interface."""

from __future__ import annotations

import contextlib
import socket

from typing_extensions import Buffer

from syncer.errors import InputError, TransportError
from syncer.native import _libudt
from syncer.udt.perf.port import PATIENCE_S, Address, NoServer, Settings, Statistics

LINGER_S = 10
UDP_BUFFER_BYTES = 8 * 1024 * 1024
_HEADERS = 44
"""IP, UDP and UDT: what a packet of the negotiated size does not carry."""

_TIMED_OUT = (_libudt.ETIMEOUT, _libudt.EASYNCRCV)


class LibudtStream:
    def __init__(self, sock: _libudt.Socket) -> None:
        self._socket = sock
        sock.setsockopt(_libudt.UDT_RCVTIMEO, int(PATIENCE_S * 1000))
        sock.setsockopt(_libudt.UDT_LINGER, LINGER_S)

    def send_all(self, data: Buffer) -> None:
        try:
            self._socket.send_all(data)
        except _libudt.UDTException as error:
            raise TransportError(str(error.args[1])) from None

    def receive_into(self, buffer: Buffer) -> int:
        try:
            return self._socket.recv_into(buffer)
        except _libudt.UDTException as error:
            if error.code in _TIMED_OUT:
                return 0
            raise TransportError(str(error.args[1])) from None

    def statistics(self) -> Statistics:
        try:
            trace = self._socket.perfmon(False)
        except _libudt.UDTException as error:
            raise TransportError(str(error.args[1])) from None
        return Statistics(trace.msRTT / 1e3, trace.pktSentTotal, trace.pktRetransTotal, trace.pktSndLossTotal)

    def close(self) -> None:
        with contextlib.suppress(_libudt.UDTException):
            self._socket.close()

    def abort(self) -> None:
        with contextlib.suppress(_libudt.UDTException):
            self._socket.setsockopt(_libudt.UDT_LINGER, 0)
        self.close()


class LibudtListener:
    def __init__(self, sock: _libudt.Socket) -> None:
        self._socket = sock

    @property
    def address(self) -> Address:
        return self._socket.getsockname()

    def configure(self, settings: Settings) -> None:
        _control(self._socket, settings)

    def accept(self) -> tuple[LibudtStream, Address]:
        try:
            accepted, peer = self._socket.accept()
        except _libudt.UDTException as error:
            raise TransportError(str(error.args[1])) from None
        return LibudtStream(accepted), peer

    def close(self) -> None:
        with contextlib.suppress(_libudt.UDTException):
            self._socket.close()


class Libudt:
    name = "libudt"
    controls = ("native", "fixed")

    def listen(self, address: Address, settings: Settings) -> LibudtListener:
        sock = _made(address, settings)
        try:
            sock.bind(*address)
            sock.listen()
        except _libudt.UDTException as error:
            raise InputError(
                f"cannot listen on {address[0]} port {address[1]}: {error.args[1]}",
                hint="is the address of this machine, and the port free?",
            ) from None
        return LibudtListener(sock)

    def connect(self, address: Address, settings: Settings) -> LibudtStream:
        sock = _made(address, settings)
        try:
            sock.connect(*address)
        except _libudt.UDTException as error:
            sock.close()
            if error.code == _libudt.ENOSERVER:
                raise NoServer(f"nobody who speaks UDT answers at {address[0]} port {address[1]}") from None
            raise TransportError(f"cannot connect to {address[0]} port {address[1]}: {error.args[1]}") from None
        return LibudtStream(sock)


def load() -> Libudt:
    return Libudt()


def _made(address: Address, settings: Settings) -> _libudt.Socket:
    sock = _libudt.Socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    for option, value in (
        (_libudt.UDT_MSS, settings.mss),
        # Before the buffers, which libudt clips to it.
        (_libudt.UDT_FC, 2 * settings.buffer_bytes // (settings.mss - _HEADERS)),
        (_libudt.UDT_SNDBUF, settings.buffer_bytes),
        (_libudt.UDT_RCVBUF, settings.buffer_bytes),
        (_libudt.UDP_SNDBUF, UDP_BUFFER_BYTES),
        (_libudt.UDP_RCVBUF, UDP_BUFFER_BYTES),
    ):
        sock.setsockopt(option, value)
    _control(sock, settings)
    return sock


def _control(sock: _libudt.Socket, settings: Settings) -> None:
    if settings.control == "fixed" and settings.rate_bps is not None:
        sock.use_fixed_rate(settings.rate_bps)
    else:
        if settings.rate_bps is not None:
            raise InputError("libudt has no rate cap that holds", hint="add --control fixed")
        sock.use_native_control()
