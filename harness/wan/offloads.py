"""Offloads of an interface, by ethtool's ioctl: what makes a packet on the WAN bigger than one MTU is switched off.

With segmentation or receive offload on, one netem decision would hit a super-packet of many segments at once.
"""

from __future__ import annotations

import errno
import struct

from harness.errors import ShapingError
from harness.wan.kernel import Transport

_SWITCHES = {
    # name: (get, set); order matters, since checksums must be off last: TSO depends on them
    "tcp-segmentation": (0x1E, 0x1F),
    "generic-segmentation": (0x23, 0x24),
    "generic-receive": (0x2B, 0x2C),
    "tx-checksum": (0x16, 0x17),
}
_VALUE = struct.Struct("=II")
_DRIVER_INFO = struct.Struct("=I32s160x")
_ETHTOOL_GDRVINFO = 0x03
_ALWAYS_ON = {"macvlan": ("tcp-segmentation", "generic-segmentation", "tx-checksum")}
"""A macvlan device passes packets on, and claims all offloads so that the device below it does the work: segmentation
there is off, and cables.py sets the macvlan's ``gso_max_segs`` to 1, which keeps bigger packets from it."""


def switch_off(transport: Transport, interface: str) -> None:
    """Switch segmentation, receive and transmit-checksum offload off, and read each back. Raises ShapingError."""
    kept = _ALWAYS_ON.get(_driver(transport, interface), ())
    for name, (get, put) in _SWITCHES.items():
        if name in kept:
            continue
        try:
            transport.ethtool(interface, _VALUE.pack(put, 0))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise ShapingError(f"cannot switch {name} off on {interface}: {error.strerror}") from error
        try:
            _, value = _VALUE.unpack(transport.ethtool(interface, _VALUE.pack(get, 0)))
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                continue
            raise ShapingError(f"cannot read {name} of {interface}: {error.strerror}") from error
        if value:
            raise ShapingError(f"{name} stays on at {interface}: packets there may be bigger than the MTU")


def _driver(transport: Transport, interface: str) -> str:
    try:
        answer = transport.ethtool(interface, _DRIVER_INFO.pack(_ETHTOOL_GDRVINFO, b""))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return ""
        raise ShapingError(f"cannot tell what {interface} is: {error.strerror}") from error
    return str(_DRIVER_INFO.unpack(answer)[1].rstrip(b"\0").decode())
