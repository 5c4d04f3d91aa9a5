"""Which transport carries a link: by preference, then by what was measured under load, and never to and fro. Pure.

One object a link, at the site that opens its sessions. It is told what happens (``came_up``, ``failed``, ``ended``,
``sample``) and asked for the transport to use (``wanted``). Times are seconds of any clock that never goes back.

    the first is the preferred one that is not dead ──(loaded for ``trial_after_s``)──> trial of the other
    trial ──(loaded for ``trial_s``)──> the better one is kept, the other one only if better by ``advantage``;
            the next trial comes after ``retrial_s``, and twice that each time the same one wins
    a transport that does not come up, or breaks soon after, is dead for ``retry_s``, and twice that each time

Trials move the real traffic: nothing is sent only to measure unless a user asks for it. An idle link is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

AUTO = "auto"
FOR_A_TEST = "for a speed test"
PREFERENCE = ("udt", "tcp")
DIRECTIONS = ("there", "back")


@dataclass(frozen=True)
class Rules:
    """Seconds, but for ``advantage`` (goodput of the better one over the other's) and ``strikes``."""

    advantage: float = 1.15
    trial_after_s: float = 20.0
    trial_s: float = 12.0
    trial_idle_s: float = 600.0
    """A trial that finds no load for so long is over, undecided."""
    retrial_s: float = 1800.0
    longest_retrial_s: float = 6 * 3600.0
    retry_s: float = 30.0
    longest_retry_s: float = 600.0
    short_life_s: float = 20.0
    near_cap: float = 0.9
    """A transport that reaches this share of the user's cap leaves no other anything to win."""
    strikes: int = 2
    """So many make a transport dead. A session that did not come up in time is as many, one that broke is one."""
    settle_s: float = 3.0
    """Of load at first, while a transport finds its rate: not measured."""
    memory_s: float = 15.0
    """Older seconds of load count half as much, and so on."""
    enough_s: float = 1.5
    """Of load, before a measurement is compared."""
    fresh_s: float = 3600.0
    """Older measurements are shown, but not compared."""


class Sample(NamedTuple):
    """One second or so of a session in one direction. ``loaded``: the link, not the demand, set the pace."""

    direction: str
    seconds: float
    bytes: int
    loaded: bool
    rtt_us: int = 0
    packets: int = 0
    lost: int = 0

    @property
    def bits_per_second(self) -> int:
        return int(self.bytes * 8 / self.seconds)


@dataclass
class Measured:
    """Of one transport in one direction, under load."""

    seconds: float = 0.0
    bytes: float = 0.0
    packets: float = 0.0
    lost: float = 0.0
    rtt_us: int = 0
    at: float = float("-inf")

    @property
    def goodput_bps(self) -> float:
        return self.bytes * 8 / self.seconds if self.seconds else 0.0

    @property
    def loss(self) -> float:
        return self.lost / self.packets if self.packets else 0.0

    def add(self, sample: Sample, now: float, memory_s: float) -> None:
        kept = 0.5 ** (sample.seconds / memory_s)
        self.seconds = self.seconds * kept + sample.seconds
        self.bytes = self.bytes * kept + sample.bytes
        self.packets = self.packets * kept + sample.packets
        self.lost = self.lost * kept + sample.lost
        self.rtt_us = sample.rtt_us or self.rtt_us
        self.at = now


@dataclass
class _Health:
    strikes: int = 0
    dead_until: float = float("-inf")
    retry_s: float = 0.0
    reason: str = ""


@dataclass
class _Trial:
    transport: str
    active_at: float
    """When it began, came up or was last loaded."""
    loaded_s: float = 0.0


class TransportChoice:
    """``available`` are the transports that both sites run, in any order; it may change at any time."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.pinned = AUTO
        self.cap_bps = 0
        self.reason = "no session yet"
        """Of what ``wanted`` said last, in words for the user."""
        self.measured: dict[tuple[str, str], Measured] = {}
        self._available: tuple[str, ...] = ()
        self._holder = ""
        self._why = ""
        self._is_measured = False  # the holder, to be the better one
        self._forced = ""
        self._trial: _Trial | None = None
        self._health: dict[str, _Health] = {}
        self._loaded_s = 0.0
        self._sampled_at = float("-inf")
        self._unsettled_s = 0.0
        self._next_trial_at = float("-inf")
        self._retrial_s = self.rules.retrial_s / 2

    # what happens

    def set_available(self, transports: tuple[str, ...]) -> None:
        """Both sites run these."""
        self._available = tuple(sorted(transports, key=_rank))

    def pin(self, transport: str) -> None:
        """This one and no other; AUTO: as measured."""
        if transport != self.pinned:
            self.pinned = transport
            self._trial = None
            self._holder, self._is_measured = "", False

    def force(self, transport: str, now: float) -> None:
        """For a user's speed test, and over a pin and what was measured; "": no more, and what it measured counts."""
        if transport == self._forced:
            return
        self._forced = transport
        self._trial = None
        self._loaded_s = 0.0
        if not transport:
            self._compare(now)

    def came_up(self, transport: str, now: float) -> None:
        """A session of it is up."""
        self._loaded_s = 0.0
        self._unsettled_s = self.rules.settle_s
        if self._trial is not None and self._trial.transport == transport:
            self._trial.active_at = now

    def failed(self, transport: str, now: float, *, timed_out: bool, reason: str) -> None:
        """A session of it did not come up."""
        self._strike(transport, now, self.rules.strikes if timed_out else 1, reason)

    def ended(self, transport: str, now: float, *, lasted_s: float, broke: bool, reason: str = "") -> None:
        """A session of it that was up ended. ``broke``: not because anybody wanted it to."""
        health = self._health.setdefault(transport, _Health())
        if lasted_s >= self.rules.short_life_s:
            health.strikes, health.retry_s = 0, 0.0
        if broke:
            self._strike(transport, now, 1, reason)

    def sample(self, transport: str, now: float, sample: Sample) -> None:
        """What a session of it carried. Call for each direction that carried something, about once a second."""
        if not sample.loaded or sample.seconds <= 0:
            return
        if self._forced:
            # A speed test's own result follows.
            return
        if now > self._sampled_at:
            self._sampled_at = now
            self._unsettled_s -= sample.seconds
            if self._unsettled_s < 0:
                self._loaded_s += sample.seconds
                if self.trial == transport and self._trial is not None:
                    self._trial.loaded_s += sample.seconds
                    self._trial.active_at = now
        if self._unsettled_s >= 0:
            return
        known = self.measured.setdefault((transport, sample.direction), Measured())
        known.add(sample, now, self.rules.memory_s)

    def take_test(self, transport: str, now: float, sample: Sample) -> None:
        """What a whole speed test found: it takes the place of all that was known in its direction."""
        known = self.measured[transport, sample.direction] = Measured()
        known.add(sample, now, self.rules.memory_s)

    # what to use

    def wanted(self, now: float) -> str:
        """The transport that sessions are to use; "": none can be used."""
        if not self._available:
            self.reason = "no transport that both sites run"
            return ""
        if self._forced in self._available:
            self.reason = FOR_A_TEST
            return self._forced
        if self.pinned != AUTO:
            self._holder = self.pinned
            self.reason = "pinned"
            if self.is_dead(self.pinned, now):
                self.reason = f"pinned; {self._dead_in_words(self.pinned)}"
            if self.pinned not in self._available:
                self.reason = f"pinned to {self.pinned}, which not both sites run"
                return ""
            return self.pinned
        self._keep_holder(now)
        self._end_trial(now)
        self._begin_trial(now)
        self.reason = self._why
        if self._trial is not None:
            self.reason = f"trial of {self._trial.transport} under load"
            return self._trial.transport
        return self._holder

    @property
    def trial(self) -> str:
        """The transport that is on trial; "": none."""
        return self._trial.transport if self._trial is not None else ""

    def is_dead(self, transport: str, now: float) -> bool:
        """Whether it did not come up lately, and is left alone for a while."""
        health = self._health.get(transport)
        return health is not None and now < health.dead_until

    def is_suspect(self, transport: str) -> bool:
        """Whether a session of it broke or did not come up lately, though that may be chance."""
        health = self._health.get(transport)
        return health is not None and health.strikes > 0

    @property
    def has_alternative(self) -> bool:
        """Whether there is another transport to fall back to."""
        return self.pinned == AUTO and len(self._available) > 1

    # inside

    def _compare(self, now: float) -> None:
        """Decide by what was measured, if anything comparable was."""
        others = [transport for transport in self._available if transport != self._holder]
        if self.pinned != AUTO or self._holder not in self._available or not others:
            return
        better = self._better(others[0], self._holder, now)
        if better is not None:
            self._settle(others[0] if better else self._holder, now)

    def _keep_holder(self, now: float) -> None:
        """Stays with what was measured to be better as long as it lives; else the most preferred of the living."""
        alive = [transport for transport in self._available if not self.is_dead(transport, now)]
        dead = [transport for transport in self._available if transport not in alive]
        if self._is_measured and self._holder in alive:
            return
        self._is_measured = False
        # All dead: the one that may be tried again first.
        holder = alive[0] if alive else min(dead, key=lambda each: self._health[each].dead_until)
        if holder != self._holder:
            self._holder, self._trial = holder, None
        better = [each for each in dead if _rank(each) < _rank(holder)]
        self._why = self._dead_in_words(better[0]) if better else "preferred"
        if not alive:
            self._why = "no transport comes up; they are tried in turn"

    def _begin_trial(self, now: float) -> None:
        others = [each for each in self._available if each != self._holder and not self.is_dead(each, now)]
        if (
            self._trial is None
            and others
            and not self.is_dead(self._holder, now)
            and not self._is_near_cap(now)
            and self._loaded_s >= self.rules.trial_after_s
            and now >= self._next_trial_at
        ):
            self._trial = _Trial(others[0], now)
            # What it reached in an earlier trial is another time's.
            for direction in DIRECTIONS:
                self.measured.pop((others[0], direction), None)

    def _end_trial(self, now: float) -> None:
        trial = self._trial
        if trial is None:
            return
        if trial.transport not in self._available or self.is_dead(trial.transport, now):
            self._trial = None
            self._postpone_trial(now)
        elif trial.loaded_s >= self.rules.trial_s:
            better = self._better(trial.transport, self._holder, now)
            if better is None:
                self._trial = None
                self._postpone_trial(now)
            else:
                self._settle(trial.transport if better else self._holder, now)
        elif now - trial.active_at > self.rules.trial_idle_s:
            self._trial = None
            self._postpone_trial(now)

    def _better(self, challenger: str, holder: str, now: float) -> bool | None:
        """By goodput in the directions that both were measured in; None: in none."""
        there = [
            (mine, theirs)
            for direction in DIRECTIONS
            if (mine := self._comparable(challenger, direction, now)) is not None
            and (theirs := self._comparable(holder, direction, now)) is not None
        ]
        if not there:
            return None
        return sum(mine for mine, _ in there) > self.rules.advantage * sum(theirs for _, theirs in there)

    def _comparable(self, transport: str, direction: str, now: float) -> float | None:
        known = self.measured.get((transport, direction))
        if known is None or known.seconds < self.rules.enough_s or now - known.at > self.rules.fresh_s:
            return None
        return known.goodput_bps

    def _settle(self, winner: str, now: float) -> None:
        """End of a comparison."""
        loser = next(each for each in self._available if each != winner)
        if winner != self._holder:
            self._retrial_s = self.rules.retrial_s / 2
        self._postpone_trial(now)
        self._trial = None
        self._holder, self._is_measured = winner, True
        self._why = f"measured: {self._in_words(winner)}; {self._in_words(loser)}"

    def _postpone_trial(self, now: float) -> None:
        self._retrial_s = min(2 * self._retrial_s, self.rules.longest_retrial_s)
        self._next_trial_at = now + self._retrial_s
        self._loaded_s = 0.0

    def _is_near_cap(self, now: float) -> bool:
        reached = [self._comparable(self._holder, direction, now) or 0.0 for direction in DIRECTIONS]
        return bool(self.cap_bps) and max(reached) >= self.rules.near_cap * self.cap_bps

    def _dead_in_words(self, transport: str) -> str:
        return f"{transport} does not come up ({self._health[transport].reason})"

    def _in_words(self, transport: str) -> str:
        parts = [
            f"{known.goodput_bps / 1e6:.1f} Mbit/s {direction}"
            for direction in DIRECTIONS
            if (known := self.measured.get((transport, direction))) is not None
        ]
        return f"{transport} {' and '.join(parts) or 'not measured'}"

    def _strike(self, transport: str, now: float, strikes: int, reason: str) -> None:
        health = self._health.setdefault(transport, _Health())
        health.strikes += strikes
        if health.strikes >= self.rules.strikes:
            health.retry_s = min(2 * health.retry_s or self.rules.retry_s, self.rules.longest_retry_s)
            health.dead_until = now + health.retry_s
            health.reason = reason
            health.strikes = 0


def _rank(transport: str) -> int:
    return PREFERENCE.index(transport) if transport in PREFERENCE else len(PREFERENCE)
