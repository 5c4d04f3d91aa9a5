"""Frames on a control port of the guest: see guest/agent.c for the protocol. Bytes in, bytes out."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_END, _ESC = b"\xc0", b"\xdb"
_ESC_END, _ESC_ESC = b"\xdb\xdc", b"\xdb\xdd"
_HEAD = struct.Struct("<IB")
_CHECK = struct.Struct("<I")


def encoded(session: int, kind: int, payload: bytes) -> bytes:
    """One frame, END on either side: whatever was begun before it is closed."""
    body = _HEAD.pack(session, kind) + payload
    body += _CHECK.pack(zlib.crc32(body))
    return b"".join((_END, body.replace(_ESC, _ESC_ESC).replace(_END, _ESC_END), _END))


class FrameDecoder:
    """Takes a stream apart. Frames that are damaged or of another session are left out."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._begun: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Kind and payload of each frame that ``data`` completes."""
        first, *rest = data.split(_END)
        self._begun.append(first)
        for piece in rest:
            frame = b"".join(self._begun)
            self._begun = [piece]
            if frame:
                yield from self._opened(frame)

    def _opened(self, frame: bytes) -> Iterator[tuple[int, bytes]]:
        body = frame if _ESC not in frame else frame.replace(_ESC_END, _END).replace(_ESC_ESC, _ESC)
        if len(body) < _HEAD.size + _CHECK.size:
            return
        content = memoryview(body)[: -_CHECK.size]
        session, kind = _HEAD.unpack_from(body)
        if session == self._session and zlib.crc32(content) == _CHECK.unpack_from(body, len(content))[0]:
            yield kind, bytes(content[_HEAD.size :])
