"""circusd on a clock that only goes forward.

Tornado, on which circusd runs, schedules its periodic checks by the wall clock: when that is set back by an hour,
circusd looks after no process for an hour, and one that dies stays dead.
"""

from __future__ import annotations

import time

from tornado.ioloop import IOLoop


def schedule_by_monotonic_clock() -> None:
    """Make every event loop of this process tell its time by a clock that nobody sets."""
    IOLoop.time = lambda self: time.monotonic()  # type: ignore[method-assign]


def main() -> None:
    """circusd; its configuration file is the only argument."""
    from circus.circusd import main as circusd

    schedule_by_monotonic_clock()
    circusd()


if __name__ == "__main__":
    main()
