"""Messages between the coordinators of two sites, on the control channel. Pure.

A frame is one msgpack array [stream, number, heard, messages]: see ``syncer.wire.stream`` for the first three. All that
is decoded is checked: types by msgspec, sizes and paths here. Whoever breaks a rule is disconnected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

import msgspec

from syncer.core.records import BLOCK_SIZES, DIGEST_SIZE, Entry, Kind
from syncer.errors import WireError

CONTROL_VERSION = 2
FRAME_LIMIT = 64 << 20
PATH_LIMIT = 4096
NAME_LIMIT = 255
RESERVED = b".syncer"
SITE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"

SiteName = Annotated[str, msgspec.Meta(pattern=SITE_PATTERN)]
COUNT_LIMIT = 1 << 62
"""Of counters and sequence numbers, so that none that follows is too large to be stored."""

Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_LIMIT)]
Epoch = Annotated[int, msgspec.Meta(ge=0)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
TransportName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9]{0,15}$")]
REASON_LIMIT = 500
Reason = Annotated[str, msgspec.Meta(max_length=REASON_LIMIT)]
Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Control(msgspec.Struct, frozen=True, tag=True, tag_field="type"):
    """Base of all messages; the tag is the class name."""


class Hello(Control, frozen=True):
    """Who speaks, how far its index goes, and what it holds durably of the listener's index (``heard_...``)."""

    site: SiteName
    epoch: Epoch
    last_seq: Count
    heard_epoch: Epoch
    heard_seq: Count
    version: int = CONTROL_VERSION


class Heartbeat(Control, frozen=True):
    """Every second, so that silence means a broken path."""


class IndexDelta(Control, frozen=True):
    """Entries of the sender's index with their sequence numbers; it has no others up to ``upto``. ``last``: that is
    all there is at the moment."""

    entries: list[tuple[Count, Entry]]
    upto: Count
    last: bool


class DeltaTaken(Control, frozen=True):
    """Credit: one delta was taken in, one more may be sent."""


class IndexAck(Control, frozen=True):
    """Everything of the listener's index up to ``seq`` is durable at the sender."""

    seq: Count


class WantItem(msgspec.Struct, frozen=True, array_like=True):
    """A file by content; ``path`` is where it was announced. ``ranges`` are the (offset, length) still missing."""

    job: int
    path: bytes
    digest: bytes
    size: int
    ranges: list[tuple[int, int]]


class Want(Control, frozen=True):
    """Send these over this session. The sender's mover expects them already."""

    session: int
    items: list[WantItem]


class WantRefused(Control, frozen=True):
    """These jobs' content is not here (any more)."""

    session: int
    jobs: list[int]


class WantCancelled(Control, frozen=True):
    """These jobs are not wanted any more."""

    session: int
    jobs: list[int]


class Transports(Control, frozen=True):
    """The movers that the sender runs, and what it wants of this link: ``pinned`` is ``auto`` or one of them, ``test``
    the one that a user's speed test asks for just now ("": none). ``reason``: for users, why the link has its
    transport, from the site that chooses it. Said on connecting and when any of it changes."""

    running: Annotated[list[TransportName], msgspec.Meta(max_length=16)]
    pinned: TransportName
    test: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]{0,16}$")]
    reason: Reason


class SpeedMeasured(Control, frozen=True):
    """What the sender's speed test of this link found: bytes that arrived in this time, ``there`` (from the sender) or
    not."""

    transport: TransportName
    there: bool
    bytes: Count
    microseconds: Count
    rtt_us: Count


class SessionOffer(Control, frozen=True):
    """My mover of this transport accepts your mover's session on ``port``. Keys are named from the accepting side. It
    replaces the session before it once it is up."""

    session: int
    transport: TransportName
    port: Port
    send_key: Key
    receive_key: Key


class SessionClosed(Control, frozen=True):
    """The session is over at the sender's end."""

    session: int


class Survey(Control, frozen=True):
    """How far are you? ``scan``: look at the whole folder first."""

    token: int
    scan: bool


