"""circusd goes on looking after its processes when the wall clock is set back."""

from __future__ import annotations

import subprocess
import sys

CHECKS_AFTER_A_JUMP = """
import asyncio, time
from tornado.ioloop import PeriodicCallback
from syncer.site.circusd_process import schedule_by_monotonic_clock

schedule_by_monotonic_clock()

async def checks() -> None:
    seen = asyncio.Queue()
    check = PeriodicCallback(lambda: seen.put_nowait(True), 10)
    check.start()
    await asyncio.wait_for(seen.get(), 5)
    right = time.time
    time.time = lambda: right() - 3600
    for _ in range(3):
        await asyncio.wait_for(seen.get(), 5)

asyncio.run(checks())
"""


def test_checks_go_on_when_the_clock_is_set_back() -> None:
    done = subprocess.run([sys.executable, "-c", CHECKS_AFTER_A_JUMP], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
