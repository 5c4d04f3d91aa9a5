"""The micro-VM's kernel as a Transport: frames over one of its control ports (see guest/agent.c for the protocol)."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import struct
import time
from collections import deque
from pathlib import Path
from typing import IO

from harness.errors import CoreError, ShapingError
from harness.wan.framing import FrameDecoder, encoded

CONTROL_PORTS = 4
_U32 = struct.Struct("<I")
_HELLO, _NETLINK, _LEASE, _ETHTOOL, _SYSCTL, _ENTROPY = 1, 2, 3, 4, 5, 6
_CALL_DEADLINE_S = 10.0
_GREETING_S = 0.1
_PORT_WAIT_S = 10.0
_PORT_RETRY_S = 0.02
_INTERFACE_NAME = 16
_READ_BYTES = 1 << 18


def control_socket(directory: Path, number: int) -> Path:
    """Where QEMU listens for the control port with this number."""
    return directory / f"port{number}.sock"


class GuestTransport:
    """One control port of a running core, held by this process alone until ``close``.

    ``directory`` is the core's. Raises CoreError when no port becomes free or the guest does not answer by ``deadline``
    (monotonic seconds).
    """

    def __init__(self, directory: Path, deadline: float) -> None:
        self._inbox: deque[tuple[int, bytes]] = deque()
        self._session = secrets.randbits(32)
        self._decoder = FrameDecoder(self._session)
        self._lock, self._socket = _free_port(directory, deadline)
        try:
            # The END before HELLO closes whatever a client that died may have begun.
            self.kernel_release = self._greet(deadline)
        except BaseException:
            self.close()
            raise

    def send(self, datagram: bytes) -> None:
        """See Transport."""
        self._send(_NETLINK, datagram)

    def receive(self, deadline: float) -> bytes:
        """See Transport."""
        return self._await(_NETLINK, deadline)

    def ethtool(self, interface: str, request: bytes) -> bytes:
        """See Transport."""
        answer = self._call(_ETHTOOL, interface.encode().ljust(_INTERFACE_NAME, b"\0") + request)
        return _checked(answer, interface)

    def write_sysctl(self, path: str, value: str) -> None:
        """See Transport."""
        _checked(self._call(_SYSCTL, path.encode() + b"\0" + value.encode()), path)

    def lease(self, seconds: int) -> None:
        """The guest switches itself off after ``seconds`` unless it gets another lease; 0 is for ever."""
        _checked(self._call(_LEASE, _U32.pack(seconds)), "lease")

    def add_entropy(self, seed: bytes) -> None:
        """The guest's random numbers depend on ``seed`` from now on."""
        _checked(self._call(_ENTROPY, seed), "entropy")

    def close(self) -> None:
        """See Transport."""
        self._socket.close()
        self._lock.close()

    def _greet(self, deadline: float) -> str:
        """The guest's kernel release. Asks again, since a guest that was told of a hang-up and a new client at once may
        sleep over the first bytes."""
        while True:
            self._send(_HELLO, b"")
            try:
                return self._await(_HELLO, min(deadline, time.monotonic() + _GREETING_S)).decode()
            except TimeoutError as error:
                if time.monotonic() >= deadline:
                    raise CoreError("the WAN core's machine does not answer") from error

    def _call(self, kind: int, payload: bytes) -> bytes:
        self._send(kind, payload)
        return self._await(kind, time.monotonic() + _CALL_DEADLINE_S)

    def _send(self, kind: int, payload: bytes) -> None:
        try:
            self._socket.settimeout(_CALL_DEADLINE_S)
            self._socket.sendall(encoded(self._session, kind, payload))
        except OSError as error:
            raise ShapingError(f"the WAN core's machine does not take commands: {error}") from error

    def _await(self, kind: int, deadline: float) -> bytes:
        while True:
            while self._inbox:
                got, payload = self._inbox.popleft()
                if got == kind:
                    return payload
            self._read(deadline)

    def _read(self, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the WAN core's machine did not answer in time")
        self._socket.settimeout(remaining)
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise ShapingError(f"lost the WAN core's machine: {error}") from error
        if not data:
            raise ShapingError(
                "the WAN core's machine has ended", hint="its console is in console.log in its directory"
            )
        self._inbox.extend(self._decoder.feed(data))


def _checked(answer: bytes, subject: str) -> bytes:
    code = _U32.unpack_from(answer)[0]
    if code:
        raise OSError(code, os.strerror(code), subject)
    return answer[4:]


def _free_port(directory: Path, deadline: float) -> tuple[IO[bytes], socket.socket]:
    """Lock and connect to a port that no other process uses."""
    give_up = min(deadline, time.monotonic() + _PORT_WAIT_S)
    while True:
        for number in range(CONTROL_PORTS):
            try:
                lock = (directory / f"port{number}.lock").open("wb")
            except FileNotFoundError:
                raise CoreError(f"the WAN core in {directory} is gone") from None
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock, _connect(control_socket(directory, number))
            except BlockingIOError:
                lock.close()
            except OSError as error:
                lock.close()
                if error.errno not in (errno.ECONNREFUSED, errno.ENOENT, errno.EAGAIN):
                    raise
        if time.monotonic() >= give_up:
            raise CoreError("the WAN core's machine has no free control port, or has ended")
        time.sleep(_PORT_RETRY_S)


def _connect(path: Path) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.connect(str(path))
    except OSError:
        stream.close()
        raise
    return stream
