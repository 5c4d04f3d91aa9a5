"""What every link of a lab is set to, and the log of all changes, shared by every process that works on the lab.

A link has a base impairment (the topology's, or the last change) and holders that cut it off (an outage, a partition).
In force is the base, as a black hole while anyone holds it: faults that overlap come apart in any order.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from harness.model.base import Value
from harness.model.impairment import Impairment
from harness.model.topology import Topology

LinkKey = tuple[str, str]
"""Source and destination."""


class LinkState(Value):
    """One directed link: its base, and who cuts it off."""

    base: Impairment
    holders: frozenset[str] = frozenset()

    @property
    def in_force(self) -> Impairment:
        """What the core must do."""
        return self.base.model_copy(update={"blocked": True}) if self.holders else self.base


class LoggedChange(Value):
    """One line of ``changes.jsonl``. ``at_s`` and ``planned_s`` are seconds on the host's monotonic clock."""

    source: str
    destination: str
    at_s: float
    planned_s: float | None
    reason: str
    before: LinkState
    after: LinkState


class LinkBook:
    """The state of all links, kept in step with a log file that several processes append to."""

    def __init__(self, topology: Topology, log: Path) -> None:
        self._log = log
        self._thread_lock = threading.RLock()
        self._offset = 0
        self._initial = {(link.source, link.destination): LinkState(base=link.impairment) for link in topology.links}
        self._states = dict(self._initial)

    @property
    def initial(self) -> Mapping[LinkKey, LinkState]:
        """What the topology says."""
        return self._initial

    def states(self) -> Mapping[LinkKey, LinkState]:
        """Every link as it is now."""
        with self._thread_lock:
            self._catch_up()
            return dict(self._states)

    @contextmanager
    def exclusive(self) -> Iterator[Mapping[LinkKey, LinkState]]:
        """Hold the book against other threads and processes; gives the states as they are now."""
        with self._thread_lock, self._log.open("ab") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            self._catch_up()
            yield dict(self._states)

    def append(self, changes: Iterable[LoggedChange]) -> None:
        """Log changes that were made; hold the book."""
        text = "".join(change.model_dump_json() + "\n" for change in changes)
        with self._log.open("ab+") as log:
            if log.tell():
                log.seek(-1, os.SEEK_END)
                if log.read(1) != b"\n":
                    # What a crash cut short must not swallow the next line.
                    log.write(b"\n")
            log.write(text.encode())
            log.flush()
            os.fdatasync(log.fileno())
        self._catch_up()

    def history(self) -> tuple[LoggedChange, ...]:
        """Every change since the lab came up."""
        if not self._log.exists():
            return ()
        return tuple(_entries(self._log.read_bytes()))

    def _catch_up(self) -> None:
        if not self._log.exists():
            return
        with self._log.open("rb") as log:
            log.seek(self._offset)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for entry in _entries(whole):
            self._states[entry.source, entry.destination] = entry.after


def _entries(text: bytes) -> Iterator[LoggedChange]:
    for line in text.splitlines():
        try:
            yield LoggedChange.model_validate_json(line)
        except ValidationError:
            # A line that a crash cut short: its change may be in the core, and the next change sets every attribute.
            continue


def with_base(impairment: Impairment) -> Callable[[LinkState], LinkState]:
    """Sets the base; holders stay."""
    return lambda state: state.model_copy(update={"base": impairment})


def with_holder(holder: str) -> Callable[[LinkState], LinkState]:
    """Cuts the link off in the holder's name."""
    return lambda state: state.model_copy(update={"holders": state.holders | {holder}})


def without_holder(holder: str) -> Callable[[LinkState], LinkState]:
    """Takes the holder's cut away; the link stays cut off while another holds it."""
    return lambda state: state.model_copy(update={"holders": state.holders - {holder}})


def with_state(state: LinkState) -> Callable[[LinkState], LinkState]:
    """Sets base and holders."""
    return lambda _: state
