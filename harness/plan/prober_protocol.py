"""What the prober (harness/wan/native/prober.c) is told and answers, and what both ends' answers come to. Pure."""

from __future__ import annotations

import base64
import json
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.model.measurement import MeasuringNoise
from harness.plan.intervals import quantile
from harness.plan.probing import Session, Stream

_UNSENT = 2**32 - 1
_UNIT_US = 0.1
_WANTS_ECHO, _SPREAD, _UNCHECKED = 1, 2, 4


@dataclass(frozen=True)
class Observation:
    """What became of one stream.

    ``sent_us``: when each packet left, by sequence number, since the common start; None for those that did not, or that
    the other end was not there yet to receive. ``arrivals``: sequence number and time of every copy that arrived, in
    order of arrival; their times mean nothing without a ``common_clock``. ``rtt_us``: of packets whose echo came back.
    """

    stream: Stream
    sent_us: tuple[float | None, ...]
    arrivals: tuple[tuple[int, float], ...]
    rtt_us: tuple[float, ...]
    damaged: int = 0
    common_clock: bool = True

    @cached_property
    def counted(self) -> tuple[int, ...]:
        """Sequence numbers of the packets that count."""
        return tuple(number for number, at in enumerate(self.sent_us) if at is not None)

    @cached_property
    def first_arrivals(self) -> Mapping[int, float]:
        """When the first copy of each packet arrived."""
        first: dict[int, float] = {}
        for number, at in self.arrivals:
            if self.sent_us[number] is not None:
                first.setdefault(number, at)
        return first

    @cached_property
    def delays_us(self) -> tuple[float, ...]:
        """One-way delay of each packet that arrived, in the order in which they were sent."""
        return tuple(
            arrived - sent
            for number in self.counted
            if (arrived := self.first_arrivals.get(number)) is not None and (sent := self.sent_us[number]) is not None
        )

    @property
    def lost(self) -> tuple[bool, ...]:
        """For each packet that counts, whether no copy of it arrived."""
        return tuple(number not in self.first_arrivals for number in self.counted)

    @property
    def duplicates(self) -> int:
        """Copies beyond the first."""
        return sum(self.sent_us[number] is not None for number, _ in self.arrivals) - len(self.first_arrivals)

    @property
    def reordered(self) -> tuple[int, int]:
        """How many packets arrived after one that was sent later, and the most places that one of them came late (RFC
        4737, sections 3 and 4.2.1); copies do not count."""
        highest, late, extent = -1, 0, 0
        order: list[int] = []
        seen: set[int] = set()
        for number, _ in self.arrivals:
            if number in seen:
                continue
            seen.add(number)
            if number < highest:
                late += 1
                earlier = next(place for place, other in enumerate(order) if other > number)
                extent = max(extent, len(order) - earlier)
            highest = max(highest, number)
            order.append(number)
        return late, extent


def prober_plan(
    session: Session,
    site: str,
    *,
    token: int,
    start_ns: int,
    listen: tuple[str, int],
    reach: Mapping[str, str],
) -> str:
    """What the prober at ``site`` reads. ``reach``: where each site's prober is found; the port is the same for all.

    Streams are numbered by their place in the session, at every site alike.
    """
    address, port = listen
    lines = [f"token {token}", f"start {start_ns}", f"end {session.end_us}", f"bind {address} {port}"]
    own = [(number, stream) for number, stream in enumerate(session.streams) if stream.source == site]
    peers = {name: place for place, name in enumerate(dict.fromkeys(stream.destination for _, stream in own))}
    lines += [f"peer {place} {address if name == site else reach[name]} {port}" for name, place in peers.items()]
    lines += [
        f"stream {number} {peers[stream.destination]} {stream.packets} {stream.interval_ns} {stream.first_us} "
        f"{stream.payload_bytes} {_flags(stream)}"
        for number, stream in own
    ]
    return "\n".join(lines) + "\n"


def _flags(stream: Stream) -> int:
    return _WANTS_ECHO * stream.echoes | _SPREAD * stream.spread | _UNCHECKED * (stream.kind == "damage")


def observations(session: Session, answers: Mapping[str, str]) -> list[Observation]:
    """What became of each stream, from the answers of both ends (by site). Raises ValueError for an answer that is cut
    short or missing."""
    reports = {site: _parsed(site, text) for site, text in answers.items()}
    found = []
    for number, stream in enumerate(session.streams):
        if not {stream.source, stream.destination} <= set(reports):
            raise ValueError(f"no prober answered for {stream.source}>{stream.destination}")
        here, there = reports[stream.source], reports[stream.destination]
        common = _clock(here) == _clock(there)
        sent = here["sent"][str(number)]
        # Both count from the same start only if neither began late.
        shift_us = (there["start_ns"] - here["start_ns"]) / 1000 if common else 0.0
        ready_us = (there["bound_ns"] - here["start_ns"]) / 1000 if common else 0.0
        arrived = there["arrived"].get(str(number), {"packets": "", "damaged": 0})
        pairs = _words(arrived["packets"])
        echoes = _words(sent["echoes"])
        found.append(
            Observation(
                stream=stream,
                sent_us=tuple(_left_at(word, ready_us) for word in _words(sent["at"])),
                arrivals=tuple(
                    (sequence, at * _UNIT_US + shift_us) for sequence, at in zip(pairs[::2], pairs[1::2], strict=True)
                ),
                rtt_us=tuple(rtt * _UNIT_US for rtt in echoes[1::2]),
                damaged=arrived["damaged"],
                common_clock=common,
            )
        )
    return found


def overflowed(answers: Mapping[str, str]) -> list[str]:
    """Sites whose own sockets had no room for all that arrived, so that they count losses that are none."""
    return [site for site, text in answers.items() if _parsed(site, text)["overflow"]]


def noise_of(answers: Mapping[str, str], found: Sequence[Observation]) -> MeasuringNoise:
    """What the measuring added, from the streams that nodes sent to themselves and from late departures."""
    reports = [_parsed(site, text) for site, text in answers.items()]
    loopback = sorted(delay for one in found if one.stream.kind == "noise" for delay in one.delays_us)
    return MeasuringNoise(
        loopback_median_us=quantile(loopback, 0.5) if loopback else None,
        loopback_p99_us=quantile(loopback, 0.99) if loopback else None,
        late_p99_us=max((report["late_p99_ns"] / 1000 for report in reports), default=0.0),
        late_max_us=max((report["late_max_ns"] / 1000 for report in reports), default=0.0),
    )


def _parsed(site: str, text: str) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the prober at {site} answers {text[:80]!r}") from error
    return report


def _clock(report: Mapping[str, Any]) -> tuple[str, str]:
    return report["boot"], report["clock"]


def _left_at(word: int, ready_us: float) -> float | None:
    at_us = word * _UNIT_US
    return None if word == _UNSENT or at_us < ready_us else at_us


def _words(text: str) -> array[int]:
    words = array("I")
    words.frombytes(base64.b64decode(text))
    if sys.byteorder == "big":
        words.byteswap()
    return words
