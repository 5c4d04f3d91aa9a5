"""Offloads of an interface, by ethtool's ioctl: what makes a packet on the WAN bigger than one MTU is switched off.

With segmentation or receive offload on, one netem decision would hit a super-packet of many segments at once. A veth
offers segmentation for each protocol, SCTP and tunnels among them, so every feature whose name says so is switched off,
three ioctls in all. The kernel keeps features in step: without checksums there is no segmentation either.
"""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Mapping

from harness.errors import ShapingError
from harness.wan.kernel import Transport

_GET_STRINGS, _COUNT_STRINGS, _GET_FEATURES, _SET_FEATURES = 0x1B, 0x37, 0x3A, 0x3B
_FEATURE_STRINGS = 4
_NAME_BYTES = 32
_BLOCK_BITS = 32
_HEADER = struct.Struct("=II")
_STATE = struct.Struct("=IIII")
"""Available, requested, active, never changed: 32 features each."""
_CHANGE = struct.Struct("=II")
"""Which of 32 features to change, and to what."""

_PASSES_ON = "macvlan"
"""Such a device claims all that is sent, so that the device below it does the work: what is off there is off, and
``gso_max_segs`` 1 (harness.wan.cables) keeps bigger packets from it."""
_DRIVER_INFO = struct.Struct("=I32s160x")
_GET_DRIVER = 0x03

_known_names: dict[str, tuple[str, ...]] = {}
"""By the kernel's release."""

_UNWANTED = re.compile(r"tx-.*segmentation|tx-gso-(list|partial)|tx-checksum-.*|rx-(udp-)?gro.*|rx-lro")


def switch_off(transport: Transport, interface: str) -> None:
    """Switch segmentation, receive and transmit-checksum offload off, and read it back. Raises ShapingError."""
    names = _names(transport, interface)
    active = _active(transport, interface, names)
    if not active:
        return
    blocks = bytearray()
    for first in range(0, len(names), _BLOCK_BITS):
        block = names[first : first + _BLOCK_BITS]
        blocks += _CHANGE.pack(sum(1 << bit for bit, name in enumerate(block) if active.get(name)), 0)
    if any(blocks):
        request = _HEADER.pack(_SET_FEATURES, len(blocks) // _CHANGE.size) + blocks
        _asked(transport, interface, bytes(request), "change the offloads of")
        active = _active(transport, interface, names)
    if active and _driver(transport, interface) == _PASSES_ON:
        active = {name: able for name, able in active.items() if not name.startswith("tx-")}
    if active:
        raise ShapingError(f"{', '.join(active)} stays on at {interface}: packets there may be bigger than the MTU")


def _active(transport: Transport, interface: str, names: tuple[str, ...]) -> Mapping[str, bool]:
    """The unwanted features that are on, and whether each can be switched."""
    count = -(-len(names) // _BLOCK_BITS)
    request = _HEADER.pack(_GET_FEATURES, count) + bytes(count * _STATE.size)
    answer = _asked(transport, interface, request, "read the offloads of")
    found = {}
    for number in range(count):
        available, _, active, _ = _STATE.unpack_from(answer, _HEADER.size + number * _STATE.size)
        for bit, name in enumerate(names[number * _BLOCK_BITS : (number + 1) * _BLOCK_BITS]):
            if active >> bit & 1 and _UNWANTED.fullmatch(name):
                found[name] = bool(available >> bit & 1)
    return found


def _driver(transport: Transport, interface: str) -> str:
    answer = _asked(transport, interface, _DRIVER_INFO.pack(_GET_DRIVER, b""), "tell the driver of")
    return str(_DRIVER_INFO.unpack(answer)[1].rstrip(b"\0").decode())


def _names(transport: Transport, interface: str) -> tuple[str, ...]:
    """What this kernel calls its features, in their order; the same on every interface."""
    known = _known_names.get(transport.kernel_release)
    if known is None:
        request = struct.pack("=IIQI", _COUNT_STRINGS, 0, 1 << _FEATURE_STRINGS, 0)
        answer = _asked(transport, interface, request, "count the offloads of")
        (count,) = struct.unpack_from("=I", answer, 16)
        header = struct.pack("=III", _GET_STRINGS, _FEATURE_STRINGS, count)
        answer = _asked(transport, interface, header + bytes(count * _NAME_BYTES), "list the offloads of")
        found = struct.iter_unpack(f"{_NAME_BYTES}s", answer[len(header) :])
        known = tuple(name.split(b"\0")[0].decode(errors="replace") for (name,) in found)
        _known_names[transport.kernel_release] = known
    return known


def _asked(transport: Transport, interface: str, request: bytes, what: str) -> bytes:
    try:
        return transport.ethtool(interface, request)
    except OSError as error:
        reason = "this kernel cannot" if error.errno == errno.EOPNOTSUPP else error.strerror
        raise ShapingError(f"cannot {what} {interface}: {reason}") from error
