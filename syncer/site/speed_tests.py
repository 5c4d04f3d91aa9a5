"""Speed tests that a user asked for: a link's session is filled in each direction while files go on.

A test of several transports moves the link from one to the next and back to the better one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncer.core.transport_choice import FOR_A_TEST
from syncer.site.home import TRANSPORTS
from syncer.wire import mover_protocol as protocol
from syncer.wire.control import SpeedMeasured

if TYPE_CHECKING:
    from syncer.site.data_plane import DataPlane

SETTLE_S = 5.0
CHANGE_S = 20.0
"""How long a transport's session may take to come up."""

IDLE_S = 2.5
"""Before the load, for the round trip time of the idle link: two reports of the mover."""

RESULT_S = 20.0
"""How long after a direction's time its result may take: what waits in the buffers of a slow link comes first."""

KEPT_S = 60.0
"""A test that nobody asks about any more is stopped and forgotten."""


@dataclass
class _Test:
    site: str
    transports: list[str]
    seconds: float
    phase: str = "starting"
    rows: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False
    choice: str | None = None
    asked_at: float = field(default_factory=time.monotonic)
    number: int = 0
    result: asyncio.Future[protocol.SpeedResult] | None = None
    reports: list[tuple[float, protocol.SessionStats]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class SpeedTests:
    """At most one at a time for each site."""

    def __init__(self, data: DataPlane) -> None:
        self._data = data
        self._tests: dict[int, _Test] = {}

    async def close(self) -> None:
        tasks = [test.task for test in self._tests.values() if test.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def start(self, site: str, transport: str, seconds: float) -> dict[str, Any]:
        """``transport``: "" for the one in use, ``all``, or a name. The test's number, or what is wrong."""
        current = self._data.transport(site)
        if not current:
            return {"error": f"{site} is not connected", "hint": "see: syncer status"}
        for number, test in list(self._tests.items()):
            if test.done and time.monotonic() - test.asked_at > KEPT_S:
                del self._tests[number]
            elif not test.done and test.site == site:
                return {"error": f"a speed test with {site} is running already", "hint": "wait for its end"}
        # The one in use first: it is warm.
        names = sorted(TRANSPORTS, key=lambda each: each != current) if transport == "all" else [transport or current]
        number = secrets.randbits(62) | 1
        test = self._tests[number] = _Test(site, names, seconds)
        test.task = asyncio.create_task(self._run(test))
        return {"test": number}

    def progress(self, number: int) -> dict[str, Any]:
        """How far it is; with ``done``, the whole result."""
        test = self._tests.get(number)
        if test is None:
            return {"error": "the engine was restarted meanwhile", "hint": "test again"}
        test.asked_at = time.monotonic()
        now = self._rates_now(test)
        return {"phase": test.phase, "done": test.done, "rows": test.rows, "choice": test.choice, **now}

    def stop(self, number: int) -> dict[str, Any]:
        """End it now."""
        test = self._tests.pop(number, None)
        if test is not None and test.task is not None:
            test.task.cancel()
        return {}

    def stats(self, site: str, stats: protocol.SessionStats) -> None:
        """The mover reported of the session with a site."""
        for test in self._tests.values():
            if test.site == site and not test.done:
                test.reports.append((time.monotonic(), stats))

    def result(self, message: protocol.SpeedResult) -> None:
        """The mover reported the end of one direction."""
        for test in self._tests.values():
            if test.number == message.test and test.result is not None and not test.result.done():
                test.result.set_result(message)

    async def _run(self, test: _Test) -> None:
        try:
            for transport in test.transports:
                row: dict[str, Any] = {"transport": transport}
                test.rows.append(row)
                await self._test_transport(test, transport, row)
        finally:
            self._stop_direction(test)
            self._data.force(test.site, "")
            with contextlib.suppress(asyncio.CancelledError):
                await self._settles(test)
            test.choice = self._data.why(test.site)
            test.phase, test.done = "done", True

    async def _test_transport(self, test: _Test, transport: str, row: dict[str, Any]) -> None:
        test.phase = f"waiting for a {transport} session"
        self._data.force(test.site, transport)
        if not await self._becomes_current(test, transport):
            row["error"] = f"no {transport} session came up in {CHANGE_S:.0f} s"
            return
        test.phase = f"{transport}: idle"
        test.reports.clear()
        await asyncio.sleep(IDLE_S)
        rtts = [rtt for _, stats in test.reports for rtt in (stats.rtt_us, stats.min_rtt_us) if rtt]
        row["rtt_idle_us"] = min(rtts, default=0)
        for direction, words in (("there", "to it"), ("back", "from it")):
            test.phase = f"{transport}: {words}"
            row[direction] = await self._test_direction(test, transport, direction)

    async def _settles(self, test: _Test) -> None:
        """Wait until the site that chooses has said why it uses what it uses now."""
        deadline = time.monotonic() + SETTLE_S
        while FOR_A_TEST in self._data.why(test.site) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    async def _becomes_current(self, test: _Test, transport: str) -> bool:
        deadline = time.monotonic() + CHANGE_S
        while self._data.transport(test.site) != transport:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    async def _test_direction(self, test: _Test, transport: str, direction: str) -> dict[str, Any]:
        test.number, test.result = secrets.randbits(62) | 1, asyncio.get_running_loop().create_future()
        test.reports.clear()
        session = self._data.session(test.site)
        message = protocol.SpeedTest(session=session, test=test.number, direction=direction, seconds=test.seconds)
        self._data.tell(message)
        self._data.flush()
        deadline = time.monotonic() + test.seconds + RESULT_S
        while not test.result.done():
            if time.monotonic() > deadline or self._data.session(test.site) != session:
                self._stop_direction(test)
                return {"error": "the session ended" if time.monotonic() <= deadline else "no result came in time"}
            if time.monotonic() - test.asked_at > KEPT_S:
                raise asyncio.CancelledError
            await asyncio.wait({test.result}, timeout=0.2)
        result = test.result.result()
        row: dict[str, Any] = {
            "bytes": result.bytes,
            "seconds": result.microseconds / 1e6,
            "goodput_bps": int(result.bytes * 8e6 / result.microseconds) if result.microseconds else 0,
        }
        if test.reports:
            first, last = test.reports[0][1], test.reports[-1][1]
            row["rtt_loaded_us"] = int(statistics.median(stats.rtt_us for _, stats in test.reports))
            if direction == "there":
                # The other direction's are known at the other site.
                row["rate_cap_bps"] = last.rate_cap_bps
                row["congestion_control"] = last.congestion_control
                sent = last.packets_sent - first.packets_sent
                row["packets_sent"] = sent
                row["packets_retransmitted"] = last.packets_retransmitted - first.packets_retransmitted
                row["loss"] = round((last.packets_lost - first.packets_lost) / sent, 5) if sent > 0 else 0.0
        if result.microseconds:
            self._data.measured(
                test.site,
                SpeedMeasured(
                    transport=transport,
                    there=direction == "there",
                    bytes=result.bytes,
                    microseconds=result.microseconds,
                    rtt_us=row.get("rtt_loaded_us", 0),
                ),
            )
        return row

    def _stop_direction(self, test: _Test) -> None:
        session = self._data.session(test.site)
        if test.result is not None and not test.result.done() and session:
            self._data.tell(protocol.StopSpeedTest(session=session, test=test.number))
            self._data.flush()

    @staticmethod
    def _rates_now(test: _Test) -> dict[str, Any]:
        """Over the last second or so, for who watches."""
        with contextlib.suppress(IndexError):
            (since, before), (at, now) = test.reports[-2], test.reports[-1]
            seconds = max(at - since, 1e-3)
            return {
                "sending_bps": int((now.bytes_sent - before.bytes_sent) * 8 / seconds),
                "receiving_bps": int((now.bytes_received - before.bytes_received) * 8 / seconds),
                "rtt_us": now.rtt_us,
            }
        return {}
