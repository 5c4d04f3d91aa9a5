"""What a UDT implementation must offer to be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec
from typing_extensions import Buffer

from syncer.errors import SyncerError

Address = tuple[str, int]
"""A numeric address and a port."""

PATIENCE_S = 0.25
"""How long ``Stream.receive_into`` waits before it returns nothing, so that its caller can look at the clock."""


class NoServer(SyncerError):
    """Nothing that speaks UDT answers at the address."""

    exit_code = 3


@dataclass(frozen=True)
class Settings:
    """``control`` None: the implementation's default.

    ``rate_bps``, on the wire with all headers: of the control ``fixed`` the rate, of others a cap.
    """

    control: str | None = None
    rate_bps: float | None = None
    mss: int = 1500
    buffer_bytes: int = 64 * 1024 * 1024


class Statistics(msgspec.Struct, frozen=True):
    """A sender's view of its connections: packets are data packets, ``losses`` what the receiver reported as lost.

    ``details``: whatever else the implementation counts, under its own names.
    """

    rtt_s: float
    packets_sent: int
    retransmissions: int
    losses: int
    details: dict[str, object] = {}


class Stream(Protocol):
    """A connection. Failures are ``TransportError``."""

    def send_all(self, data: Buffer) -> None: ...

    def receive_into(self, buffer: Buffer) -> int:
        """At least one byte; 0 when nothing came within ``PATIENCE_S``."""

    def statistics(self) -> Statistics: ...

    def close(self) -> None:
        """Delivers what was sent, within seconds."""

    def abort(self) -> None:
        """Drops what was not delivered; from any thread, and wakes whoever waits in the stream."""


class Listener(Protocol):
    @property
    def address(self) -> Address: ...

    def configure(self, settings: Settings) -> None:
        """Holds for connections that arrive from now on: their congestion control and rate."""

    def accept(self) -> tuple[Stream, Address]: ...

    def close(self) -> None:
        """From any thread, and wakes whoever waits in ``accept``."""


class Implementation(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def controls(self) -> tuple[str, ...]:
        """Its congestion controls; the first is its default."""

    def listen(self, address: Address, settings: Settings) -> Listener: ...

    def connect(self, address: Address, settings: Settings) -> Stream:
        """``NoServer`` when nobody answers."""
