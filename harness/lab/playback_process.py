"""The process that plays traces onto a lab: ``python -m harness.lab.playback_process``, driven by ``Player``.

It is a process of its own because a thread in a busy Python process is not punctual. Its first line of standard input
is ``{"lab": ID, "state_root": PATH}``, each further one ``{"op": "play", ...}`` (see ``Play``) or ``{"op": "stop",
"id": N}``. It answers in lines: ``{"ready": SCHEDULING}``, ``{"started": N}``, every half second a ``{"now": N, ...}``
for each playing, and ``{"done": N, "report": {...}, "error": null}``. At the end of standard input it gives every link
back and ends, so it never outlives whoever started it.

Real-time priority is safe here: it sleeps until the next change is due, and makes one in a few milliseconds.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal

from harness.config.trace_file import load_trace
from harness.errors import InputError, LonghaulError
from harness.lab.lab import Lab
from harness.lab.links import LinkKey, OverlayGone
from harness.model.base import Value
from harness.model.playback import PlaybackReport, lateness_of
from harness.model.trace import Point
from harness.plan.playback import Target, Tick, fields, spare_buffer, ticks

PRIORITY = 10
NICENESS = -15
REPORT_EVERY_S = 0.5
LAST_COSTS = 20
"""Changes by which the time that one takes is judged."""

LOG_COLUMNS = "planned_s,actual_s,trace_s,link,rate_bps,delay_us,jitter_us,loss,blocked"
_MOST_KEPT = 1_000_000


class Play(Value):
    """What to play. ``begin_s`` is on the monotonic clock; ``for_s`` ends it sooner than the trace does."""

    op: Literal["play"] = "play"
    id: int
    file: str
    holder: str
    targets: tuple[Target, ...]
    offset_s: float = 0.0
    speed: float = 1.0
    loop: bool = False
    begin_s: float | None = None
    for_s: float | None = None
    log: str


class Playing:
    """One trace on its links. Raises InputError for a trace or links that do not fit."""

    def __init__(self, lab: Lab, play: Play, scheduling: Literal["real-time", "raised", "normal"]) -> None:
        self.id = play.id
        self._lab = lab
        self._play = play
        self._scheduling = scheduling
        self._trace = load_trace(Path(play.file))
        if not play.loop and play.offset_s * 1e6 >= self._trace.duration_us:
            raise InputError(f"the trace {self._trace.name} ends before {play.offset_s:g} s")
        self._below = {target.link: lab.impairment(*target.link) for target in play.targets}
        self._courses = {target.link: self._trace.course(target.direction) for target in play.targets}
        self._spare = {
            target.link: spare_buffer(
                self._trace,
                target,
                self._below[target.link],
                lab.impairment(target.destination, target.source),
            )
            for target in play.targets
        }
        self.begin_s = time.monotonic() if play.begin_s is None else play.begin_s
        self._ends_s = None if play.for_s is None else self.begin_s + play.for_s
        self._ticks: Iterator[Tick] = ticks(
            self._trace, offset_us=round(play.offset_s * 1e6), speed=play.speed, loop=play.loop
        )
        self._next: Tick | None = next(self._ticks)
        self._costs_s: deque[float] = deque(maxlen=LAST_COSTS)
        self._places: dict[LinkKey, int] = {}
        self._late_ms: list[float] = []
        self._changes = self._skipped = self._rounds = 0
        self._rates: dict[str, int | None] = {}
        self._touched = False
        self._taken_off = False
        self._log = Path(play.log).open("w")  # noqa: SIM115
        self._log.write(LOG_COLUMNS + "\n")
        # What does not combine is told before anything is changed.
        for target in play.targets:
            course = self._courses[target.link]
            for place in {0, len(course.at_us) // 2, len(course.at_us) - 1}:
                self._fields(target, course.point(place))

    @property
    def due_s(self) -> float | None:
        """When something is to be done next; None when the trace is over.

        A change is asked for by so much sooner as the quickest of the last ones took, so that it is in force in time.
        """
        if self._next is None:
            return None
        due_s = self.begin_s + self._next.at_us / 1e6 - self._lead_s
        return due_s if self._ends_s is None else min(due_s, self._ends_s)

    def step(self, now_s: float) -> None:
        """Do what is due; of several only the newest."""
        tick = self._next
        assert tick is not None
        reached_s = now_s + self._lead_s
        while (following := next(self._ticks, None)) is not None and self.begin_s + following.at_us / 1e6 <= reached_s:
            tick = following
            self._skipped += 1
        self._next = following
        if tick.trace_us >= self._trace.duration_us or (self._ends_s is not None and now_s >= self._ends_s):
            self._next = None
            return
        self._rounds = tick.round
        self._apply(tick)

    def status(self) -> dict[str, Any]:
        """For who watches."""
        late = self._late_ms[-1] if self._late_ms else 0.0
        return {
            "now": self.id,
            "at_s": round(time.monotonic() - self.begin_s, 3),
            "changes": self._changes,
            "skipped": self._skipped,
            "late_ms": round(late, 3),
            "rate_bps": self._rates,
        }

    def finish(self) -> tuple[PlaybackReport, LonghaulError | None]:
        """Give the links back; what it came to, and what went wrong with that."""
        failure: LonghaulError | None = None
        try:
            if self._touched:
                name = self._trace.name
                self._lab.lift([target.link for target in self._play.targets], self._play.holder, f"end of {name}")
        except (LonghaulError, OSError) as error:
            failure = error if isinstance(error, LonghaulError) else InputError(str(error))
        self._log.close()
        report = PlaybackReport(
            trace=self._trace.name,
            holder=self._play.holder,
            links=tuple(f"{target.source}>{target.destination}" for target in self._play.targets),
            began_s=self.begin_s,
            ended_s=time.monotonic(),
            changes=self._changes,
            skipped=self._skipped,
            rounds=self._rounds,
            lateness=lateness_of(self._late_ms),
            scheduling=self._scheduling,
            restored=failure is None,
            taken_off=self._taken_off,
            log=self._play.log,
            rate_bps=self._rates,
        )
        return report, failure

    @property
    def _lead_s(self) -> float:
        return min(self._costs_s, default=0.0)

    def _apply(self, tick: Tick) -> None:
        changes = {}
        for target in self._play.targets:
            course = self._courses[target.link]
            place = course.index_at(tick.trace_us)
            if self._places.get(target.link) != place:
                self._places[target.link] = place
                changes[target] = course.point(place)
        if not changes:
            return
        planned_s = self.begin_s + tick.at_us / 1e6
        asked_s = time.monotonic()
        try:
            made = self._lab.overlay(
                {target.link: self._fields(target, point) for target, point in changes.items()},
                self._play.holder,
                f"trace {self._trace.name}",
                planned_s - self._lab.epoch_s,
                # The first change, which is of every link, says in the log of changes that a trace plays; those after
                # it are in the trace's own log.
                durable=not self._touched,
                again=self._touched,
            )
        except OverlayGone:
            self._taken_off = True
            self._next = None
            return
        # A link that a fault cuts off stays as it is, and the core is not asked.
        actual_s = max((change.actual_s for change in made), default=asked_s - self._lab.epoch_s) + self._lab.epoch_s
        if made:
            self._costs_s.append(actual_s - asked_s)
        self._touched = True
        self._changes += 1
        if len(self._late_ms) < _MOST_KEPT:
            self._late_ms.append((actual_s - planned_s) * 1000)
        for target, point in changes.items():
            self._rates[f"{target.source}>{target.destination}"] = 0 if point.blocked else point.rate_bps
            self._log.write(_line(planned_s, actual_s, tick, target, point))

    def _fields(self, target: Target, point: Point) -> dict[str, Any]:
        try:
            return fields(self._courses[target.link], point, target, self._below[target.link], self._spare[target.link])
        except ValueError as error:
            raise InputError(f"{target.source}>{target.destination}: {error}") from None


def _line(planned_s: float, actual_s: float, tick: Tick, target: Target, point: Point) -> str:
    values = ("" if value is None else str(value) for value in point[:4])
    link = f"{target.source}>{target.destination}"
    return f"{planned_s:.6f},{actual_s:.6f},{tick.trace_us / 1e6:.6f},{link},{','.join(values)},{int(point.blocked)}\n"


def _raise_priority() -> Literal["real-time", "raised", "normal"]:
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        return "real-time"
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        return "raised"
    return "normal"


def _say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class _Lines:
    """Lines of a stream as they come, without ever waiting for one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.descriptor = stream.fileno()
        self.ended = False
        self._partial = b""

    def read(self) -> list[bytes]:
        data = os.read(self.descriptor, 1 << 16)
        if not data:
            self.ended = True
        *whole, self._partial = (self._partial + data).split(b"\n")
        return [line for line in whole if line.strip()]


