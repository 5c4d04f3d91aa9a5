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


def switch_off(transport: Transport, interface: str) -> None:
    """Switch segmentation, receive and transmit-checksum offload off, and read each back. Raises ShapingError."""
    for name, (get, put) in _SWITCHES.items():
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
