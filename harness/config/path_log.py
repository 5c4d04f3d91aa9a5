"""Logs of real paths to a PathSample: the text of ping, the JSON of irtt, and captures (see ``path_capture``).

**ping** (iputils, BSD, busybox): a line for each answer with its number and its time, in the order of arriving; the
summary says how many were sent. Numbers begin anew after 65535. **irtt** (``irtt client -o FILE``): every packet with
its time in each direction, and in which direction it was lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.config.path_capture import is_capture, sample_of_capture, sample_of_two_captures
from harness.config.problems import DocumentError, Problem
from harness.model.path_sample import PathSample, PathStream
from harness.model.units import quote

LARGEST_LOG = 1 << 30
_CAPTURES = (".pcap", ".pcapng", ".cap")
_ANSWER = re.compile(r"\b(?:icmp_)?seq[=: ](\d+)\b.*?\btime[=<]([0-9.]+) ?ms(.*DUP!)?")
_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) (?:packets )?received(?:.*, time (\d+)ms)?")
_USUAL_INTERVAL_US = 1e6
_NUMBERS = 1 << 16


def read_path_logs(paths: Sequence[Path]) -> PathSample:
    """One log, or two captures of one path: before it and behind it. Raises DocumentError that says what is wrong."""
    texts = [_read(path) for path in paths]
    names = " and ".join(path.name for path in paths)
    captures = [is_capture(text) for text in texts]
    try:
        if len(paths) == 2 and all(captures):
            return sample_of_two_captures(texts[0], texts[1], f"captures {names} before and behind the path")
        if len(paths) != 1:
            raise ValueError("several files make one path only when they are two captures: before it and behind it")
        if captures[0]:
            return sample_of_capture(texts[0], f"capture {names}")
        if not texts[0].strip():
            raise ValueError("the file is empty")
        if paths[0].suffix in _CAPTURES or b"\0" in texts[0]:
            raise ValueError("neither a capture (pcap, pcapng) nor a log of ping or irtt")
        text = texts[0].decode("utf-8", "replace")
        if text.lstrip().startswith("{"):
            return sample_of_irtt(text, f"irtt log {names}")
        return sample_of_ping(text, f"ping log {names}")
    except ValueError as error:
        raise DocumentError([_problem(paths[-1], str(error))]) from None


def sample_of_ping(text: str, source: str) -> PathSample:
    """Round trips from the text that ping prints. Raises ValueError when there are none.

    Times of sending come from the summary (how long so many packets took), else they are ping's usual second apart.
    """
    arrivals: list[int] = []
    times: dict[int, float] = {}
    beyond = 0
    for line in text.splitlines():
        match = _ANSWER.search(line)
        if match is None:
            continue
        number, milliseconds = int(match[1]) + beyond, float(match[2])
        if arrivals and number < max(arrivals[-100:]) - _NUMBERS // 2:
            beyond += _NUMBERS
            number += _NUMBERS
        arrivals.append(number)
        times.setdefault(number, milliseconds * 1000)
    if not arrivals:
        raise ValueError("no line says seq=N and time=T ms, as ping prints them; ping's -q leaves them out")
    # BSD counts from 0, iputils from 1: what is missing before the first answer was sent, and lost.
    first = 0 if 0 in times else 1
    summary = _SUMMARY.search(text)
    last = max(times) if summary is None else max(max(times), first + int(summary[1]) - 1)
    sent = range(first, last + 1)
    apart_us = _USUAL_INTERVAL_US
    if summary is not None and summary[3] is not None and len(sent) > 1:
        apart_us = int(summary[3]) * 1000 / (len(sent) - 1)
    return PathSample(
        source=f"{source}, {len(sent)} echoes",
        round_trip=PathStream(
            delays_us=tuple(times.get(number) for number in sent),
            arrivals=tuple(number - first for number in arrivals),
            sent_us=tuple(index * apart_us for index in range(len(sent))),
        ),
    )


def sample_of_irtt(text: str, source: str) -> PathSample:
    """Both directions from irtt's JSON, as far as it knows them. Raises ValueError for anything else."""
    try:
        trips: list[dict[str, Any]] = json.loads(text)["round_trips"]
        up, down = [_irtt_delay(trip, "send") for trip in trips], [_irtt_delay(trip, "receive") for trip in trips]
        both = [_irtt_delay(trip, "rtt") for trip in trips]
        fates = [str(trip["lost"]) for trip in trips]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"it has no {quote(str(error.args[0]))}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"this JSON is not irtt's: {what}; expected what `irtt client -o FILE` writes") from None
    if not trips:
        raise ValueError("irtt's log has no round trip")
    told = f"{source}, {len(trips)} packets"
    sent_us = _irtt_times(trips)
    if all(delay is None for delay in up) or "true" in fates:
        # Without the server's times, or its window of what it received, a loss has no direction.
        trip = PathStream(delays_us=tuple(both), arrivals=_irtt_order(trips), sent_us=sent_us)
        return PathSample(source=told, round_trip=trip)
    arrived = [index for index, fate in enumerate(fates) if fate != "true_up"]
    # A packet that was lost on its way back did arrive there, at a time that nobody told: its neighbour's will do.
    up = _filled(up, fates)
    return PathSample(
        source=told,
        uplink=PathStream(delays_us=tuple(up), sent_us=sent_us),
        downlink=PathStream(
            delays_us=tuple(down[index] for index in arrived),
            sent_us=tuple(sent_us[index] for index in arrived) if sent_us else (),
        ),
    )


def _irtt_delay(trip: dict[str, Any], name: str) -> float | None:
    nanoseconds = trip.get("delay", {}).get(name)
    return None if nanoseconds is None or trip["lost"] != "false" else float(nanoseconds) / 1000


def _irtt_times(trips: Sequence[dict[str, Any]]) -> tuple[float, ...]:
    """When the client sent each; the server's answer follows within a round trip, which no window of a trace tells."""
    try:
        sent = [int(trip["timestamps"]["client"]["send"]["monotonic"]) for trip in trips]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple((at_ns - sent[0]) / 1000 for at_ns in sent)


def _irtt_order(trips: Sequence[dict[str, Any]]) -> tuple[int, ...]:
    received = [
        (trip["timestamps"]["client"]["receive"].get("monotonic", 0), index)
        for index, trip in enumerate(trips)
        if trip["lost"] == "false"
    ]
    return tuple(index for _, index in sorted(received))


def _filled(delays: Sequence[float | None], fates: Sequence[str]) -> list[float | None]:
    filled: list[float | None] = []
    known = next((delay for delay in delays if delay is not None), None)
    for delay, fate in zip(delays, fates, strict=True):
        known = delay if delay is not None else known
        filled.append(known if delay is None and fate == "true_down" else delay)
    return filled


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_LOG:
            raise DocumentError([_problem(path, f"it is larger than {LARGEST_LOG >> 30} GiB")])
        return path.read_bytes()
    except OSError as error:
        raise DocumentError([_problem(path, f"cannot be read: {error.strerror}")]) from None


def _problem(path: Path, message: str) -> Problem:
    return Problem(file=str(path), line=None, column=None, message=message)
