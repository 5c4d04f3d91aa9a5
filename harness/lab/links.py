"""What every link of a lab is set to, and the log of all changes, shared by every process that works on the lab.

A link has a base impairment (the topology's, or the last change), overlays that replace some of its fields (a trace, a
ramp, a handover), and holders that cut it off (an outage, a partition). In force is the base, overlaid in the order in
which the overlays were first laid, as a black hole while anyone holds it: faults that overlap come apart in any order.

Durable changes are lines of ``changes.jsonl``. Others, of which a played trace makes dozens a second, replace the file
``changes.live`` beside it, whose size is that of the links they move: a turn, and the log's size then; a line beyond
that size is newer.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.errors import InputError, LabError
from harness.model.base import Value
from harness.model.impairment import Impairment
from harness.model.topology import Topology

LinkKey = tuple[str, str]
"""Source and destination."""


TRACE_HOLDER = "trace "
"""How the names of overlays begin that follow a trace."""

_OF_A_BOTTLENECK = ("buffer_bytes", "buffer_packets", "framing", "active_queue")


class OverlayGone(LabError):
    """Somebody else has lifted the overlay that was to be replaced."""


class Overlay(Value):
    """Fields of Impairment that a holder replaces, as JSON-able values under the fields' names."""

    holder: str
    fields: dict[str, Any]

    @classmethod
    def of(cls, holder: str, fields: Mapping[str, object]) -> Overlay:
        """From the fields' values. Raises InputError for a field that Impairment lacks or a value that it refuses."""
        try:
            checked = Impairment.model_validate(dict(fields))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(map(str, problem["loc"]))
            raise InputError(f"no link can be overlaid so: {place or 'the fields'}: {problem['msg']}") from None
        return cls(holder=holder, fields=checked.model_dump(mode="json", include=set(fields)))

    def over(self, below: Impairment) -> Impairment:
        """What is in force with this on top."""
        values = Impairment.model_validate(self.fields)
        update = {name: getattr(values, name) for name in self.fields}
        for size, other in (("buffer_bytes", "buffer_packets"), ("buffer_packets", "buffer_bytes")):
            if update.get(size) is not None:
                update.setdefault(other, None)
        return below.model_copy(update=update)


class LinkState(Value):
    """One directed link: its base, what lies over it (first laid first), and who cuts it off."""

    base: Impairment
    overlays: tuple[Overlay, ...] = ()
    holders: frozenset[str] = frozenset()

    @property
    def in_force(self) -> Impairment:
        """What the core must do."""
        result = self.base
        for overlay in self.overlays:
            result = overlay.over(result)
        if result.rate_bps is None and self.overlays:
            # Only a bottleneck has a queue.
            result = result.model_copy(update=dict.fromkeys(_OF_A_BOTTLENECK))
        return result.model_copy(update={"blocked": True}) if self.holders else result


class LoggedChange(Value):
    """One line of ``changes.jsonl``. ``at_s`` and ``planned_s`` are seconds on the host's monotonic clock."""

    source: str
    destination: str
    at_s: float
    planned_s: float | None
    reason: str
    before: LinkState
    after: LinkState


_LIVE = TypeAdapter(list[tuple[str, str, LinkState]])


