"""A trace from what was seen of a real path: its delay and loss in each window of time. Pure.

A window's delay is the median of what was sent in it, its loss the share that was lost; a window in which nothing
arrived keeps the delay of the one before. As in ``fit``, a log of round trips gives half of the smallest delay to the
way down, and all that varies or gets lost to the way up.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.path_sample import PathSample, PathStream
from harness.model.trace import Course, Trace

FEWEST_IN_A_WINDOW = 5
"""Fewer packets in a window make its loss and its median mostly chance."""


def trace_of(sample: PathSample, name: str, window_us: int) -> Trace:
    """The path as a trace in windows of this length. Raises ValueError when the log has no times or is too short."""
    up = sample.round_trip or sample.uplink
    if up is None or len(up.sent_us) != up.sent:
        raise ValueError("the log does not say when each packet was sent")
    down = sample.downlink
    base_us = 0.0
    if sample.round_trip is not None:
        base_us = min(up.arrived_us, default=0.0) / 2
    elif down is not None and not sample.shared_clock:
        # Two clocks: each direction's least delay is taken for half of the round trip's.
        half = (min(up.arrived_us, default=0.0) + min(down.arrived_us, default=0.0)) / 2
        up, down = (_on_base(stream, half) for stream in (up, down))
    course_up, duration_us = _course(up, window_us, base_us)
    if sample.round_trip is not None:
        course_down = Course(at_us=(0,), delay_us=(round(base_us),))
    elif down is not None:
        course_down, other_us = _course(down, window_us, 0.0)
        duration_us = max(duration_us, other_us)
    else:
        course_down = course_up
    return Trace(
        name=name,
        source_note=f"Fitted to {sample.source}, in windows of {window_us / 1e6:g} s.",
        duration_us=duration_us,
        down=course_down.compacted(),
        up=course_up.compacted(),
    )


def _course(stream: PathStream, window_us: int, base_us: float) -> tuple[Course, int]:
    windows = 1 + int(max(stream.sent_us, default=0.0) // window_us)
    sent: list[list[float | None]] = [[] for _ in range(windows)]
    for at_us, delay in zip(stream.sent_us, stream.delays_us, strict=True):
        sent[int(at_us // window_us)].append(delay)
    if stream.sent < FEWEST_IN_A_WINDOW * windows:
        raise ValueError(
            f"{stream.sent} packets in {windows} windows of {window_us / 1e6:g} s say too little; take longer windows"
        )
    delay_us, loss = [], []
    last = _median(stream.arrived_us)
    for window in sent:
        arrived = [delay for delay in window if delay is not None]
        last = _median(arrived) if arrived else last
        delay_us.append(max(0, round(last - base_us)))
        loss.append((len(window) - len(arrived)) / len(window) if window else 0.0)
    begins = tuple(index * window_us for index in range(windows))
    return Course(at_us=begins, delay_us=tuple(delay_us), loss=tuple(loss)), windows * window_us


def _median(delays: Sequence[float]) -> float:
    if not delays:
        raise ValueError("nothing arrived")
    return sorted(delays)[len(delays) // 2]


def _on_base(stream: PathStream, base_us: float) -> PathStream:
    shift = base_us - min(stream.arrived_us, default=0.0)
    moved = tuple(None if delay is None else delay + shift for delay in stream.delays_us)
    return stream.model_copy(update={"delays_us": moved})
