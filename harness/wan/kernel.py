"""One kernel's network configuration: batches of changes and dumps, over any transport that carries netlink datagrams.

pyroute2 compiles and parses the messages; this module owns their exchange: it numbers them, sends them in windows that
no receive buffer overflows, and turns the kernel's refusals into ShapingError with the kernel's own words.
"""

from __future__ import annotations

import os
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from pyroute2.iproute.linux import IPBatch
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from harness.errors import ShapingError
from harness.wan import netem

RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETQDISC = 18, 22, 26, 30, 38
_AF_INET, _AF_INET6 = 2, 10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSGERR_ATTR_MSG = 1
_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_WINDOW_MESSAGES = 48
_WINDOW_BYTES = 24 * 1024
_QUIET_WINDOW_MESSAGES = 512
"""Of questions, so many answers fit in the receive buffer."""
_QUIET_WINDOW_BYTES = 96 * 1024
"""A datagram must fit into the send buffer of a netlink socket (208 KiB unless the host says otherwise)."""
_DEADLINE_S = 10.0


class Transport(Protocol):
    """Reaches one network namespace of one kernel."""

    kernel_release: str

    def send(self, datagram: bytes) -> None:
        """One NETLINK_ROUTE datagram to the kernel."""

    def receive(self, deadline: float) -> bytes:
        """The next datagram from it. ``deadline`` on the monotonic clock; TimeoutError past it."""

    def ethtool(self, interface: str, request: bytes) -> bytes:
        """SIOCETHTOOL: returns the struct as the kernel left it; OSError when it refused."""

    def write_sysctl(self, path: str, value: str) -> None:
        """``path`` is relative to /proc/sys, with slashes; OSError when the kernel refused."""

    def close(self) -> None:
        """Drop the handles."""


class Kernel:
    """Changes and dumps. One at a time: not to be shared between threads."""

    def __init__(self, transport: Transport) -> None:
        netem.register()
        self.transport = transport
        self._sequence = int.from_bytes(os.urandom(3), "little")

    @property
    def release(self) -> str:
        """``uname -r``."""
        return self.transport.kernel_release

    @contextmanager
    def batch(self) -> Iterator[Any]:
        """Collects calls of pyroute2's IPRoute interface (``link``, ``addr``, ``neigh``, ``route``, ``tc``) and applies
        them in order when the block ends. Raises ShapingError for the first one that the kernel refused."""
        compiler = IPBatch()
        try:
            yield compiler
            messages = list(_split(bytes(compiler.asyncore.batch)))
        finally:
            compiler.close()
        self.apply(messages)

    def apply(self, messages: Sequence[bytes]) -> None:
        """Send requests and wait until the kernel has acknowledged every one. Raises ShapingError."""
        for _ in self._exchange(messages):
            raise ShapingError("the kernel answered a change with data")

    def transact(
        self, messages: Iterable[bytes], subject: Callable[[int], str] | None = None, *, changes_alone: bool = False
    ) -> list[bytes]:
        """Send many changes and questions at once, and return what the kernel answers to the questions, in order.

        Only the last message of each datagram is acknowledged: the kernel works through a datagram in order, and
        answers a refused message in any case. ``subject`` says what the message with this position is about. With
        ``changes_alone``, when there are no questions, the next datagram is made and sent while the kernel is busy with
        the one before. Raises ShapingError for the first refusal; what was sent by then has been carried out all the
        same.
        """
        answers: list[bytes] = []
        begin = 0
        under_way: deque[tuple[list[bytes], int, int]] = deque()
        for window in _windows(messages, _QUIET_WINDOW_MESSAGES, _QUIET_WINDOW_BYTES):
            first = self._sequence = (self._sequence + 1) & 0x3FFFFFFF
            self._sequence += len(window)
            datagram = bytearray()
            for offset, message in enumerate(window):
                flags = _NLM_F_ACK if offset == len(window) - 1 else 0
                datagram += _numbered(message, first + offset, flags)
            self.transport.send(bytes(datagram))
            under_way.append((window, first, begin))
            begin += len(window)
            if len(under_way) > changes_alone:
                answers += self._collect(*under_way.popleft(), subject, quiet=True)
        while under_way:
            answers += self._collect(*under_way.popleft(), subject, quiet=True)
        return answers

    def dump_qdiscs(self) -> list[bytes]:
        """Every qdisc of every interface, each as its message."""
        return self._exchange([_encode(tcmsg(), RTM_GETQDISC, _NLM_F_DUMP)])

    def links(self) -> dict[str, Any]:
        """Every interface by name, as pyroute2's ``ifinfmsg``."""
        request = ifinfmsg()
        return {link.get_attr("IFLA_IFNAME"): link for link in self._dump(request, RTM_GETLINK, ifinfmsg)}

    def addresses(self, index: int) -> list[tuple[str, int]]:
        """The IPv4 addresses of one interface, each with its prefix length."""
        request = ifaddrmsg()
        request["family"] = _AF_INET
        found = self._dump(request, RTM_GETADDR, ifaddrmsg)
        return [(a.get_attr("IFA_LOCAL"), a["prefixlen"]) for a in found if a["index"] == index]

    def neighbours(self, index: int) -> list[Any]:
        """The IPv4 neighbours of one interface, as ``ndmsg``."""
        request = ndmsg()
        request["family"] = _AF_INET
        return [entry for entry in self._dump(request, RTM_GETNEIGH, ndmsg) if entry["ifindex"] == index]

    def all_neighbours(self) -> list[Any]:
        """The neighbours of every interface, IPv4 and IPv6, as ``ndmsg``."""
        return list(self._dump(ndmsg(), RTM_GETNEIGH, ndmsg))

    def routes(self) -> list[Any]:
        """The routes of every table, IPv4 and IPv6, as ``rtmsg``."""
        found: list[Any] = []
        for family in (_AF_INET, _AF_INET6):
            request = rtmsg()
            request["family"] = family
            found += self._dump(request, RTM_GETROUTE, rtmsg)
        return found

    def close(self) -> None:
        """Drop the transport."""
        self.transport.close()

    def _dump(self, request: Any, kind: int, parse_as: Callable[[bytes], Any]) -> Iterator[Any]:
        for message in self._exchange([_encode(request, kind, _NLM_F_DUMP)]):
            yield _parse(parse_as, message)

    def _exchange(self, messages: Sequence[bytes]) -> list[bytes]:
        """Everything but acknowledgements that the kernel answers, in order."""
        answers: list[bytes] = []
        for window in _windows(messages, _WINDOW_MESSAGES, _WINDOW_BYTES):
            first = self._sequence = (self._sequence + 1) & 0x3FFFFFFF
            self._sequence += len(window)
            numbered = [_numbered(message, first + offset) for offset, message in enumerate(window)]
            self.transport.send(b"".join(numbered))
            answers += self._collect(window, first)
        return answers

    def _collect(
        self,
        window: Sequence[bytes],
        first: int,
        begin: int = 0,
        subject: Callable[[int], str] | None = None,
        *,
        quiet: bool = False,
    ) -> list[bytes]:
        """Read until every message is acknowledged; ``quiet``: until the last one is."""
        answers: list[bytes] = []
        last = first + len(window) - 1
        sent = range(first, last + 1)
        pending = {last} if quiet else set(sent)
        refused: tuple[int, ShapingError] | None = None
        deadline = time.monotonic() + _DEADLINE_S
        while pending:
            try:
                datagram = self.transport.receive(deadline)
            except TimeoutError as error:
                raise ShapingError(f"the core's kernel did not answer within {_DEADLINE_S:.0f} s") from error
            for message in _split(datagram):
                _, kind, flags, sequence, _ = _HEADER.unpack_from(message)
                if sequence not in sent:
                    continue
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    pending.discard(sequence)
                    code = _ERROR.unpack_from(message, _HEADER.size)[0] if len(message) >= _HEADER.size + 4 else 0
                    if code < 0 and (refused is None or sequence < refused[0]):
                        position = sequence - first
                        about = subject(begin + position) if subject is not None else None
                        refused = sequence, _refusal(-code, flags, message, window[position], about)
                else:
                    answers.append(message)
        if refused is not None:
            raise refused[1]
        return answers


