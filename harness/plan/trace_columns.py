"""Building a course step by step: values on a regular grid, rounded as a trace file holds them. Pure."""

from __future__ import annotations

from harness.model.trace import SLOWEST_BPS, Course


class CourseBuilder:
    """Collects one direction's points. Rates are kept to three digits, delays to 0.1 ms, loss to 0.01%: far finer than
    any of them is known, and short in a file."""

    def __init__(self, step_us: int, buffer_bytes: int) -> None:
        self._step_us = step_us
        self._buffer_bytes = buffer_bytes
        self._rates: list[int] = []
        self._delays: list[int] = []
        self._jitters: list[int] = []
        self._losses: list[float] = []
        self._blocked: list[bool] = []

    def add(
        self, rate_bps: float, delay_ms: float, jitter_ms: float = 0.0, loss: float = 0.0, *, blocked: bool = False
    ) -> None:
        """The next step. A blocked one keeps the rate of the step before, which nothing passes anyway."""
        if blocked and self._rates:
            self._rates.append(self._rates[-1])
        else:
            self._rates.append(max(SLOWEST_BPS, _three_digits(rate_bps)))
        self._delays.append(round(delay_ms * 10) * 100)
        self._jitters.append(round(min(jitter_ms, delay_ms) * 10) * 100)
        self._losses.append(round(loss, 4))
        self._blocked.append(blocked)

    def course(self) -> Course:
        """What was collected; columns that are 0 throughout are left out."""
        return Course(
            at_us=tuple(place * self._step_us for place in range(len(self._rates))),
            rate_bps=tuple(self._rates),
            delay_us=tuple(self._delays),
            jitter_us=tuple(self._jitters) if any(self._jitters) else (),
            loss=tuple(self._losses) if any(self._losses) else (),
            blocked=tuple(self._blocked) if any(self._blocked) else (),
            buffer_bytes=self._buffer_bytes,
        ).compacted()


def _three_digits(value: float) -> int:
    scale: int = 10 ** max(0, len(str(int(value))) - 3)
    return round(value / scale) * scale
