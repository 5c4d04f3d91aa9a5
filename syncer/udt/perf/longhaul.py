"""Our own UDT, through its public Python API."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from typing import cast

from typing_extensions import Buffer

from syncer.errors import InputError, TransportError
from syncer.udt.errors import ConnectionRefused, Misuse, TimedOut, UdtError
from syncer.udt.perf.port import PATIENCE_S, Address, NoServer, Settings, Statistics
from syncer.udt.settings import Control, UdtSettings
from syncer.udt.socket import UdtSocket


class LonghaulStream:
    def __init__(self, sock: UdtSocket) -> None:
        self._socket = sock

    def send_all(self, data: Buffer) -> None:
        try:
            self._socket.sendall(data)
        except UdtError as error:
            raise _broken(error) from None

    def receive_into(self, buffer: Buffer) -> int:
        try:
            got = self._socket.native.recv_into(buffer, 0, PATIENCE_S)
        except TimedOut:
            return 0
        except UdtError as error:
            raise _broken(error) from None
        if got == 0:
            raise TransportError("the other end closed the connection")
        return got

    def statistics(self) -> Statistics:
        try:
            counted = self._socket.statistics()
        except UdtError as error:
            raise _broken(error) from None
        return Statistics(
            counted.rtt_s,
            counted.packets_sent,
            counted.packets_retransmitted,
            counted.packets_lost,
            counted.as_dict(),
        )

    def close(self) -> None:
        with contextlib.suppress(UdtError):
            self._socket.close()

    def abort(self) -> None:
        with contextlib.suppress(UdtError):
            self._socket.abort()


class LonghaulListener:
    """A listener's settings are those it was made with: other ones need another listener, at the same port."""

    def __init__(self, address: Address, settings: UdtSettings) -> None:
        self._settings = settings
        self._replacing = threading.Lock()
        self._socket = _listening(address, settings)

    @property
    def address(self) -> Address:
        return self._socket.getsockname()

    def configure(self, settings: Settings) -> None:
        wanted = _translated(settings)
        if wanted == self._settings:
            return
        with self._replacing:
            address = self.address
            self._socket.abort()
            self._socket = _listening(address, wanted)
            self._settings = wanted

    def accept(self) -> tuple[LonghaulStream, Address]:
        while True:
            with self._replacing:
                listener = self._socket
            try:
                accepted, peer = listener.accept()
            except UdtError as error:
                with self._replacing:
                    if listener is self._socket:
                        raise _broken(error) from None
            else:
                return LonghaulStream(accepted), peer

    def close(self) -> None:
        self._socket.abort()


class Longhaul:
    name = "longhaul"
    controls = ("bbr", "fixed", "native", "background")

    def listen(self, address: Address, settings: Settings) -> LonghaulListener:
        return LonghaulListener(address, _translated(settings))

    def connect(self, address: Address, settings: Settings) -> LonghaulStream:
        sock = UdtSocket(settings=_translated(settings))
        try:
            sock.connect(address)
        except (ConnectionRefused, TimedOut):
            sock.abort()
            raise NoServer(f"nobody who speaks UDT answers at {address[0]} port {address[1]}") from None
        except UdtError as error:
            sock.abort()
            raise TransportError(f"cannot connect to {address[0]} port {address[1]}: {error.strerror}") from None
        return LonghaulStream(sock)


def load() -> Longhaul:
    return Longhaul()


def _listening(address: Address, settings: UdtSettings) -> UdtSocket:
    sock = UdtSocket(settings=settings)
    try:
        sock.bind(address)
        sock.listen()
    except OSError as error:
        sock.abort()
        raise InputError(
            f"cannot listen on {address[0]} port {address[1]}: {error.strerror}",
            hint="is the address of this machine, and the port free?",
        ) from None
    return sock


def _translated(settings: Settings) -> UdtSettings:
    control = cast(Control, settings.control or Longhaul.controls[0])
    rate = settings.rate_bps or 0.0
    made = UdtSettings(
        mss=settings.mss,
        send_buffer_bytes=settings.buffer_bytes,
        receive_buffer_bytes=settings.buffer_bytes,
        control=control,
    )
    made = replace(made, rate_bps=rate) if control == "fixed" else replace(made, ceiling_bps=rate)
    try:
        made.native()
    except Misuse as error:
        raise InputError(str(error.strerror or error)) from None
    return made


def _broken(error: UdtError) -> TransportError:
    return TransportError(str(error.strerror or error))
