"""This host's kernel, in any of its network namespaces, as a Transport."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import CoreError

NETNS_DIRECTORY = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_SOL_NETLINK, _NETLINK_EXT_ACK, _NETLINK_CAP_ACK, _SO_RCVBUFFORCE = 270, 11, 10, 33
_SIOCETHTOOL = 0x8946
_RECEIVE_BUFFER = 4 << 20
_LARGEST_DATAGRAM = 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def netns_path(name: str) -> Path:
    """Where a named namespace is mounted."""
    return NETNS_DIRECTORY / name


@contextmanager
def in_netns(name: str | None) -> Iterator[None]:
    """This thread is in the named namespace for the block (None: stays where it is). Sockets made in it belong to it.

    Raises CoreError when there is no such namespace or no privilege.
    """
    if name is None:
        yield
        return
    home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            there = os.open(netns_path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise CoreError(f"there is no network namespace {name}") from None
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def enter_new_netns() -> None:
    """Move this thread, for good, to a new namespace without a name. Raises CoreError without the privilege."""
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise CoreError(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}", hint="run as root")


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise CoreError(f"cannot enter a network namespace: {os.strerror(code)}", hint="run as root")


class LocalTransport:
    """A netlink socket and an ioctl socket in one namespace (None: the one that this process is in)."""

    def __init__(self, netns: str | None = None) -> None:
        self.kernel_release = platform.release()
        self._netns = netns
        with in_netns(netns):
            self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._ioctl = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._netlink.bind((0, 0))
        self._netlink.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._netlink.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._netlink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)

    def send(self, datagram: bytes) -> None:
        """See Transport."""
        self._netlink.send(datagram)

    def receive(self, deadline: float) -> bytes:
        """See Transport."""
        self._netlink.settimeout(max(0.001, deadline - time.monotonic()))
        return self._netlink.recv(_LARGEST_DATAGRAM)

    def ethtool(self, interface: str, request: bytes) -> bytes:
        """See Transport."""
        buffer = ctypes.create_string_buffer(request, len(request))
        call = struct.pack("16sP16x", interface.encode(), ctypes.addressof(buffer))
        fcntl.ioctl(self._ioctl, _SIOCETHTOOL, call)
        return buffer.raw

    def write_sysctl(self, path: str, value: str) -> None:
        """See Transport."""
        with in_netns(self._netns):
            (Path("/proc/sys") / path).write_text(value)

    def close(self) -> None:
        """See Transport."""
        self._netlink.close()
        self._ioctl.close()
