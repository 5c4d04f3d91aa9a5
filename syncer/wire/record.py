"""The records that movers put on the WAN, whatever the transport. Pure.

A connection begins with one Preamble from each side, in clear: the session it claims and 32 random bytes. Both sides
derive from the session's two keys and both salts one key for each direction, so that a key is never used by two
connections of one session and nothing recorded from an earlier connection can be replayed.

After the preambles everything is a record, big-endian:

    magic 4 | version 1 | kind 1 | zero 2 | session 8 | counter 8 | length 4        RECORD_HEADER_SIZE bytes, in clear
    ciphertext, then a 16-byte tag                                                  ``length`` bytes

sealed with AES-256-GCM: the nonce is four zero bytes and the counter, the header is authenticated with the content.
Counters begin at 0 and rise by one: a record that is missing, repeated or out of order is refused. First come HELLO
records with the constant HELLO_TEXT: one from the connector, one from the acceptor that could open it, and one more
from the connector that could open that. Then both know that the other one holds both keys.

The content of a DATA record is a sequence of frames, so that many small files share one record:

    type 1 | job 8 | offset 8 | size 4 | ``size`` bytes

BLOCK_DATA carries a file's bytes from ``offset``; SOURCE_FAILED says that the sender gives the job up, with the code
and the detail in UTF-8 and a zero byte between them. A HEARTBEAT record is empty. A PROBE
record belongs to a speed test: see ``syncer.wire.probe``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from syncer.errors import WireError

RECORD_VERSION = 1
MAX_CONTENT = 256 * 1024
"""Bytes of content in one record at most."""

TAG_SIZE = 16
KEY_SIZE = 32
SALT_SIZE = 32
HELLO_TEXT = b"longhaul mover session"

_PREAMBLE_MAGIC = b"LHP1"
_RECORD_MAGIC = b"LHR1"
_preamble = struct.Struct(f">4sBxxxQ{SALT_SIZE}s")
_header = struct.Struct(">4sBBHQQI")
_frame = struct.Struct(">BQQI")

PREAMBLE_SIZE = _preamble.size
RECORD_HEADER_SIZE = _header.size
FRAME_HEADER_SIZE = _frame.size
MAX_RECORD = RECORD_HEADER_SIZE + MAX_CONTENT + TAG_SIZE


class Kind(IntEnum):
    HELLO = 1
    DATA = 2
    HEARTBEAT = 3
    PROBE = 4


class FrameType(IntEnum):
    BLOCK_DATA = 1
    SOURCE_FAILED = 2


_FRAME_TYPES = {int(frame_type): frame_type for frame_type in FrameType}


class Frame(NamedTuple):
    type: FrameType
    job: int
    offset: int
    data: memoryview


class Header(NamedTuple):
    kind: Kind
    counter: int
    body_size: int
    """Ciphertext and tag, bytes."""


def pack_preamble(session: int, salt: bytes) -> bytes:
    """``salt``: SALT_SIZE bytes from a cryptographic random source, new for each connection."""
    return _preamble.pack(_PREAMBLE_MAGIC, RECORD_VERSION, session, salt)


def unpack_preamble(data: bytes | bytearray | memoryview) -> tuple[int, bytes]:
    """The session and the salt. Raises WireError."""
    magic, version, session, salt = _preamble.unpack(data)
    if magic != _PREAMBLE_MAGIC:
        raise WireError("the other end is not a mover")
    if version != RECORD_VERSION:
        raise WireError(f"the other mover speaks record version {version}, this one {RECORD_VERSION}")
    return session, salt


def connection_key(session_key: bytes, session: int, connector_salt: bytes, acceptor_salt: bytes) -> bytes:
    """The key of one direction of one connection, from that direction's session key."""
    info = b"longhaul record key" + session.to_bytes(8, "big")
    return HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=connector_salt + acceptor_salt, info=info).derive(session_key)


class Sealer:
    """Makes the records of one direction of one connection."""

    def __init__(self, key: bytes, session: int) -> None:
        self._aead = AESGCM(key)
        self._session = session
        self._counter = 0

    def seal_into(self, kind: Kind, content: bytes | memoryview, record: memoryview) -> int:
        """Write a record with ``content`` (at most MAX_CONTENT bytes) to the start of ``record``; returns its size."""
        body_size = len(content) + TAG_SIZE
        end = RECORD_HEADER_SIZE + body_size
        _header.pack_into(record, 0, _RECORD_MAGIC, RECORD_VERSION, kind, 0, self._session, self._counter, body_size)
        header = bytes(record[:RECORD_HEADER_SIZE])
        self._aead.encrypt_into(_nonce(self._counter), content, header, record[RECORD_HEADER_SIZE:end])
        self._counter += 1
        return end


class Opener:
    """Checks and opens the records of one direction of one connection."""

    def __init__(self, key: bytes, session: int) -> None:
        self._aead = AESGCM(key)
        self._session = session
        self._counter = 0

    def check_header(self, header: bytes | memoryview) -> Header:
        """Raises WireError for anything but the next record of this session."""
        magic, version, kind, zero, session, counter, body_size = _header.unpack(header)
        if magic != _RECORD_MAGIC or version != RECORD_VERSION or zero:
            raise WireError("not a record")
        if session != self._session:
            raise WireError(f"a record of session {session} in session {self._session}")
        if counter != self._counter:
            raise WireError(f"record {counter} where record {self._counter} was due")
        if not TAG_SIZE <= body_size <= MAX_CONTENT + TAG_SIZE:
            raise WireError(f"a record of {body_size} bytes")
        try:
            return Header(Kind(kind), counter, body_size)
        except ValueError:
            raise WireError(f"a record of unknown kind {kind}") from None

    def open_into(self, header: bytes | memoryview, body: memoryview, content: memoryview) -> int:
        """Open the record whose header was checked; writes its content and returns its size. Raises WireError."""
        size = len(body) - TAG_SIZE
        try:
            self._aead.decrypt_into(_nonce(self._counter), body, header, content[:size])
        except InvalidTag:
            raise WireError("a record was tampered with, or sealed with another key") from None
        self._counter += 1
        return size


def pack_frame_header(content: memoryview, at: int, type_: FrameType, job: int, offset: int, size: int) -> int:
    """Write a frame's header at ``at``; returns where its data begins."""
    _frame.pack_into(content, at, type_, job, offset, size)
    return at + FRAME_HEADER_SIZE


def frames(content: memoryview) -> Iterator[Frame]:
    """The frames of a DATA record's content; their data are views into it. Raises WireError."""
    at = 0
    while at < len(content):
        if at + FRAME_HEADER_SIZE > len(content):
            raise WireError("a frame's header is cut off")
        type_, job, offset, size = _frame.unpack_from(content, at)
        at += FRAME_HEADER_SIZE
        if at + size > len(content):
            raise WireError(f"a frame of {size} bytes is cut off")
        frame_type = _FRAME_TYPES.get(type_)
        if frame_type is None:
            raise WireError(f"a frame of unknown type {type_}")
        yield Frame(frame_type, job, offset, content[at : at + size])
        at += size


def pack_failure(code: str, detail: str) -> bytes:
    """The data of a SOURCE_FAILED frame."""
    return code.encode() + b"\0" + detail.encode(errors="replace")[:1000]


def unpack_failure(data: memoryview) -> tuple[str, str]:
    """The code and the detail."""
    code, _, detail = bytes(data).partition(b"\0")
    return code.decode(errors="replace"), detail.decode(errors="replace")


def _nonce(counter: int) -> bytes:
    return counter.to_bytes(12, "big")