class SurveyReply(Control, frozen=True):
    """``idle``: nothing is wanted, applied, hashed or scanned. ``received``: for each peer, the last of its sequence
    numbers that is durable here."""

    token: int
    last_seq: Count
    idle: bool
    received: dict[str, int]


Message = (
    Hello
    | Heartbeat
    | IndexDelta
    | DeltaTaken
    | IndexAck
    | Want
    | WantRefused
    | WantCancelled
    | Transports
    | SpeedMeasured
    | SessionOffer
    | SessionClosed
    | Survey
    | SurveyReply
)


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """What goes over the channel at once."""

    stream: int
    number: int
    heard: int
    messages: list[Message]


def in_frames(messages: list[Message]) -> Iterator[list[Message]]:
    """The messages in order, a frame's worth at a time: a large one ends its frame.

    A frame is heard once all of it is there, so on a slow link several large ones in one would look like silence.
    """
    batch: list[Message] = []
    for message in messages:
        batch.append(message)
        if isinstance(message, IndexDelta | Want):
            yield batch
            batch = []
    if batch:
        yield batch


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """One frame's bytes."""
    return _encoder.encode(frame)


def decode(data: bytes) -> Frame:
    """Raises WireError for anything that the protocol forbids."""
    if len(data) > FRAME_LIMIT:
        raise WireError(f"a frame of {len(data)} bytes; at most {FRAME_LIMIT} are allowed")
    try:
        frame = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WireError(f"malformed frame: {error}") from error
    for message in frame.messages:
        if isinstance(message, IndexDelta):
            _check_delta(message)
    return frame


def _check_delta(delta: IndexDelta) -> None:
    """Sequence numbers rise, up to ``upto``: what is acknowledged is told by the first that is not settled."""
    before = 0
    for seq, entry in delta.entries:
        if seq <= before:
            raise WireError(f"entry {seq} of an index after entry {before}")
        before = seq
        check_entry(entry)
    if before > delta.upto:
        raise WireError(f"entry {before} of an index that is told up to {delta.upto}")


def check_entry(entry: Entry) -> None:
    """Raises WireError unless ``entry`` may stand in an index."""
    check_path(entry.path)
    # It becomes part of the name of a conflict copy.
    if re.fullmatch(SITE_PATTERN, entry.origin) is None:
        raise WireError(f"{entry.path!r}: written at {entry.origin[:80]!r}, which is no site's name")
    if not any(actor == entry.dot[0] and count >= entry.dot[1] for actor, count in entry.vector):
        raise WireError(f"{entry.path!r}: its vector does not hold its own write")
    counts_fit = all(0 < count <= COUNT_LIMIT for _, count in entry.vector)
    if not counts_fit or list(entry.vector) != sorted(dict(entry.vector).items()):
        raise WireError(f"{entry.path!r}: malformed version vector")
    if not 0 <= entry.mode <= 0o7777:
        raise WireError(f"{entry.path!r}: mode {entry.mode:o}")
    if (entry.content is not None) != (entry.kind is Kind.FILE and not entry.deleted):
        raise WireError(f"{entry.path!r}: content and kind do not fit")
    is_link = entry.kind is Kind.SYMLINK and not entry.deleted
    if is_link and (b"\0" in entry.target or not 0 < len(entry.target) < PATH_LIMIT):
        raise WireError(f"{entry.path!r}: malformed symlink target")
    if entry.content is not None:
        content = entry.content
        if content.size < 0 or content.block_size not in BLOCK_SIZES or len(content.digest) != DIGEST_SIZE:
            raise WireError(f"{entry.path!r}: malformed content")
        if len(content.blocks) != DIGEST_SIZE * -(-content.size // content.block_size):
            raise WireError(f"{entry.path!r}: its block list does not fit its size")


def check_path(path: bytes) -> None:
    """Raises WireError unless ``path`` is a plain relative path that stays inside the folder."""
    parts = path.split(b"/")
    if not 0 < len(path) < PATH_LIMIT or b"\0" in path:
        raise WireError(f"forbidden path {path[:80]!r}")
    if any(part in (b"", b".", b"..", RESERVED) or len(part) > NAME_LIMIT for part in parts):
        raise WireError(f"forbidden path {path[:80]!r}")
