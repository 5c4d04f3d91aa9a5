"""What a mover needs from a transport: listeners and reliable, ordered byte streams that can tell how they are doing.

Every method may be called from any thread; ``close`` wakes whoever waits in another one.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class TransportStatus(NamedTuple):
    """Of one connection, since it was made. Zero where a transport cannot know."""

    rtt_us: int = 0
    target_rate_bps: int = 0
    delivered_rate_bps: int = 0
    packets_sent: int = 0
    packets_lost: int = 0
    packets_retransmitted: int = 0
    min_rtt_us: int = 0
    congestion_control: str = ""
    rate_cap_bps: int = 0
    """As it was set; 0: none."""


class Connection(Protocol):
    """All methods but ``close`` raise TransportError once the connection is broken or closed."""

    def wait_room(self, timeout_s: float) -> bool:
        """Wait until little of what was sent before still waits for the wire; False when it took too long."""
        ...

    def send(self, data: memoryview) -> None:
        """Hand over all of ``data``; may wait."""
        ...

    def receive_into(self, buffer: memoryview) -> int:
        """Fill the buffer; fewer bytes when a short while passed without any, 0 if none came at all."""
        ...

    def heard(self) -> int:
        """A number that changes whenever the other end is heard at all, also below the byte stream."""
        ...

    def unacknowledged(self) -> bool:
        """Whether something sent is not known to have arrived."""
        ...

    def set_rate(self, bits_per_second: int) -> None:
        """Put no more than this on the wire, headers included; 0 lets the transport find its own rate."""
        ...

    def status(self) -> TransportStatus: ...

    def close(self) -> None:
        """At once; what is still underway is dropped. Never raises."""
        ...


class Listener(Protocol):
    port: int

    def accept(self) -> Connection:
        """Wait for the next connection. Raises TransportError when it failed or the listener was closed."""
        ...

    def close(self) -> None: ...


class Transport(Protocol):
    name: str

    def listen(self, address: str, port: int) -> Listener:
        """Raises TransportError if the port cannot be bound."""
        ...

    def connect(self, address: str, port: int) -> Connection:
        """One attempt, some seconds at most. Raises TransportError."""
        ...
