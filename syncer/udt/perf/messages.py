"""What the two ends tell each other: one control connection a measurement, JSON behind a length of four bytes.

    sender or receiver, who calls                 server
    Request                              ->
                                         <-       Ready, or Refusal
    N data connections, each opening with DATA and the session
                    data flows one way; the receiver ends it
    Arrival (from the receiver)          <->      Departure (in answer, from the sender)

A connection opens with four bytes that tell what it is, the session's sixteen, and two for its number in the session.
"""

from __future__ import annotations

import time
from typing import NamedTuple, TypeVar

import msgspec

from syncer.errors import TransportError, WireError
from syncer.udt.perf.port import Statistics, Stream

CONTROL = b"LHP1"
DATA = b"LHPD"
SESSION_BYTES = 16
LARGEST = 16 * 1024 * 1024


class Request(msgspec.Struct, frozen=True, tag=True):
    """One of ``seconds`` and ``bytes``. The settings are for the server when it is the one that sends."""

    implementation: str
    reverse: bool
    connections: int
    seed: int
    verify: bool
    seconds: float | None = None
    bytes: int | None = None
    control: str | None = None
    rate_bps: float | None = None


class Ready(msgspec.Struct, frozen=True, tag=True):
    implementation: str
    control: str


class Refusal(msgspec.Struct, frozen=True, tag=True):
    reason: str


class Arrival(msgspec.Struct, frozen=True, tag=True):
    """The receiver's account: payload bytes of each interval since the first one came, all connections together."""

    bytes: int
    seconds: float
    intervals: list[int]
    cpu_s: float
    verified: bool | None = None
    digests: list[str] = []
    failure: str | None = None


class Departure(msgspec.Struct, frozen=True, tag=True):
    """The sender's account."""

    connections: list[Statistics]
    cpu_s: float


Message = Request | Ready | Refusal | Arrival | Departure
M = TypeVar("M", Request, Ready, Refusal, Arrival, Departure)
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class Opening(NamedTuple):
    kind: bytes
    session: bytes
    flow: int


def send_opening(stream: Stream, opening: Opening) -> None:
    stream.send_all(opening.kind + opening.session + opening.flow.to_bytes(2, "big"))


def receive_opening(stream: Stream, deadline: float) -> Opening:
    data = read_exactly(stream, 4 + SESSION_BYTES + 2, deadline)
    if data[:4] not in (CONTROL, DATA):
        raise WireError("the other end does not speak this program's protocol")
    return Opening(data[:4], data[4:-2], int.from_bytes(data[-2:], "big"))


def send(stream: Stream, message: Message) -> None:
    body = msgspec.json.encode(message)
    stream.send_all(len(body).to_bytes(4, "big") + body)


def receive(stream: Stream, deadline: float) -> Message:
    """``deadline``: of the monotonic clock."""
    size = int.from_bytes(read_exactly(stream, 4, deadline), "big")
    if size > LARGEST:
        raise WireError("the other end does not speak this program's protocol")
    try:
        return _decoder.decode(read_exactly(stream, size, deadline))
    except msgspec.MsgspecError as error:
        raise WireError(f"the other end sent what this version does not understand: {error}") from None


def expect(stream: Stream, kind: type[M], deadline: float) -> M:
    message = receive(stream, deadline)
    if isinstance(message, Refusal):
        raise TransportError(f"the server refuses: {message.reason}")
    if not isinstance(message, kind):
        raise WireError(f"the other end sent {type(message).__name__} where {kind.__name__} was due")
    return message


def read_exactly(stream: Stream, size: int, deadline: float) -> bytes:
    data = bytearray(size)
    done = 0
    while done < size:
        got = stream.receive_into(memoryview(data)[done:])
        done += got
        if got == 0 and time.monotonic() > deadline:
            raise TransportError("the other end says nothing")
    return bytes(data)
