"""The linter's rules on what happens over time: events that overlap, fight, or come to nothing. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import ValidationError

from harness.model.impairment import Impairment
from harness.model.timeline import Change, Outage, Play, Ramp, TimelineEvent, subject_of
from harness.model.topology import Topology
from harness.model.trace import Course, Trace
from harness.model.units import brief_duration
from harness.plan.lint_finding import LintFinding
from harness.plan.lint_link import check_impairment
from harness.plan.playback import MOST_HZ
from harness.plan.timeline import length_of, links_touched

FINEST_STEP_S = 1 / MOST_HZ
"""What a player keeps up with; a finer step is played together with the next one."""


def check_timeline(topology: Topology) -> Iterator[LintFinding]:
    """Entries of the timeline that get in one another's way, or do not do what they say."""
    for index, event in enumerate(topology.timeline):
        yield from _alone(index, event)
        yield from _changed_links(topology, index, event)
        for earlier_index, earlier in enumerate(topology.timeline[:index]):
            yield from _together(topology, index, event, earlier_index, earlier)


def check_playback(trace: Trace, index: int, speed: float = 1.0) -> Iterator[LintFinding]:
    """Whether a trace, entry ``index`` of a topology's traces, can be played as finely as it is."""
    courses = [trace.down] if trace.up is None else [trace.down, trace.up]
    finest_us = min((_finest_us(course) for course in courses), default=math.inf) / speed
    if finest_us < 1e6 * FINEST_STEP_S:
        yield LintFinding(
            severity="warning",
            rule="trace-too-fine",
            subject=("traces", index, "trace"),
            reason=f"{trace.name} changes after {brief_duration(finest_us)}; changes within "
            f"{brief_duration(1e6 * FINEST_STEP_S)} are played as one",
            instead="a trace in windows of 50 ms (longhaul trace import --window 50ms), or a lower speed",
        )


def _finest_us(course: Course) -> float:
    return min(
        (later - earlier for earlier, later in zip(course.at_us, course.at_us[1:], strict=False)), default=math.inf
    )


def _alone(index: int, event: TimelineEvent) -> Iterator[LintFinding]:
    length_s = length_of(event)
    if event.every_s is not None and event.count != 1 and math.isfinite(length_s) and event.every_s <= length_s:
        yield LintFinding(
            severity="error",
            rule="event-never-ends",
            subject=("timeline", index, "every"),
            reason=f"it lasts {length_s:g} s and begins again every {event.every_s:g} s: what it does to "
            f"{subject_of(event)} never ends",
            instead=f"every: {2 * length_s:g} s",
        )
    if not isinstance(event, Ramp):
        return
    if event.duration_s is not None and event.duration_s < event.over_s:
        yield LintFinding(
            severity="warning",
            rule="ramp-cut-short",
            subject=("timeline", index, "for"),
            reason=f"the ramp takes {event.over_s:g} s and is undone after {event.duration_s:g} s, on its way",
            instead=f"for: {event.over_s:g} s or more",
        )
    if event.step_s < FINEST_STEP_S:
        yield LintFinding(
            severity="warning",
            rule="ramp-too-fine",
            subject=("timeline", index, "step"),
            reason=f"steps of {brief_duration(event.step_s * 1e6)} are finer than a core can follow",
            instead=f"step: {brief_duration(FINEST_STEP_S * 1e6)} or more",
        )


def _changed_links(topology: Topology, index: int, event: TimelineEvent) -> Iterator[LintFinding]:
    """What a change makes of its links is held to the rules of links, as far as the links alone did not break them."""
    if not isinstance(event, Change | Ramp):
        return
    told: set[str] = set()
    for source, destination in links_touched(topology, event):
        link = topology.link(source, destination)
        try:
            changed = Impairment.model_validate({**link.impairment.model_dump(), **event.fields})
        except ValidationError:
            continue
        path = {"mtu": topology.mtu, "round_trip_us": 2 * changed.delay_us, "capacity": None}
        before = {found.rule for found in check_impairment(link.impairment, (), **path)}  # type: ignore[arg-type]
        for found in check_impairment(changed, (), **path):  # type: ignore[arg-type]
            if found.rule not in before | told and found.severity != "note":
                told.add(found.rule)
                yield found.model_copy(update={"subject": ("timeline", index, *found.subject)})


def _together(
    topology: Topology, index: int, event: TimelineEvent, earlier_index: int, earlier: TimelineEvent
) -> Iterator[LintFinding]:
    if isinstance(event, Outage) and isinstance(earlier, Outage):
        if event.site == earlier.site and _meet(earlier, event):
            yield LintFinding(
                severity="warning",
                rule="outages-overlap",
                subject=("timeline", index, "at"),
                reason=f"it overlaps entry {earlier_index + 1}, which cuts {event.site} off as well: one longer "
                "outage comes of the two",
                instead="one outage, or times that do not meet",
            )
        return
    fields = _fields(event) & _fields(earlier)
    if not fields or not _meet(earlier, event):
        return
    shared = set(links_touched(topology, event)) & set(links_touched(topology, earlier))
    if shared:
        source, destination = min(shared)
        yield LintFinding(
            severity="warning",
            rule="events-fight",
            subject=("timeline", index, "at"),
            reason=f"while it lasts, entry {earlier_index + 1} sets {', '.join(sorted(fields))} of "
            f"{source}>{destination} as well: the one that began last wins",
            instead="one entry for both, or times that do not meet",
        )


def _fields(event: TimelineEvent) -> set[str]:
    """The fields of Impairment that it sets; those of a trace are not known here, and taken to be the usual two."""
    match event:
        case Change() | Ramp():
            return set(event.fields)
        case Play():
            return {"rate_bps", "delay_us"}
    return set()


def _meet(first: TimelineEvent, second: TimelineEvent) -> bool:
    """Whether two events are ever in force at the same time; of repeats with a count, at least as often as they are."""
    if _end(first) <= second.at_s or _end(second) <= first.at_s:
        return False
    length, other = length_of(first), length_of(second)
    repeats, others = _rhythm(first), _rhythm(second)
    if repeats is None and others is None:
        return True
    if repeats is None or others is None:
        once, again, rhythm = (first, second, others) if repeats is None else (second, first, repeats)
        assert rhythm is not None
        # Where the one that comes once begins within the period of the one that repeats.
        offset = (once.at_s - again.at_s) % rhythm if once.at_s > again.at_s else 0.0
        reaches = once.at_s + length_of(once) - max(once.at_s, again.at_s)
        return offset < length_of(again) or offset + reaches > rhythm
    # Two rhythms drift against one another in steps of their greatest common divisor.
    common_s = math.gcd(round(repeats * 1e6), round(others * 1e6)) / 1e6
    offset = (second.at_s - first.at_s) % common_s
    return offset < length or offset + other > common_s


def _rhythm(event: TimelineEvent) -> float | None:
    return None if event.count == 1 else event.every_s


def _end(event: TimelineEvent) -> float:
    """When it is over for good; infinity for what repeats without a count."""
    if event.every_s is None:
        return event.at_s + length_of(event)
    return math.inf if event.count is None else event.at_s + (event.count - 1) * event.every_s + length_of(event)
