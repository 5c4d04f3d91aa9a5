"""The movers of this site and their sessions with other sites' movers.

The site with the greater name accepts: it makes keys and offers a session over the control channel; the other connects.
A session that breaks is offered again after a pause that grows while it does not come up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import structlog
import zmq
import zmq.asyncio

from syncer.site.home import Config
from syncer.wire import mover_protocol as protocol
from syncer.wire.control import Message, SessionClosed, SessionOffer

MOVER = "mover-udt"
FIRST_PAUSE_S = 0.3
LONGEST_PAUSE_S = 5.0
OPENING_S = 15.0
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


@dataclass
class _Session:
    site: str
    up: bool = False
    opened_at: float = field(default_factory=time.monotonic)
    progress_at: float = field(default_factory=time.monotonic)
    stats: protocol.SessionStats | None = None


@dataclass
class _Link:
    """One peer. ``number`` 0: no session."""

    connected: bool = False
    number: int = 0
    pause: float = FIRST_PAUSE_S
    offer_at: float = 0.0


class DataPlane:
    """Binds the movers' ROUTER in the run directory."""

    def __init__(self, config: Config, endpoint: str, listener: Listener) -> None:
        self._config = config
        self._listener = listener
        self._context = zmq.asyncio.Context()
        self._router = self._context.socket(zmq.ROUTER)
        for option, value in ((zmq.ROUTER_HANDOVER, 1), (zmq.LINGER, 500), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0)):
            self._router.setsockopt(option, value)
        self._router.bind(endpoint)
        os.chmod(endpoint.removeprefix("ipc://"), 0o600)  # noqa: PTH101
        self._incarnation = secrets.randbits(62) | 1
        self._pid = 0
        self._port = 0
        self._links: dict[str, _Link] = {}
        self._sessions: dict[int, _Session] = {}
        self._outbox: list[protocol.ToMover] = []
        self.tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._keep_open())]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self._router.close()
        self._context.term()

    def reconfigure(self, config: Config) -> None:
        """Sites were added or removed."""
        self._config = config

    @property
    def mover_pid(self) -> int:
        """0 while no mover has said hello."""
        return self._pid

    # peers

    def peer_connected(self, site: str) -> None:
        self._links[site] = _Link(connected=True)
        self._offer_due()

    def peer_disconnected(self, site: str) -> None:
        link = self._links.pop(site, None)
        if link is not None and link.number:
            self._drop(link.number, tell=False)

    def offered(self, site: str, offer: SessionOffer) -> None:
        """The peer's mover accepts a session: connect to it."""
        link, peer = self._links.get(site), self._config.peer(site)
        if link is None or peer is None or self._config.site > site or not self._pid:
            self._listener.say(site, SessionClosed(session=offer.session))
            return
        if link.number:
            self._drop(link.number, tell=False)
        link.number = offer.session
        self._open(site, offer.session, "connect", peer.address, offer.port, offer.receive_key, offer.send_key)

    def closed(self, site: str, session: int) -> None:
        """The session is over at the peer's end."""
        found = self._sessions.get(session)
        if found is not None and found.site == site:
            self._drop(session, tell=False)

    def session(self, site: str) -> int:
        """The session with a peer; 0: none."""
        link = self._links.get(site)
        return link.number if link is not None else 0

    def stats(self, site: str) -> protocol.SessionStats | None:
        """What the mover last reported of the session with a peer."""
        session = self._sessions.get(self.session(site))
        return session.stats if session is not None else None

    def watch_progress(self, owing: set[str]) -> None:
        """Close the sessions with these peers that have brought nothing for STALL_S; call about once a second."""
        now = time.monotonic()
        for number, session in list(self._sessions.items()):
            if session.site not in owing:
                session.progress_at = now
            elif session.up and now - session.progress_at > STALL_S:
                log.warning("a session stalls and is opened anew", site=session.site)
                self._drop(number, tell=True)

    # jobs

    def tell(self, message: protocol.ToMover) -> None:
        """Queue a message for the mover; ``flush`` sends."""
        self._outbox.append(message)

    def flush(self) -> None:
        """Send what was queued in one frame."""
        if self._outbox and self._pid:
            batch, self._outbox = self._outbox, []
            self._send(batch)
        else:
            self._outbox.clear()

    def _send(self, batch: list[protocol.ToMover]) -> None:
        with contextlib.suppress(zmq.Again):
            self._router.send_multipart([MOVER.encode(), protocol.encode(batch)], zmq.NOBLOCK)

    # sessions

    def _open(
        self, site: str, number: int, role: str, address: str, port: int, send_key: bytes, receive_key: bytes
    ) -> None:
        self._sessions[number] = _Session(site)
        self.tell(
            protocol.OpenSession(
                session=number,
                site=site,
                role=role,
                address=address,
                port=port,
                send_key=send_key,
                receive_key=receive_key,
                rate_bps=self._config.rate_bps,
            )
        )
        self.flush()

    def _drop(self, number: int, *, tell: bool) -> None:
        session = self._sessions.pop(number, None)
        if session is None:
            return
        self.tell(protocol.CloseSession(session=number))
        self.flush()
        link = self._links.get(session.site)
        if link is not None and link.number == number:
            link.number = 0
            link.offer_at = time.monotonic() + link.pause
            link.pause = FIRST_PAUSE_S if session.up else min(2 * link.pause, LONGEST_PAUSE_S)
        if session.up:
            self._listener.data_path_down(session.site)
        if tell:
            self._listener.say(session.site, SessionClosed(session=number))

    def _offer_due(self) -> None:
        now = time.monotonic()
        for number, session in list(self._sessions.items()):
            if not session.up and now - session.opened_at > OPENING_S:
                self._drop(number, tell=True)
        for site, link in self._links.items():
            if self._config.site > site and not link.number and self._port and now >= link.offer_at:
                link.number = secrets.randbits(62) | 1
                send_key, receive_key = secrets.token_bytes(32), secrets.token_bytes(32)
                self._open(site, link.number, "accept", "", 0, send_key, receive_key)
                self._listener.say(
                    site,
                    SessionOffer(session=link.number, port=self._port, send_key=send_key, receive_key=receive_key),
                )

    async def _keep_open(self) -> None:
        while True:
            await asyncio.sleep(FIRST_PAUSE_S)
            self._offer_due()

    # what the mover says

    async def _receive(self) -> None:
        while True:
            name, frame = await self._router.recv_multipart()
            try:
                messages = protocol.decode_from_mover(frame)
            except msgspec.DecodeError as error:
                log.error("a frame from a mover makes no sense", reason=str(error), mover=name.decode())
                continue
            for message in messages:
                self._handle(message)
            self.flush()

    def _handle(self, message: protocol.FromMover) -> None:
        match message:
            case protocol.Hello():
                self._greet(message)
            case protocol.Listening():
                self._port = message.port
                self._offer_due()
            case protocol.ListenFailed():
                log.error("the mover cannot listen", reason=message.reason)
            case _:
                session = self._sessions.get(message.session)
                if session is not None:
                    self._of_session(session, message)

    def _greet(self, hello: protocol.Hello) -> None:
        self.flush()
        self._send([protocol.Welcome(incarnation=self._incarnation)])
        if hello.pid == self._pid:
            return
        log.info("a mover is here", mover=hello.name, pid=hello.pid)
        self._pid, self._port = hello.pid, 0
        for number in list(self._sessions):
            self._drop(number, tell=True)
        self._outbox.clear()
        self.tell(protocol.Listen(address=self._config.address, port=self._config.data_port))

    def _of_session(self, session: _Session, message: protocol.FromMover) -> None:
        match message:
            case protocol.SessionUp():
                log.info("session up", site=session.site)
                session.up = True
                session.progress_at = time.monotonic()
                if (link := self._links.get(session.site)) is not None:
                    link.pause = FIRST_PAUSE_S
                self._listener.data_path_up(session.site)
            case protocol.SessionDown():
                log.info("session down", site=session.site, reason=message.reason)
                self._drop(message.session, tell=True)
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
                if session.stats is None or session.stats.content_received != message.content_received:
                    session.progress_at = time.monotonic()
                session.stats = message
