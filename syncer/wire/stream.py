"""Loss detection on the control channel: ZeroMQ may drop what was in flight when a connection breaks. Pure.

Each direction is a stream with a random number; its frames are counted. A receiver follows a stream from a Hello on and
as long as no frame is missing. Each frame says which stream of the other's the sender follows (``heard``), so both know
when both directions stand: only then are they connected, and when either end loses the thread both start over.
"""

from __future__ import annotations

from enum import Enum

from syncer.wire.control import Frame, Hello, Message


class Heard(Enum):
    """What an arriving frame did."""

    NOTHING = "nothing"  # an old or unknown stream: ignore the frame
    ONGOING = "ongoing"  # the connection stands: take in the messages
    CONNECTED = "connected"  # it stands from this frame on
    GREETED = "greeted"  # the peer can be heard, but does not hear us yet: say hello
    BROKEN = "broken"  # frames were lost, or the peer started over: everything told so far is off


class Stream:
    """One end of the channel to one peer. ``number`` seeds this end's stream: random and never reused."""

    def __init__(self, number: int) -> None:
        self.own = number
        self.hello: Hello | None = None
        self._sent = 0
        self._followed = 0
        self._expected = 0
        self.connected = False

    def restart(self, number: int) -> None:
        """Start over with a fresh stream, following nothing."""
        self.own, self._sent, self._followed, self._expected = number, 0, 0, 0
        self.connected = False

    def wrap(self, messages: list[Message]) -> Frame:
        """The next frame to send."""
        frame = Frame(self.own, self._sent, self._followed, messages)
        self._sent += 1
        return frame

    def hear(self, frame: Frame) -> Heard:
        """Take in an arriving frame. BROKEN: call ``restart``, then hear the frame again (it may start a new stream);
        GREETED: say hello."""
        if frame.stream != self._followed:
            hello = next((message for message in frame.messages if isinstance(message, Hello)), None)
            if hello is None:
                return Heard.NOTHING
            if self.connected:
                return Heard.BROKEN
            self._followed, self.hello = frame.stream, hello
        elif frame.number != self._expected:
            if self.connected:
                return Heard.BROKEN
            self._followed = 0
            return Heard.NOTHING
        self._expected = frame.number + 1
        if frame.heard != self.own:
            return Heard.BROKEN if self.connected else Heard.GREETED
        if self.connected:
            return Heard.ONGOING
        self.connected = True
        return Heard.CONNECTED
