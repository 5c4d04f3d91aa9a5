"""Whether all sites agree: surveys of every site, until two in a row find the same and nothing left to do.

One survey is not enough: what it found may have been on its way while it was taken. Two that are the same, each with
every site idle and each index received everywhere to its end, leave no room for that. The first survey has every site
scan its folder, so that all writes that were finished before it began are among what is agreed on.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

from syncer.wire.control import Survey, SurveyReply

if TYPE_CHECKING:
    from syncer.site.coordinator import Coordinator

SCANNING = "scanning its folder"
SILENT = "does not answer"
PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5


class Agreement:
    """Asks and answers surveys for a coordinator."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._tokens = itertools.count(1)
        self._waiting: dict[tuple[str, int], asyncio.Future[SurveyReply]] = {}

    # answering

    async def answer(self, site: str, survey: Survey) -> None:
        """Reply to a peer's survey, after a scan if it asks for one."""
        if survey.scan:
            await self._coordinator.scanner.full_scan()
        self._coordinator.say(site, self._own(survey.token))

    def _own(self, token: int) -> SurveyReply:
        coordinator = self._coordinator
        received = {
            name: peer.their_durable if peer.connected else -1 for name, peer in coordinator.replica.peers.items()
        }
        return SurveyReply(token=token, last_seq=coordinator.index.last_seq, idle=coordinator.idle, received=received)

    # asking

    async def confirm(self, deadline: float, *, scanned: bool) -> dict[str, Any]:
        """Whether all agree before ``deadline`` (monotonic): ``in_sync``, ``lagging`` (site to reason) if not, and
        ``scanned``: every site has scanned, so that a repeated call need not ask for it."""
        before: dict[str, int] | None = None
        pause = PAUSE_S
        lagging: dict[str, str] = {}
        while True:
            replies, lagging = await self._survey(deadline, scan=not scanned)
            scanned = scanned or not lagging
            if not lagging:
                lagging = _find_lagging(replies)
            now = {site: reply.last_seq for site, reply in replies.items()}
            if not lagging and now == before:
                return {"in_sync": True, "lagging": {}, "scanned": True}
            before = None if lagging else now
            if time.monotonic() + pause >= deadline:
                return {"in_sync": False, "lagging": lagging, "scanned": scanned}
            if lagging:
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, LONGEST_PAUSE_S)

    async def _survey(self, deadline: float, *, scan: bool) -> tuple[dict[str, SurveyReply], dict[str, str]]:
        coordinator = self._coordinator
        replies: dict[str, SurveyReply] = {}
        lagging = {name: "not connected" for name, peer in coordinator.replica.peers.items() if not peer.connected}
        if not coordinator.ready:
            lagging[coordinator.config.site] = "scanning its folder for the first time"
        if lagging:
            return {}, lagging
        token = next(self._tokens)
        asked = {}
        for name in coordinator.replica.peers:
            asked[name] = self._waiting[name, token] = asyncio.get_running_loop().create_future()
            coordinator.say(name, Survey(token=token, scan=scan))
        waiting: set[asyncio.Future[Any]] = set(asked.values())
        scanning = asyncio.ensure_future(coordinator.scanner.full_scan()) if scan else None
        if scanning is not None:
            waiting.add(scanning)
        if waiting:
            await asyncio.wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
        if scanning is not None and not scanning.done():
            scanning.cancel()
            lagging[coordinator.config.site] = SCANNING
        for name, future in asked.items():
            self._waiting.pop((name, token), None)
            if future.done() and not future.cancelled():
                replies[name] = future.result()
            else:
                future.cancel()
                lagging[name] = SILENT
        replies[coordinator.config.site] = self._own(token)
        return replies, lagging

    def replied(self, site: str, reply: SurveyReply) -> None:
        """A peer's answer arrived."""
        future = self._waiting.get((site, reply.token))
        if future is not None and not future.done():
            future.set_result(reply)

    def peer_disconnected(self, site: str) -> None:
        """It will not answer."""
        for (name, _), future in self._waiting.items():
            if name == site:
                future.cancel()


def _find_lagging(replies: dict[str, SurveyReply]) -> dict[str, str]:
    lagging = {site: "busy" for site, reply in replies.items() if not reply.idle}
    for site, reply in replies.items():
        for other, seq in reply.received.items():
            if other not in replies or site in lagging:
                continue
            if seq < 0:
                lagging[site] = f"not connected to {other}"
            elif seq != replies[other].last_seq:
                lagging[site] = f"has {seq} of {replies[other].last_seq} changes of {other}"
    return lagging
