"""The control channel's messages: what is admitted, what is refused, and the bytes of each."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from syncer.core.records import Content, Entry, Kind
from syncer.errors import WireError
from syncer.wire import control
from syncer.wire.control import Frame

GOLDEN = Path(__file__).parent.parent / "golden" / "control_frames.json"

DIGEST = bytes(range(32))
FILE = Entry(
    path=b"d/\xff",
    kind=Kind.FILE,
    mode=0o644,
    mtime_ns=1_234_567_890_123_456_789,
    content=Content(3, DIGEST, 1 << 17, DIGEST),
    vector=(("ana.0badcafe", 2), ("bo.00c0ffee", 1)),
    origin="ana",
    dot=("ana.0badcafe", 2),
)
MESSAGES: dict[str, control.Message] = {
    "Hello": control.Hello(site="ana", epoch=1 << 63, last_seq=7, heard_epoch=0, heard_seq=0),
    "Heartbeat": control.Heartbeat(),
    "IndexDelta": control.IndexDelta(entries=[(7, FILE)], upto=7, last=True),
    "DeltaTaken": control.DeltaTaken(),
    "IndexAck": control.IndexAck(seq=7),
    "Want": control.Want(session=5, items=[control.WantItem(1, b"d/\xff", DIGEST, 3, [(0, 3)])]),
    "WantRefused": control.WantRefused(session=5, jobs=[1, 2]),
    "WantCancelled": control.WantCancelled(session=5, jobs=[1]),
    "Transports": control.Transports(running=["udt", "tcp"], pinned="auto", test="", reason="preferred"),
    "SpeedMeasured": control.SpeedMeasured(transport="udt", there=True, bytes=9, microseconds=8, rtt_us=7),
    "SessionOffer": control.SessionOffer(
        session=5, transport="udt", port=7421, send_key=DIGEST, receive_key=DIGEST[::-1]
    ),
    "SessionClosed": control.SessionClosed(session=5),
    "Survey": control.Survey(token=3, scan=True),
    "SurveyReply": control.SurveyReply(token=3, last_seq=7, idle=True, received={"bo": 4}),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_frame_has_the_bytes_that_other_versions_expect(name: str) -> None:
    frame = Frame(11, 22, 33, [MESSAGES[name]])
    golden = msgspec.json.decode(GOLDEN.read_bytes(), type=dict[str, str])
    assert control.encode(frame).hex() == golden[name]
    assert control.decode(bytes.fromhex(golden[name])) == frame


def test_every_message_has_a_golden_frame() -> None:
    assert set(MESSAGES) == {kind.__name__ for kind in control.Message.__args__}


@pytest.mark.parametrize(
    "changes",
    [
        {"path": b"../up"},
        {"path": b"/etc/passwd"},
        {"path": b"a//b"},
        {"path": b"a/\0"},
        {"path": b".syncer/marker"},
        {"path": b"deep/.syncer/x"},
        {"path": b"n" * 256},
        {"path": b""},
        {"mode": 0o100644},
        {"dot": ("ana.0badcafe", 3)},
        {"vector": (("bo.00c0ffee", 1), ("ana.0badcafe", 2))},
        {"vector": (("ana.0badcafe", 2), ("bo.00c0ffee", 0))},
        {"vector": (("ana.0badcafe", 2), ("bo.00c0ffee", (1 << 64) - 1))},
        {"origin": ""},
        {"origin": "../../../etc/cron.d"},
        {"origin": "ana\n"},
        {"content": None},
        {"deleted": True},
        {"kind": Kind.SYMLINK, "content": None, "target": b""},
        {"kind": Kind.SYMLINK, "content": None, "target": b"a\0b"},
        {"content": Content(3, DIGEST, 12345, DIGEST)},
        {"content": Content(3, DIGEST[1:], 1 << 17, DIGEST)},
        {"content": Content(3, DIGEST, 1 << 17, DIGEST * 2)},
        {"content": Content(-1, DIGEST, 1 << 17, b"")},
    ],
    ids=str,
)
def test_a_forbidden_entry_is_refused(changes: dict[str, object]) -> None:
    delta = control.IndexDelta(entries=[(1, replace(FILE, **changes))], upto=1, last=True)  # type: ignore[arg-type]
    with pytest.raises(WireError):
        control.decode(control.encode(Frame(1, 0, 0, [delta])))


def test_large_messages_do_not_share_a_frame() -> None:
    """A frame counts as heard once all of it is there: on a slow link ten deltas in one would look like silence."""
    messages = [MESSAGES[name] for name in ("DeltaTaken", "IndexDelta", "IndexDelta", "Want", "IndexAck", "Heartbeat")]
    frames = list(control.in_frames(messages))
    assert [message for frame in frames for message in frame] == messages
    assert [len(frame) for frame in frames] == [2, 1, 1, 2]
    assert list(control.in_frames([])) == []


def test_a_sequence_number_that_none_could_follow_is_refused() -> None:
    for delta in (
        control.IndexDelta(entries=[], upto=(1 << 64) - 1, last=True),
        control.IndexDelta(entries=[((1 << 64) - 1, FILE)], upto=1, last=True),
        control.IndexDelta(entries=[(-1, FILE)], upto=1, last=True),
        control.IndexDelta(entries=[(2, FILE), (1, FILE)], upto=2, last=True),
        control.IndexDelta(entries=[(1, FILE), (1, FILE)], upto=2, last=True),
        control.IndexDelta(entries=[(1, FILE), (3, FILE)], upto=2, last=True),
    ):
        with pytest.raises(WireError):
            control.decode(control.encode(Frame(1, 0, 0, [delta])))


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x94\x01\x02\x03", msgspec.msgpack.encode([1, 0, 0, [{"type": "No"}]])]
)
def test_a_malformed_frame_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        control.decode(data)
