"""The sessions of this site's movers with other sites' movers, one a link, over the transport that suits it.

The site with the greater name accepts: it chooses the transport, makes keys and offers a session over the control
channel; the other connects. A session that breaks is offered again after a pause that grows while it does not come up.
Another transport's session is brought up beside the one in use, which is closed only then.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Protocol

import structlog

from syncer.core.transport_choice import Sample, TransportChoice
from syncer.site.home import AUTO, Config
from syncer.site.link_samples import samples_between
from syncer.site.link_state import FIRST_PAUSE_S, Link, Session
from syncer.site.mover_hub import MoverHub
from syncer.site.speed_tests import SpeedTests
from syncer.wire import mover_protocol as protocol
from syncer.wire.control import REASON_LIMIT, Message, SessionClosed, SessionOffer, SpeedMeasured, Transports

LONGEST_PAUSE_S = 5.0
OPENING_S = 15.0
OPENING_WITH_ANOTHER_S = 5.0
OPENING_SUSPECT_S = 3.5
"""A session that is not up after so long is given up; sooner when another transport may do better, and sooner still
when one of its transport broke just now. On a path of 300 ms and some loss it takes two seconds."""

STALL_S = 15.0
"""A session that owes content and brings none for so long is opened anew, whatever the cause."""

log = structlog.get_logger("data")


class Listener(Protocol):
    """Who is told what the movers report."""

    def data_path_up(self, site: str) -> None: ...
    def data_path_down(self, site: str) -> None: ...
    def received(self, site: str, job: int) -> None: ...
    def receive_failed(self, site: str, job: int, code: str, detail: str) -> None: ...
    def send_failed(self, site: str, job: int) -> None: ...
    def say(self, site: str, message: Message) -> None: ...


class DataPlane:
    """``endpoint``: where the movers find this coordinator."""

    def __init__(self, config: Config, endpoint: str, listener: Listener) -> None:
        self.config = config
        self._listener = listener
        self._links: dict[str, Link] = {}
        self._choices: dict[str, TransportChoice] = {}
        self._sessions: dict[int, Session] = {}
        self._owing: set[str] = set()
        self._forced: dict[str, str] = {}
        self.hub = MoverHub(endpoint, config.address, config.data_port, self)
        self.speed_tests = SpeedTests(self)
        self.tasks = [self.hub.task, asyncio.create_task(self._keep_open())]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.speed_tests.close()
        await self.hub.close()

    def reconfigure(self, config: Config) -> None:
        """Sites were added or removed, or a link's cap or transport was changed."""
        before, self.config = self.config, config
        for session in self._sessions.values():
            rate = config.rate_to(session.site)
            if rate != before.rate_to(session.site):
                self.hub.tell(session.transport, protocol.SetRate(session=session.number, rate_bps=rate))
        self.hub.flush()
        self._review()

    # peers

    def peer_connected(self, site: str) -> None:
        self._links[site] = Link()
        self._review()

    def peer_disconnected(self, site: str) -> None:
        self._links.pop(site, None)
        for session in [each for each in self._sessions.values() if each.site == site]:
            self._end(session.number, tell=False)

    def peer_transports(self, site: str, message: Transports) -> None:
        """What the peer runs and wants."""
        if (link := self._links.get(site)) is not None:
            link.peer = message
            self._review()

    def peer_measured(self, site: str, message: SpeedMeasured) -> None:
        """A user at the peer tested this link's speed."""
        self._take_test(site, message.transport, "back" if message.there else "there", message)

    def _take_test(self, site: str, transport: str, direction: str, found: SpeedMeasured) -> None:
        sample = Sample(direction, found.microseconds / 1e6, found.bytes, loaded=True, rtt_us=found.rtt_us)
        self.choice(site).take_test(transport, time.monotonic(), sample)

    def offered(self, site: str, offer: SessionOffer) -> None:
        """The peer's mover accepts a session: connect to it."""
        link, peer = self._links.get(site), self.config.peer(site)
        if link is None or peer is None or self.config.site > site or not self.hub.port(offer.transport):
            self._listener.say(site, SessionClosed(session=offer.session))
            return
        if link.candidate:
            self._end(link.candidate, tell=False)
        link.candidate = offer.session
        self._open(
            Session(offer.session, site, offer.transport),
            *("connect", peer.address, offer.port, offer.receive_key, offer.send_key),
        )

    def closed(self, site: str, session: int) -> None:
        """The session is over at the peer's end."""
        found = self._sessions.get(session)
        if found is not None and found.site == site:
            self._end(session, tell=False, broke=not found.up, reason="the other site closed it")

    def session(self, site: str) -> int:
        """The session that is in use with a peer; 0: none."""
        link = self._links.get(site)
        return link.current if link is not None else 0

    def knows(self, site: str, session: int) -> bool:
        """Whether the session is one with this peer; it may be coming up, which the peer can know first."""
        found = self._sessions.get(session)
        return found is not None and found.site == site

    def transport(self, site: str) -> str:
        """Of the session in use; "": none."""
        session = self._sessions.get(self.session(site))
        return session.transport if session is not None else ""

    def stats(self, site: str) -> protocol.SessionStats | None:
        """What the mover last reported of the session with a peer."""
        session = self._sessions.get(self.session(site))
        return session.stats if session is not None else None

    def rates_now(self, site: str) -> tuple[int, int]:
        """Bits per second that the session sends and receives, over its last second."""
        session = self._sessions.get(self.session(site))
        return session.rates_bps if session is not None else (0, 0)

    def watch_progress(self, owing: set[str]) -> None:
        """Close the sessions with these peers that have brought nothing for STALL_S; call about once a second."""
        now = time.monotonic()
        self._owing = owing
        for number, session in list(self._sessions.items()):
            if session.site not in owing or not session.up:
                session.progress_at = now
            elif now - session.progress_at > STALL_S:
                log.warning("a session stalls and is opened anew", site=session.site)
                self._end(number, tell=True, broke=True, reason="it stalled")

    # the choice of the transport

    def choice(self, site: str) -> TransportChoice:
        """What is known of the transports to a site; kept while the peer comes and goes."""
        return self._choices.setdefault(site, TransportChoice())

    def decides(self, site: str) -> bool:
        """Whether this site chooses the link's transport, not the other one."""
        return self.config.site > site

    def why(self, site: str) -> str:
        """Why the link has the transport that it has, for users."""
        link = self._links.get(site)
        if link is None:
            return "not connected"
        if self.decides(site):
            reason = "the other site is asked" if link.peer is None else self.choice(site).reason
        else:
            reason = f"chosen by {site}, in its words: {link.peer.reason if link.peer is not None else 'nothing yet'}"
        problems = [f"{each.name}: {each.problem}" for each in self.hub.movers.values() if each.problem]
        return "; ".join([reason, *problems])

    def force(self, site: str, transport: str) -> None:
        """For a speed test: use this transport for now; "": as before."""
        self._forced.pop(site, None)
        if transport:
            self._forced[site] = transport
        self._review()

    def measured(self, site: str, found: SpeedMeasured) -> None:
        """A speed test with a site was finished here: both sites take its result."""
        self._take_test(site, found.transport, "there" if found.there else "back", found)
        self._listener.say(site, found)

    # jobs

    def tell(self, message: protocol.ToSession) -> None:
        """Queue a message for the mover of its session; ``flush`` sends. Nothing if the session is over."""
        if (session := self._sessions.get(message.session)) is not None:
            self.hub.tell(session.transport, message)

    def flush(self) -> None:
        """Send what was queued in one frame a mover."""
        self.hub.flush()

    # sessions

    def _open(self, session: Session, role: str, address: str, port: int, send_key: bytes, receive_key: bytes) -> None:
        self._sessions[session.number] = session
        self.hub.tell(
            session.transport,
            protocol.OpenSession(
                session=session.number,
                site=session.site,
                role=role,
                address=address,
                port=port,
                send_key=send_key,
                receive_key=receive_key,
                rate_bps=self.config.rate_to(session.site),
            ),
        )
        self.flush()

    def _end(
        self, number: int, *, tell: bool, broke: bool = False, timed_out: bool = False, reason: str = "closed"
    ) -> None:
        """``broke``: nobody wanted it to end, which speaks against its transport."""
        session = self._sessions.pop(number, None)
        if session is None:
            return
        self.hub.tell(session.transport, protocol.CloseSession(session=number))
        self.flush()
        now, choice = time.monotonic(), self.choice(session.site)
        if session.up:
            choice.ended(session.transport, now, lasted_s=now - session.up_at, broke=broke, reason=reason)
        elif broke:
            log.info("a session did not come up", site=session.site, transport=session.transport, reason=reason)
            choice.failed(session.transport, now, timed_out=timed_out, reason=reason)
        link = self._links.get(session.site)
        if link is not None and number in (link.current, link.candidate):
            link.offer_at = now + link.pause
            link.pause = FIRST_PAUSE_S if session.up else min(2 * link.pause, LONGEST_PAUSE_S)
        was_current = link is None or number == link.current
        if link is not None:
            link.current, link.candidate = (each if each != number else 0 for each in (link.current, link.candidate))
        if session.up and was_current:
            self._listener.data_path_down(session.site)
        if tell:
            self._listener.say(session.site, SessionClosed(session=number))

    def _review(self) -> None:
        """Say what changed here, give up what does not come up, and offer what is wanted."""
        now = time.monotonic()
        for site, link in list(self._links.items()):
            choice = self.choice(site)
            candidate = self._sessions.get(link.candidate)
            if candidate is not None:
                patience = OPENING_S
                if self.decides(site) and choice.has_alternative:
                    is_suspect = choice.is_suspect(candidate.transport)
                    patience = OPENING_SUSPECT_S if is_suspect else OPENING_WITH_ANOTHER_S
                if now - candidate.opened_at > patience:
                    reason = f"not up after {patience:.0f} s"
                    self._end(candidate.number, tell=True, broke=True, timed_out=True, reason=reason)
            if self.decides(site) and link.peer is not None:
                self._choose(site, link, link.peer, now)
            self._say_transports(site, link)

    def _say_transports(self, site: str, link: Link) -> None:
        mine = Transports(
            running=self.hub.running,
            pinned=self.config.transport_to(site),
            test=self._forced.get(site, ""),
            reason=self.choice(site).reason[:REASON_LIMIT] if self.decides(site) else "",
        )
        if mine != link.said:
            link.said = mine
            self._listener.say(site, mine)

    def _choose(self, site: str, link: Link, peer: Transports, now: float) -> None:
        choice, own_pin = self.choice(site), self.config.transport_to(site)
        choice.set_available(tuple(each for each in self.hub.running if each in peer.running))
        choice.pin(own_pin if own_pin != AUTO else peer.pinned)
        choice.force(self._forced.get(site, "") or peer.test, now)
        choice.cap_bps = self.config.rate_to(site)
        wanted, current = choice.wanted(now), self._sessions.get(link.current)
        candidate = self._sessions.get(link.candidate)
        if candidate is not None and candidate.transport != wanted:
            self._end(candidate.number, tell=True)
        if not wanted or link.candidate or now < link.offer_at or not self.hub.port(wanted):
            return
        if current is not None and current.transport == wanted:
            return
        link.candidate = secrets.randbits(62) | 1
        send_key, receive_key = secrets.token_bytes(32), secrets.token_bytes(32)
        self._open(Session(link.candidate, site, wanted), "accept", "", 0, send_key, receive_key)
        self._listener.say(
            site,
            SessionOffer(
                session=link.candidate,
                transport=wanted,
                port=self.hub.port(wanted),
                send_key=send_key,
                receive_key=receive_key,
            ),
        )

    async def _keep_open(self) -> None:
        while True:
            await asyncio.sleep(FIRST_PAUSE_S)
            self._review()

    # what the movers say (mover_hub.Listener)

    def mover_restarted(self, transport: str) -> None:
        for session in list(self._sessions.values()):
            if session.transport == transport:
                self._end(session.number, tell=True)

    def mover_listens(self, transport: str) -> None:
        self._review()

    def mover_says(self, message: protocol.FromMover) -> None:
        session = self._sessions.get(getattr(message, "session", 0))
        if session is None:
            return
        match message:
            case protocol.SessionUp():
                self._came_up(session)
            case protocol.SessionDown():
                log.info("session down", site=session.site, transport=session.transport, reason=message.reason)
                self._end(session.number, tell=True, broke=True, reason=message.reason)
            case protocol.Received():
                session.progress_at = time.monotonic()
                for job in message.jobs:
                    self._listener.received(session.site, job)
            case protocol.ReceiveFailed():
                log.warning("receiving failed", site=session.site, reason=f"{message.code} {message.detail}")
                self._listener.receive_failed(session.site, message.job, message.code, message.detail)
            case protocol.SendFailed():
                log.warning("sending failed", site=session.site, reason=f"{message.code} {message.detail}")
                self._listener.send_failed(session.site, message.job)
            case protocol.SessionStats():
                self._take_stats(session, message)
            case protocol.SpeedResult():
                self.speed_tests.result(message)

    def _came_up(self, session: Session) -> None:
        now, link = time.monotonic(), self._links.get(session.site)
        if link is None:
            return
        log.info("session up", site=session.site, transport=session.transport)
        session.up, session.up_at, session.progress_at = True, now, now
        before, link.current, link.candidate = link.current, session.number, 0
        link.pause = FIRST_PAUSE_S
        self.choice(session.site).came_up(session.transport, now)
        if before:
            self._listener.data_path_down(session.site)
            self._end(before, tell=True)
        self._listener.data_path_up(session.site)

    def _take_stats(self, session: Session, stats: protocol.SessionStats) -> None:
        now, before = time.monotonic(), session.stats
        if before is None or before.content_received != stats.content_received:
            session.progress_at = now
        owed = session.site in self._owing
        if before is not None and session.number == self.session(session.site):
            there, back = samples_between(before, stats, now - session.stats_at, owed=owed and session.owed)
            session.rates_bps = there.bits_per_second, back.bits_per_second
            for sample in (there, back):
                self.choice(session.site).sample(session.transport, now, sample)
        session.stats, session.stats_at, session.owed = stats, now, owed
        self.speed_tests.stats(session.site, stats)
