"""What was done to a lab by hand, as the events of a timeline that does it again. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.model.base import Value
from harness.model.impairment import Impairment
from harness.model.timeline import INSTANTS, Change, Flap, LinkChoice, TimelineEvent

LinkEnds = tuple[str, str]

_TOGETHER = {
    "buffer_bytes": "rate_bps",
    "buffer_packets": "rate_bps",
    "framing": "rate_bps",
    "active_queue": "rate_bps",
}
_TOGETHER |= {"reorder": "delay_us"}
"""Fields that mean nothing in a file without another one."""


class BaseChange(Value):
    """A link's base was set to ``after`` at a time, from ``before``."""

    link: LinkEnds
    at_s: float
    before: Impairment
    after: Impairment


class FaultDone(Value):
    """A fault that was made and, unless ``end_s`` is None, undone."""

    event: TimelineEvent
    begin_s: float
    end_s: float | None


def recorded_events(
    topology: Mapping[LinkEnds, Impairment],
    changes: Sequence[BaseChange],
    faults: Iterable[FaultDone],
    begin_s: float,
    end_s: float,
) -> tuple[TimelineEvent, ...]:
    """The timeline that does again what was done from ``begin_s`` to ``end_s``; its times count from ``begin_s``.

    A link that was set to something else than the topology says is changed for as long as it was so. What was in force
    when the recording began, or when it ended, is in force from its begin, or until its end.
    """
    events: list[TimelineEvent] = [
        *_changes(topology, changes, begin_s, end_s),
        *(event for fault in faults if (event := _fault(fault, begin_s, end_s)) is not None),
    ]
    return tuple(sorted(events, key=lambda event: event.at_s))


def _fault(fault: FaultDone, begin_s: float, end_s: float) -> TimelineEvent | None:
    if fault.begin_s >= end_s or (fault.end_s is not None and fault.end_s <= begin_s):
        return None
    if fault.event.do in INSTANTS:
        return fault.event.model_copy(update=_once(fault.begin_s - begin_s, None))
    start_s = max(fault.begin_s, begin_s)
    stop_s = end_s if fault.end_s is None else min(fault.end_s, end_s)
    event = fault.event.model_copy(update=_once(start_s - begin_s, stop_s - start_s))
    # Undone by hand before its flaps were over, or by their end: the time says both.
    return event.model_copy(update={"flaps": None}) if isinstance(event, Flap) else event


def _once(at_s: float, duration_s: float | None) -> dict[str, Any]:
    """Times of one occurrence, in whole microseconds as files have them."""
    length_s = None if duration_s is None else max(round(duration_s, 6), 0.001)
    return {"at_s": round(at_s, 6), "duration_s": length_s, "every_s": None, "count": None}


def _changes(
    topology: Mapping[LinkEnds, Impairment], changes: Sequence[BaseChange], begin_s: float, end_s: float
) -> list[TimelineEvent]:
    """Links that were set alike for the same time share an event."""
    alike: dict[tuple[float, float, str], list[LinkEnds]] = defaultdict(list)
    fields_of: dict[tuple[float, float, str], dict[str, Any]] = {}
    for link, wanted in topology.items():
        for start_s, stop_s, base in _spans([one for one in changes if one.link == link], wanted, begin_s, end_s):
            fields = _difference(wanted, base)
            if fields:
                key = start_s, stop_s, repr(fields)
                alike[key].append(link)
                fields_of[key] = fields
    return [
        Change(links=LinkChoice(pairs=tuple(links)), fields=fields_of[key], **_once(key[0] - begin_s, key[1] - key[0]))
        for key, links in alike.items()
    ]


def _spans(
    changes: Sequence[BaseChange], wanted: Impairment, begin_s: float, end_s: float
) -> list[tuple[float, float, Impairment]]:
    """(from, to, base) of one link, within the recording."""
    ordered = sorted(changes, key=lambda change: change.at_s)
    base = ordered[0].before if ordered else wanted
    points: list[tuple[float, Impairment]] = [(begin_s, base)]
    for change in ordered:
        if change.at_s <= begin_s:
            points = [(begin_s, change.after)]
        elif change.at_s < end_s:
            points.append((change.at_s, change.after))
    stops = [at_s for at_s, _ in points[1:]] + [end_s]
    return [(at_s, stop_s, base) for (at_s, base), stop_s in zip(points, stops, strict=True) if stop_s > at_s]


def _difference(wanted: Impairment, base: Impairment) -> dict[str, Any]:
    names = {name for name in Impairment.model_fields if getattr(wanted, name) != getattr(base, name)}
    needed = {_TOGETHER[name] for name in names if name in _TOGETHER and getattr(base, name) is not None}
    if names & {"buffer_bytes", "buffer_packets"}:
        names |= {"buffer_bytes", "buffer_packets"}
    return base.model_dump(mode="json", include=names | needed) if names else {}