class LinkBook:
    """The state of all links, kept in step with files that several processes write; a change costs what it touches."""

    def __init__(self, topology: Topology, log: Path) -> None:
        self._log = log
        self._live_file = log.with_suffix(".live")
        self._live_turn = 0
        self._thread_lock = threading.RLock()
        self._offset = 0
        self._initial = {(link.source, link.destination): LinkState(base=link.impairment) for link in topology.links}
        self._states = dict(self._initial)
        self._live: dict[LinkKey, LinkState] = {}
        """The links whose last change was not durable, as they are."""

    @property
    def initial(self) -> Mapping[LinkKey, LinkState]:
        """What the topology says."""
        return MappingProxyType(self._initial)

    def state(self, link: LinkKey) -> LinkState | None:
        """One link as it is now; None when there is no such link."""
        with self._thread_lock:
            self._catch_up()
            return self._states.get(link)

    def states(self) -> Mapping[LinkKey, LinkState]:
        """Every link as it is now: a copy, so ``state`` is cheaper for a few links."""
        with self._thread_lock:
            self._catch_up()
            return dict(self._states)

    @contextmanager
    def exclusive(self) -> Iterator[Mapping[LinkKey, LinkState]]:
        """Hold the book against other threads and processes; gives the states, which change with ``append``."""
        with self._thread_lock, self._log.open("ab") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            self._catch_up()
            yield MappingProxyType(self._states)

    def append(self, changes: Iterable[LoggedChange]) -> None:
        """Log changes that were made; hold the book."""
        made = list(changes)
        if not made:
            return
        text = "".join(change.model_dump_json() + "\n" for change in made)
        with self._log.open("ab+") as log:
            if log.tell():
                log.seek(-1, os.SEEK_END)
                if log.read(1) != b"\n":
                    # What a crash cut short must not swallow the next line.
                    log.write(b"\n")
            log.write(text.encode())
            log.flush()
            os.fdatasync(log.fileno())
        self._read_log()

    def set_live(self, after: Mapping[LinkKey, LinkState]) -> None:
        """Make changes known to other processes without a line in the log and without waiting for a disk; hold the
        book. A crash of the host may lose them, and the lab with them."""
        self._states.update(after)
        self._live.update(after)
        self._live_turn += 1
        rows = [(*link, state) for link, state in self._live.items()]
        temporary = self._live_file.with_name(self._live_file.name + ".new")
        temporary.write_bytes(b"%d %d\n" % (self._live_turn, self._offset) + _LIVE.dump_json(rows))
        temporary.replace(self._live_file)

    def history(self) -> tuple[LoggedChange, ...]:
        """Every durable change since the lab came up."""
        if not self._log.exists():
            return ()
        return tuple(_entries(self._log.read_bytes()))

    def _catch_up(self) -> None:
        # The live file first: a line that is logged between the two reads is newer than it.
        try:
            with self._live_file.open("rb") as live:
                turn, offset = map(int, live.readline().split())
                text = live.read() if turn != self._live_turn else b""
        except FileNotFoundError:
            turn = self._live_turn
        self._read_log()
        if turn != self._live_turn:
            self._live_turn = turn
            newer = self._changed_since(offset)
            rows = _LIVE.validate_json(text)
            self._live = {(source, to): state for source, to, state in rows if (source, to) not in newer}
            self._states.update(self._live)

    def _read_log(self) -> None:
        if not self._log.exists():
            return
        with self._log.open("rb") as log:
            log.seek(self._offset)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for entry in _entries(whole):
            link = entry.source, entry.destination
            self._states[link] = entry.after
            self._live.pop(link, None)

    def _changed_since(self, offset: int) -> set[LinkKey]:
        """Links with lines in the log behind an offset: newer than a file that was written there."""
        if offset >= self._offset:
            return set()
        with self._log.open("rb") as log:
            log.seek(offset)
            return {(entry.source, entry.destination) for entry in _entries(log.read(self._offset - offset))}


def _entries(text: bytes) -> Iterator[LoggedChange]:
    for line in text.splitlines():
        try:
            yield LoggedChange.model_validate_json(line)
        except ValidationError:
            # A line that a crash cut short: its change may be in the core, and the next change sets every attribute.
            continue


def with_base(impairment: Impairment) -> Callable[[LinkState], LinkState]:
    """Sets the base; overlays and holders stay."""
    return lambda state: state.model_copy(update={"base": impairment})


def with_overlay(overlay: Overlay) -> Callable[[LinkState], LinkState]:
    """Replaces the overlay of the same holder where it lies, else lays this one on top."""

    def lay(state: LinkState) -> LinkState:
        if any(other.holder == overlay.holder for other in state.overlays):
            laid = tuple(overlay if other.holder == overlay.holder else other for other in state.overlays)
        else:
            laid = (*state.overlays, overlay)
        return state.model_copy(update={"overlays": laid})

    return lay


def with_overlay_again(overlay: Overlay) -> Callable[[LinkState], LinkState]:
    """Replaces the overlay of the same holder where it lies. Raises OverlayGone where it does not lie any more."""

    def lay(state: LinkState) -> LinkState:
        if all(other.holder != overlay.holder for other in state.overlays):
            raise OverlayGone(f"{overlay.holder} was taken off its links")
        return with_overlay(overlay)(state)

    return lay


def without_overlay(holder: str) -> Callable[[LinkState], LinkState]:
    """Takes the holder's overlay away; nothing where it has none."""
    return lambda state: state.model_copy(
        update={"overlays": tuple(overlay for overlay in state.overlays if overlay.holder != holder)}
    )


def with_holder(holder: str) -> Callable[[LinkState], LinkState]:
    """Cuts the link off in the holder's name."""
    return lambda state: state.model_copy(update={"holders": state.holders | {holder}})


def without_holder(holder: str) -> Callable[[LinkState], LinkState]:
    """Takes the holder's cut away; the link stays cut off while another holds it."""
    return lambda state: state.model_copy(update={"holders": state.holders - {holder}})


def with_state(state: LinkState) -> Callable[[LinkState], LinkState]:
    """Sets base, overlays and holders."""
    return lambda _: state
