"""Frames survive any cut of the stream, and what a client that died left behind costs no frame of the next one."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.wan.framing import FrameDecoder, encoded

# END, ESC and what stands for them are rare in random bytes, and are what framing is about.
payloads = st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"\xc0", b"\xdb", b"\xdc", b"\xdd"]))).map(
    b"".join
)
kinds = st.integers(0, 255)
sessions = st.integers(0, 2**32 - 1)
frames = st.lists(st.tuples(kinds, payloads), max_size=6)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


@given(session=sessions, sent=frames, places=st.lists(st.integers(0, 10_000), max_size=8))
def test_frames_survive_any_cut(session: int, sent: list[tuple[int, bytes]], places: list[int]) -> None:
    stream = b"".join(encoded(session, kind, payload) for kind, payload in sent)
    decoder = FrameDecoder(session)
    assert [frame for piece in cut(stream, places) for frame in decoder.feed(piece)] == sent


@given(session=sessions, begun=payloads, lost=st.integers(0, 60), kind=kinds, payload=payloads)
def test_a_frame_that_was_cut_short_costs_no_other(
    session: int, begun: bytes, lost: int, kind: int, payload: bytes
) -> None:
    torn = encoded(session, 1, begun)[: -1 - lost]
    decoder = FrameDecoder(session)
    got = list(decoder.feed(torn + encoded(session, kind, payload)))
    assert got[-1:] == [(kind, payload)]
    assert got[:-1] in ([], [(1, begun)])


@given(session=sessions, other=sessions, sent=frames)
def test_frames_of_another_session_are_left_out(session: int, other: int, sent: list[tuple[int, bytes]]) -> None:
    stream = b"".join(encoded(other, kind, payload) for kind, payload in sent)
    assert list(FrameDecoder(session).feed(stream)) == (sent if session == other else [])


@given(session=sessions, kind=kinds, payload=payloads, place=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_damaged_frame_is_left_out(session: int, kind: int, payload: bytes, place: int, flip: int) -> None:
    damaged = bytearray(encoded(session, kind, payload))
    damaged[place % len(damaged)] ^= flip
    # An END that was damaged leaves a whole frame between two others, or joins it to nothing.
    assert list(FrameDecoder(session).feed(bytes(damaged) + b"\xc0")) in ([], [(kind, payload)])


@given(size=st.integers(0, 400_000))
def test_a_frame_may_be_long(size: int) -> None:
    payload = (b"\xc0\xdb\x00ab" * (size // 5 + 1))[:size]
    assert list(FrameDecoder(7).feed(encoded(7, 2, payload))) == [(2, payload)]
