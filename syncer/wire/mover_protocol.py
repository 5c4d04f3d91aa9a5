"""The protocol between a coordinator and its movers: msgpack-encoded tagged messages on one ZeroMQ ipc socket.

The coordinator binds a ROUTER at ``<run dir>/movers.ipc``; a mover is a DEALER whose identity is its name
(``mover-udt``). A frame is one msgpack array of messages (a batch). A mover decides nothing: coordinators agree over
the control channel what is sent, then the receiving one says EXPECT to its mover and the sending one says SEND to its
own.

A mover says Hello every second until Welcome, and again whenever it has heard nothing for 5 s. A Welcome with another
``incarnation`` than before means that the coordinator was restarted: the mover drops every session and job.
Job numbers are chosen by the receiving site's coordinator: in a session, one number may name a job in each direction.
"""

from __future__ import annotations

import msgspec

MOVER_PROTOCOL_VERSION = 1


class Message(msgspec.Struct, frozen=True, tag=True, tag_field="type", kw_only=True):
    """Base of all messages; the tag is the class name."""


# from the mover to the coordinator


class Hello(Message, frozen=True):
    name: str
    transport: str
    pid: int
    version: int = MOVER_PROTOCOL_VERSION


class Listening(Message, frozen=True):
    """The data port is bound. ``port`` is the real one, also when 0 was asked for."""

    address: str
    port: int


class ListenFailed(Message, frozen=True):
    reason: str


class SessionUp(Message, frozen=True):
    """Connected to the other site's mover and authenticated in both directions."""

    session: int


class SessionDown(Message, frozen=True):
    """The session is over; every job in it that was not reported is off. ``reason`` is for the log.

    ``verified`` holds, for each unfinished expected job, the indices of the blocks that stand verified at its temporary
    path, those of ExpectFile's ``have`` included. They are not fsynced: what a resume after a power failure relies on
    must be verified again.
    """

    session: int
    reason: str
    verified: dict[int, list[int]] = {}


class Received(Message, frozen=True):
    """These jobs' files are complete at their temporary paths: every block verified, fsynced."""

    session: int
    jobs: list[int]


class ReceiveFailed(Message, frozen=True):
    """``code``: ``disk`` (``detail`` says errno), ``verify``, ``source`` (the sender could not read what was agreed).

    ``verified``: as in SessionDown, for this job. The job is over; the temporary file is kept.
    """

    session: int
    job: int
    code: str
    detail: str = ""
    verified: list[int] = []


class Sent(Message, frozen=True):
    """Every byte of these jobs was handed to the transport."""

    session: int
    jobs: list[int]


class SendFailed(Message, frozen=True):
    """The source is missing or is not what the coordinator said; the receiver's mover is told in-band too."""

    session: int
    job: int
    code: str
    detail: str = ""


class SessionStats(Message, frozen=True):
    """Once a second per session while it is up. Totals since SessionUp; rates over the last second.

    ``content_received`` counts files' bytes alone: it stands still when nothing but heartbeats arrives.
    """

    session: int
    bytes_sent: int
    bytes_received: int
    rtt_us: int
    target_rate_bps: int
    delivered_rate_bps: int
    packets_sent: int
    packets_lost: int
    packets_retransmitted: int
    content_received: int = 0
    min_rtt_us: int = 0
    congestion_control: str = ""
    rate_cap_bps: int = 0
    held_up_us: int = 0
    """How long the sender was held up by the transport in all: only while it is does the rate tell of the link."""


class SpeedResult(Message, frozen=True):
    """Of a SpeedTest: what arrived at the receiving end, and in what time."""

    session: int
    test: int
    direction: str
    bytes: int
    microseconds: int


# from the coordinator to the mover


class Welcome(Message, frozen=True):
    incarnation: int


class Listen(Message, frozen=True):
    address: str
    port: int


class OpenSession(Message, frozen=True):
    """Keys are 32 bytes, one for each direction. ``role`` is ``connect`` or ``accept``. ``rate_bps`` 0: adaptive."""

    session: int
    site: str
    role: str
    address: str
    port: int
    send_key: bytes
    receive_key: bytes
    rate_bps: int = 0


class SetRate(Message, frozen=True):
    """From now on; 0: adaptive."""

    session: int
    rate_bps: int


class SpeedTest(Message, frozen=True):
    """Fill the session in the direction ``there`` (to the other site) or ``back`` for so long; SpeedResult follows.

    Files go on meanwhile and come first. A session that goes down ends its tests without a result.
    """

    session: int
    test: int
    direction: str
    seconds: float


class StopSpeedTest(Message, frozen=True):
    """End it now; a result may follow."""

    session: int
    test: int


class CloseSession(Message, frozen=True):
    session: int


class SendFile(Message, frozen=True):
    """Send these byte ranges of a file. ``size`` and ``mtime_ns`` must still be true of it.

    A range is (offset, length), on block boundaries or up to the end of the file. Ranges do not overlap. No range at
    all is a file of which the receiver has every block, or that is empty: the source is still checked.
    """

    session: int
    job: int
    path: bytes
    size: int
    mtime_ns: int
    ranges: list[tuple[int, int]]


class ExpectFile(Message, frozen=True):
    """Blocks of ``job`` will arrive: write them at ``temp_path`` (created if missing, kept on failure for a resume).

    ``blocks`` are the concatenated BLAKE3 digests, ``have`` the indices of blocks already there (verified).
    """

    session: int
    job: int
    temp_path: bytes
    size: int
    block_size: int
    blocks: bytes
    have: list[int] = []


class CancelSend(Message, frozen=True):
    """The other site no longer wants this job of its own."""

    session: int
    job: int


class CancelReceive(Message, frozen=True):
    """This site no longer wants this job of its own."""

    session: int
    job: int


class Stop(Message, frozen=True):
    """End cleanly."""


FromMover = (
    Hello
    | Listening
    | ListenFailed
    | SessionUp
    | SessionDown
    | Received
    | ReceiveFailed
    | Sent
    | SendFailed
    | SessionStats
    | SpeedResult
)
ToSession = (
    OpenSession
    | SetRate
    | SpeedTest
    | StopSpeedTest
    | CloseSession
    | SendFile
    | ExpectFile
    | CancelSend
    | CancelReceive
)
ToMover = Welcome | Listen | ToSession | Stop

_encoder = msgspec.msgpack.Encoder()
_from_mover = msgspec.msgpack.Decoder(list[FromMover])
_to_mover = msgspec.msgpack.Decoder(list[ToMover])


def encode(messages: list[FromMover] | list[ToMover]) -> bytes:
    """One frame."""
    return _encoder.encode(messages)


def decode_from_mover(frame: bytes) -> list[FromMover]:
    """Raises msgspec.DecodeError (or its ValidationError) for anything that the protocol forbids."""
    return _from_mover.decode(frame)


def decode_to_mover(frame: bytes) -> list[ToMover]:
    """Raises msgspec.DecodeError (or its ValidationError) for anything that the protocol forbids."""
    return _to_mover.decode(frame)