def _serve(lab: Lab, commands: _Lines, first: list[bytes]) -> None:
    scheduling = _raise_priority()
    playing: dict[int, Playing] = {}
    gc.collect()
    gc.freeze()
    _say(ready=scheduling)
    waiting = list(first)
    report_s = time.monotonic()
    while not commands.ended or playing:
        for line in waiting:
            _command(lab, playing, json.loads(line), scheduling)
        waiting = []
        dues = [one.due_s for one in playing.values() if one.due_s is not None]
        wake_s = min([*dues, report_s + REPORT_EVERY_S]) if playing else None
        timeout = None if wake_s is None else max(0.0, wake_s - time.monotonic())
        readable, _, _ = select.select([] if commands.ended else [commands.descriptor], [], [], timeout)
        if readable:
            waiting = commands.read()
        if commands.ended:
            for number in list(playing):
                _finish(playing, number)
        now_s = time.monotonic()
        for number, one in list(playing.items()):
            if one.due_s is not None and one.due_s <= now_s:
                try:
                    one.step(now_s)
                except LonghaulError as error:
                    _finish(playing, number, error)
                    continue
            if one.due_s is None:
                _finish(playing, number)
        if now_s >= report_s + REPORT_EVERY_S:
            report_s = now_s
            for one in playing.values():
                _say(**one.status())


