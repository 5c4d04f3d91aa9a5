"""What the data plane keeps of each link and of each session."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from syncer.wire import mover_protocol as protocol
from syncer.wire.control import Transports

FIRST_PAUSE_S = 0.3
"""Before a session is offered again, at first."""


@dataclass
class Session:
    number: int
    site: str
    transport: str
    up: bool = False
    opened_at: float = field(default_factory=time.monotonic)
    up_at: float = 0.0
    progress_at: float = field(default_factory=time.monotonic)
    stats: protocol.SessionStats | None = None
    stats_at: float = 0.0
    owed: bool = False
    """Content was owed when the stats came."""
    rates_bps: tuple[int, int] = (0, 0)


@dataclass
class Link:
    """A connected peer. ``current`` is the session in use and ``candidate`` the one that is coming up; 0: none."""

    current: int = 0
    candidate: int = 0
    pause: float = FIRST_PAUSE_S
    offer_at: float = 0.0
    peer: Transports | None = None
    said: Transports | None = None
