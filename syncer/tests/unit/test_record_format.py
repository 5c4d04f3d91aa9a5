"""The record format: what is sealed comes back, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import WireError
from syncer.wire import record

SESSION = 0x0123456789ABCDEF
KEY = bytes(range(32))


def seal(sealer: record.Sealer, content: bytes, kind: record.Kind = record.Kind.DATA) -> bytearray:
    buffer = bytearray(record.MAX_RECORD)
    size = sealer.seal_into(kind, content, memoryview(buffer))
    return buffer[:size]


def open_(opener: record.Opener, data: bytes | bytearray) -> tuple[record.Kind, bytes]:
    view = memoryview(bytearray(data))
    header = opener.check_header(view[: record.RECORD_HEADER_SIZE])
    content = memoryview(bytearray(record.MAX_CONTENT))
    body = view[record.RECORD_HEADER_SIZE :]
    assert len(body) == header.body_size
    return header.kind, bytes(content[: opener.open_into(view[: record.RECORD_HEADER_SIZE], body, content)])


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=5))
def test_sealed_records_open_in_order(contents: list[bytes]) -> None:
    sealer, opener = record.Sealer(KEY, SESSION), record.Opener(KEY, SESSION)
    for content in contents:
        assert open_(opener, seal(sealer, content)) == (record.Kind.DATA, content)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_changed_bit_is_refused(content: bytes, data: st.DataObject) -> None:
    sealed = seal(record.Sealer(KEY, SESSION), content)
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    opener = record.Opener(KEY, SESSION)
    with pytest.raises(WireError):
        view = memoryview(sealed)
        header = opener.check_header(view[: record.RECORD_HEADER_SIZE])
        body = bytes(view[record.RECORD_HEADER_SIZE :]).ljust(header.body_size, b"\0")[: header.body_size]
        opener.open_into(view[: record.RECORD_HEADER_SIZE], memoryview(body), memoryview(bytearray(record.MAX_CONTENT)))


def test_a_repeated_record_is_refused() -> None:
    sealer, opener = record.Sealer(KEY, SESSION), record.Opener(KEY, SESSION)
    sealed = seal(sealer, b"once")
    open_(opener, sealed)
    with pytest.raises(WireError, match="record 0 where record 1 was due"):
        open_(opener, sealed)


def test_a_record_left_out_is_noticed() -> None:
    sealer, opener = record.Sealer(KEY, SESSION), record.Opener(KEY, SESSION)
    seal(sealer, b"lost")
    with pytest.raises(WireError, match="record 1 where record 0 was due"):
        open_(opener, seal(sealer, b"next"))


def test_another_sessions_record_is_refused() -> None:
    with pytest.raises(WireError, match="of session 7"):
        open_(record.Opener(KEY, SESSION), seal(record.Sealer(KEY, 7), b"x"))


def test_equal_content_never_looks_equal() -> None:
    sealer = record.Sealer(KEY, SESSION)
    assert seal(sealer, b"same")[-20:] != seal(sealer, b"same")[-20:]


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_keys_depend_on_both_salts(a: bytes, b: bytes) -> None:
    keys = {record.connection_key(KEY, SESSION, a, b), record.connection_key(KEY, SESSION, b, a)}
    assert len(keys) == (1 if a == b else 2)
    assert record.connection_key(KEY, SESSION + 1, a, b) not in keys


def test_preamble_round_trip() -> None:
    salt = bytes(range(32))
    packed = record.pack_preamble(SESSION, salt)
    assert len(packed) == record.PREAMBLE_SIZE
    assert record.unpack_preamble(packed) == (SESSION, salt)


def test_a_stranger_is_no_mover() -> None:
    with pytest.raises(WireError, match="not a mover"):
        record.unpack_preamble(b"SSH-2.0-".ljust(record.PREAMBLE_SIZE, b"x"))


def test_another_version_is_named() -> None:
    packed = bytearray(record.pack_preamble(SESSION, bytes(32)))
    packed[4] = 9
    with pytest.raises(WireError, match="version 9"):
        record.unpack_preamble(packed)


FRAMES = st.lists(
    st.tuples(
        st.sampled_from(record.FrameType), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=300)
    ),
    max_size=8,
)


def pack(frames: list[tuple[record.FrameType, int, int, bytes]]) -> memoryview:
    content = memoryview(bytearray(record.MAX_CONTENT))
    used = 0
    for type_, job, offset, data in frames:
        used = record.pack_frame_header(content, used, type_, job, offset, len(data))
        content[used : used + len(data)] = data
        used += len(data)
    return content[:used]


@given(FRAMES)
def test_frames_round_trip(given_frames: list[tuple[record.FrameType, int, int, bytes]]) -> None:
    found = [(frame.type, frame.job, frame.offset, bytes(frame.data)) for frame in record.frames(pack(given_frames))]
    assert found == given_frames


@given(FRAMES.filter(bool), st.data())
def test_cut_frames_are_refused(
    given_frames: list[tuple[record.FrameType, int, int, bytes]], data: st.DataObject
) -> None:
    packed = pack(given_frames)
    last = record.FRAME_HEADER_SIZE + len(given_frames[-1][3])
    cut = data.draw(st.integers(1, last - 1))
    with pytest.raises(WireError, match="cut off"):
        list(record.frames(packed[: len(packed) - cut]))


@given(st.text(max_size=20).filter(lambda text: "\0" not in text), st.text(max_size=300))
def test_failures_round_trip(code: str, detail: str) -> None:
    assert record.unpack_failure(memoryview(record.pack_failure(code, detail))) == (code, detail)
