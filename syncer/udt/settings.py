"""What a socket can be told before it connects or listens."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from syncer.native import _udt

Control = Literal["bbr", "fixed", "native", "background"]
"""``bbr``: follows the delivery rate and the shortest round trip; the default. ``fixed``: ``rate_bps``, nothing else,
for a path of one's own. ``native``: as UDT4. ``background``: gives way to all others."""


@dataclass(frozen=True)
class UdtSettings:
    """Rates are in bits a second on the wire, with all headers down to Ethernet's. Buffers take memory as they fill."""

    mss: int = 1500
    """The largest IP packet in bytes; the connection uses the smallest of both ends' and the route's MTU."""
    send_buffer_bytes: int = 32 * 1024 * 1024
    receive_buffer_bytes: int = 32 * 1024 * 1024
    """As much may be under way: at least the rate times the round trip, and twice that where packets get lost."""
    control: Control = "bbr"
    rate_bps: float = 0.0
    """Of ``fixed``."""
    ceiling_bps: float = 0.0
    """What a connection never exceeds; 0: no limit."""
    dead_after_s: float = 5.0
    """Silence after which the peer is taken for dead. Idle peers say something every second."""
    connect_timeout_s: float = 10.0
    linger_s: float = 10.0
    """How long ``close`` waits at most for what was sent to arrive."""
    extensions: bool = True
    """Speak the richer protocol to peers that know it. False: plain UDT4 to everybody."""
    rendezvous: bool = False
    """Both ends bind, and connect to each other at the same time: the way through most NATs and firewalls."""
    reuse_address: bool = True
    """Share a UDP port with other sockets of this process."""
    max_connections: int = 4096
    """Of a listener: accepted or waiting for it, and alive. Further ones are refused."""
    udp_receive_buffer_bytes: int = 16 * 1024 * 1024
    udp_send_buffer_bytes: int = 4 * 1024 * 1024
    """The kernel's, of the UDP port. Beyond ``net.core.rmem_max`` only with privileges; `Statistics` tells."""
    offload: bool = True
    """Let the kernel split and merge packets (UDP GSO and GRO) where it can."""

    def native(self) -> _udt.Settings:
        """The same, checked field by field. Raises Misuse."""
        settings = _udt.Settings()
        for field in dataclasses.fields(self):
            if field.name != "linger_s":
                try:
                    setattr(settings, field.name, getattr(self, field.name))
                except TypeError:
                    raise _udt.Misuse(22, f"{field.name} cannot be {getattr(self, field.name)!r}") from None
        return settings
