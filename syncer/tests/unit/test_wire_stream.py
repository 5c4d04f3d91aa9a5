"""Two ends of a channel that drops and breaks: they always find together again, and never miss a message unnoticed."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from syncer.wire.control import Frame, Heartbeat, Hello, IndexAck, Message
from syncer.wire.stream import Heard, Stream

HELLO = Hello(site="a", epoch=1, last_seq=0, heard_epoch=0, heard_seq=0)


class End:
    def __init__(self, numbers: itertools.count[int]) -> None:
        self.numbers = numbers
        self.stream = Stream(next(numbers))
        self.wire: list[Frame] = []
        self.got: list[int] = []
        self.say(HELLO)

    def say(self, message: Message) -> None:
        self.wire.append(self.stream.wrap([message]))

    def start_over(self) -> None:
        self.stream.restart(next(self.numbers))
        self.say(HELLO)

    def tick(self) -> None:
        self.say(Heartbeat() if self.stream.connected else HELLO)

    def hear(self, frame: Frame) -> None:
        verdict = self.stream.hear(frame)
        if verdict is Heard.BROKEN:
            self.got.clear()
            self.stream.restart(next(self.numbers))
            verdict = self.stream.hear(frame)
            self.say(HELLO)
        if verdict is Heard.GREETED:
            self.say(HELLO)
        if verdict is Heard.CONNECTED:
            self.got.clear()
            self.say(Heartbeat())
        if verdict in (Heard.CONNECTED, Heard.ONGOING):
            self.got += [message.seq for message in frame.messages if isinstance(message, IndexAck)]


def exchange(left: End, right: End) -> None:
    while left.wire or right.wire:
        for source, target in ((left, right), (right, left)):
            frames, source.wire = source.wire, []
            for frame in frames:
                target.hear(frame)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["say", "lose", "restart", "deliver", "tick"])), max_size=40))
def test_after_any_trouble_both_ends_connect_and_hear_everything(steps: list[tuple[bool, str]]) -> None:
    numbers = itertools.count(1)
    left, right = End(numbers), End(numbers)
    for first, step in steps:
        end, other = (left, right) if first else (right, left)
        if step == "say":
            end.say(IndexAck(seq=1))
        elif step == "tick":
            end.tick()
        elif step == "lose" and end.wire:
            end.wire.pop()
        elif step == "restart":
            end.start_over()
        elif end.wire:
            other.hear(end.wire.pop(0))
    for _ in range(3):
        left.tick()
        right.tick()
        exchange(left, right)
    assert left.stream.connected
    assert right.stream.connected
    left.got.clear()
    for number in range(3):
        right.say(IndexAck(seq=number))
    exchange(left, right)
    assert left.got == [0, 1, 2]


def test_a_lost_frame_breaks_the_connection() -> None:
    numbers = itertools.count(1)
    left, right = End(numbers), End(numbers)
    exchange(left, right)
    assert left.stream.connected
    right.stream.wrap([Heartbeat()])
    assert left.stream.hear(right.stream.wrap([Heartbeat()])) is Heard.BROKEN