def _command(lab: Lab, playing: dict[int, Playing], command: dict[str, Any], scheduling: Any) -> None:
    if command["op"] == "stop":
        if command["id"] in playing:
            _finish(playing, command["id"])
        return
    play = Play.model_validate(command)
    try:
        playing[play.id] = Playing(lab, play, scheduling)
    except LonghaulError as error:
        _say(done=play.id, report=None, error=str(error), hint=error.hint, input=isinstance(error, InputError))
        return
    _say(started=play.id)


def _finish(playing: dict[int, Playing], number: int, error: LonghaulError | None = None) -> None:
    report, failure = playing.pop(number).finish()
    error = error or failure
    _say(
        done=number,
        report=report.model_dump(mode="json"),
        error=None if error is None else str(error),
        hint=None if error is None else error.hint,
        input=False,
    )


def main() -> None:
    """See the module."""
    # Whoever presses Ctrl-C means the process that started this one, which then closes standard input.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    commands = _Lines(sys.stdin.buffer)
    lines: list[bytes] = []
    while not lines and not commands.ended:
        lines = commands.read()
    if not lines:
        return
    where = json.loads(lines[0])
    try:
        lab = Lab.open(where["lab"], state_root=Path(where["state_root"]))
    except LonghaulError as error:
        _say(failed=str(error), hint=error.hint)
        return
    try:
        # Nobody reads any more when standard output is gone; what was played is given back all the same.
        with suppress(BrokenPipeError):
            _serve(lab, commands, lines[1:])
    finally:
        lab.close()


if __name__ == "__main__":
    main()
