"""The control channel: one ROUTER on which all sites are heard, one DEALER to each, over TCP with CURVE.

Keys are pinned: the ZAP handler admits the configured sites' keys alone and names each connection by its key, so a site
can't speak for another. Whether a peer is connected is decided by ``syncer.wire.stream`` and by silence.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Protocol

import structlog
import zmq
import zmq.asyncio
from zmq.utils import z85

from syncer.errors import InputError, WireError
from syncer.site.home import Config, PeerConfig
from syncer.wire import control
from syncer.wire.control import Frame, Heartbeat, Hello, Message
from syncer.wire.stream import Heard, Stream

HEARTBEAT_S = 1.0
SILENCE_S = 5.0
FIRST_REDIAL_S = 6.0
LONGEST_REDIAL_S = 20.0
QUEUE_LIMIT = 10_000

log = structlog.get_logger("control")


class Listener(Protocol):
    """Who is told what happens on the channel."""

    def hello(self, site: str) -> Hello: ...
    def peer_connected(self, site: str, hello: Hello) -> None: ...
    def peer_disconnected(self, site: str) -> None: ...
    def peer_says(self, site: str, message: Message) -> None: ...


class _Line:
    """This end of the channel to one peer."""

    def __init__(self, config: PeerConfig, dial: Callable[[PeerConfig], zmq.Socket[bytes]]) -> None:
        self.config = config
        self._dial = dial
        self.socket = dial(config)
        self.dialled_at = time.monotonic()
        self.redial_s = FIRST_REDIAL_S
        self.heard_at = float("-inf")
        self.stream = Stream(_number())
        self.outbox: list[Message] = []

    def redial(self) -> None:
        """Drop the connection with all that waits in it: its TCP may be backing off for minutes."""
        self.socket.close(linger=0)
        self.socket = self._dial(self.config)
        self.dialled_at = time.monotonic()
        self.outbox.clear()

    def send(self, messages: list[Message]) -> bool:
        try:
            self.socket.send(control.encode(self.stream.wrap(messages)), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True


class ControlPlane:
    """Binds ``config.address:control_port`` at once. Raises InputError when it can't."""

    def __init__(self, config: Config, secret: bytes, listener: Listener) -> None:
        self._config = config
        self._secret = secret
        self._listener = listener
        self._context = zmq.asyncio.Context()
        self._plain = zmq.Context(self._context)
        # Known from the start: ZeroMQ does not come back by itself after a refusal.
        self._names = {peer.key: peer.name for peer in config.sites}
        self._lines: dict[str, _Line] = {}
        self._zap = self._context.socket(zmq.REP)
        self._zap.bind("inproc://zeromq.zap.01")
        self._router = self._context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.CURVE_SERVER, 1),
            (zmq.CURVE_SECRETKEY, secret),
            (zmq.CURVE_PUBLICKEY, config.public_key.encode()),
            (zmq.ZAP_DOMAIN, b"syncer"),
            (zmq.LINGER, 0),
            (zmq.MAXMSGSIZE, control.FRAME_LIMIT),
            (zmq.HEARTBEAT_IVL, 2000),
            (zmq.HEARTBEAT_TIMEOUT, 10_000),
        ):
            self._router.setsockopt(option, value)
        address = f"tcp://{config.address}:{config.control_port}"
        try:
            self._router.bind(address)
        except zmq.ZMQError as error:
            raise InputError(
                f"cannot listen on {address}: {error}", hint="is the address this host's and the port free?"
            ) from error
        self.tasks = [asyncio.create_task(work()) for work in (self._admit, self._receive, self._keep_alive)]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for line in self._lines.values():
            line.socket.close(linger=0)
        self._router.close()
        self._zap.close()
        self._context.term()

    def set_peers(self, peers: list[PeerConfig]) -> None:
        """The sites to admit and to dial."""
        wanted = {peer.name: peer for peer in peers}
        self._names = {peer.key: peer.name for peer in peers}
        for name, line in list(self._lines.items()):
            if wanted.get(name) != line.config:
                self._disconnect(line)
                line.socket.close(linger=0)
                del self._lines[name]
        for name, peer in wanted.items():
            if name not in self._lines:
                self._lines[name] = _Line(peer, self._dial)
                self._greet(self._lines[name])

    def say(self, site: str, message: Message) -> None:
        """Queue a message; ``flush`` sends. Nothing is kept for a peer that is not connected."""
        line = self._lines.get(site)
        if line is not None and line.stream.connected:
            line.outbox.append(message)

    def flush(self) -> None:
        """Send what was said."""
        for line in self._lines.values():
            messages, line.outbox = line.outbox, []
            if not all(line.send(frame) for frame in control.in_frames(messages)):
                self._start_over(line)

    def _dial(self, peer: PeerConfig) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._plain.socket(zmq.DEALER)
        for option, value in (
            (zmq.CURVE_SERVERKEY, peer.key.encode()),
            (zmq.CURVE_SECRETKEY, self._secret),
            (zmq.CURVE_PUBLICKEY, self._config.public_key.encode()),
            (zmq.LINGER, 0),
            (zmq.SNDHWM, QUEUE_LIMIT),
            (zmq.RECONNECT_IVL, 200),
            (zmq.RECONNECT_IVL_MAX, 1000),
            (zmq.CONNECT_TIMEOUT, 3000),
            (zmq.HANDSHAKE_IVL, 5000),
            (zmq.HEARTBEAT_IVL, 2000),
            (zmq.HEARTBEAT_TIMEOUT, 10_000),
        ):
            socket.setsockopt(option, value)
        socket.connect(f"tcp://{peer.address}:{peer.control_port}")
        return socket

    async def _admit(self) -> None:
        """ZeroMQ's authentication protocol (RFC 27): the pinned keys, and nothing else."""
        while True:
            version, request, _domain, address, _identity, mechanism, *credentials = await self._zap.recv_multipart()
            key = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" and credentials else ""
            if key not in self._names:
                log.warning("refused a connection with an unknown key", reason=address.decode(errors="replace"))
                await self._zap.send_multipart([version, request, b"400", b"unknown key", b"", b""])
            else:
                await self._zap.send_multipart([version, request, b"200", b"OK", key.encode(), b""])

    async def _receive(self) -> None:
        while True:
            parts = await self._router.recv_multipart(copy=False)
            # By the key: one that was replaced since the connection was admitted speaks for nobody.
            site = self._names.get(str(parts[-1].get("User-Id")), "")
            line = self._lines.get(site)
            if line is None or len(parts) != 2:
                continue
            try:
                self._hear(line, control.decode(parts[-1].bytes))
            except WireError as error:
                log.error("a peer broke the protocol", site=site, reason=error.message)
                self._start_over(line)
            self.flush()

    def _hear(self, line: _Line, frame: Frame) -> None:
        verdict = line.stream.hear(frame)
        if verdict is Heard.BROKEN:
            log.info("lost the thread, starting over", site=line.config.name)
            self._disconnect(line)
            line.outbox.clear()
            line.stream.restart(_number())
            verdict = line.stream.hear(frame)
        if verdict is not Heard.NOTHING:
            line.heard_at = time.monotonic()
        if verdict is Heard.GREETED:
            self._greet(line)
        if verdict is Heard.CONNECTED:
            hello = line.stream.hello
            assert hello is not None
            if hello.site != line.config.name:
                raise WireError(f"says that it is {hello.site!r}")
            if hello.version != control.CONTROL_VERSION:
                raise WireError(f"speaks version {hello.version}, this site speaks {control.CONTROL_VERSION}")
            log.info("connected", site=line.config.name)
            line.redial_s = FIRST_REDIAL_S
            line.send([Heartbeat()])
            self._listener.peer_connected(line.config.name, hello)
        if verdict in (Heard.CONNECTED, Heard.ONGOING):
            for message in frame.messages:
                if not isinstance(message, Hello | Heartbeat):
                    self._listener.peer_says(line.config.name, message)

    def _greet(self, line: _Line) -> None:
        line.send([self._listener.hello(line.config.name)])

    def _start_over(self, line: _Line) -> None:
        self._disconnect(line)
        line.redial()
        line.stream.restart(_number())
        self._greet(line)

    def _disconnect(self, line: _Line) -> None:
        if line.stream.connected:
            line.stream.connected = False
            log.info("disconnected", site=line.config.name)
            self._listener.peer_disconnected(line.config.name)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            now = time.monotonic()
            for line in self._lines.values():
                if line.stream.connected and now - line.heard_at > SILENCE_S:
                    log.warning("silent", site=line.config.name)
                    self._start_over(line)
                elif line.stream.connected:
                    line.outbox.append(Heartbeat())
                elif now - line.dialled_at > line.redial_s:
                    # A handshake over a slow and lossy path takes its time: be more patient with each attempt.
                    line.redial_s = min(1.5 * line.redial_s, LONGEST_REDIAL_S)
                    self._start_over(line)
                else:
                    self._greet(line)
            self.flush()


def _number() -> int:
    return secrets.randbits(63) | 1