def _windows(messages: Iterable[bytes], most: int, most_bytes: int) -> Iterator[list[bytes]]:
    window: list[bytes] = []
    size = 0
    for message in messages:
        if window and (len(window) == most or size + len(message) > most_bytes):
            yield window
            window, size = [], 0
        window.append(message)
        size += len(message)
    if window:
        yield window


def _split(data: bytes) -> Iterator[bytes]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length = _HEADER.unpack_from(data, offset)[0]
        if length < _HEADER.size:
            return
        yield data[offset : offset + length]
        offset += (length + 3) & ~3


def _numbered(message: bytes, sequence: int, more_flags: int = 0) -> bytes:
    length, kind, flags, _, _ = _HEADER.unpack_from(message)
    padding = bytes(-len(message) % 4)
    return _HEADER.pack(length, kind, flags | more_flags, sequence, 0) + message[_HEADER.size :] + padding


def _encode(request: Any, kind: int, flags: int) -> bytes:
    request["header"]["type"] = kind
    request["header"]["flags"] = _NLM_F_REQUEST | flags
    request.encode()
    return bytes(request.data)


def _parse(parse_as: Callable[[bytes], Any], message: bytes) -> Any:
    parsed = parse_as(message)
    parsed.decode()
    return parsed


def _refusal(code: int, flags: int, message: bytes, request: bytes, about: str | None) -> ShapingError:
    reason = os.strerror(code)
    said = _extended_reason(flags, message)
    what = about or f"a change (netlink type {_HEADER.unpack_from(request)[1]})"
    return ShapingError(f"the core's kernel refused {what}: {said or reason}")


def _extended_reason(flags: int, message: bytes) -> str | None:
    """The text that newer kernels add to a refusal."""
    if not flags & _NLM_F_ACK_TLVS:
        return None
    offset = _HEADER.size + 4
    echoed = _HEADER.unpack_from(message, offset)[0]
    offset += _HEADER.size if flags & _NLM_F_CAPPED else (echoed + 3) & ~3
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, offset)
        if length < 4:
            return None
        if kind & 0x3FFF == _NLMSGERR_ATTR_MSG:
            return message[offset + 4 : offset + length].rstrip(b"\0").decode(errors="replace")
        offset += (length + 3) & ~3
    return None
