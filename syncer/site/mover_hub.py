"""The movers of this site, one a transport: who is there, where it listens, and the socket that they are told by."""

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

from syncer.site.home import TRANSPORTS
from syncer.wire import mover_protocol as protocol

START_S = 4.0
"""How long after the coordinator a mover may come and still be waited for."""

log = structlog.get_logger("data")


class Listener(Protocol):
    """Who is told what the movers report."""

    def mover_restarted(self, transport: str) -> None: ...
    def mover_listens(self, transport: str) -> None: ...
    def mover_says(self, message: protocol.FromMover) -> None: ...


@dataclass
class Mover:
    """``pid`` and ``port`` 0: not known (yet). ``problem``: why it does not listen."""

    transport: str
    pid: int = 0
    port: int = 0
    problem: str = ""
    outbox: list[protocol.ToMover] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its identity on the socket, and its role in ``status`` and the logs."""
        return f"mover-{self.transport}"


class MoverHub:
    """Binds the movers' ROUTER at ``endpoint``; each mover is told to listen on ``address`` and ``port``."""

    def __init__(self, endpoint: str, address: str, port: int, listener: Listener) -> None:
        self._listen = protocol.Listen(address=address, port=port)
        self._listener = listener
        self._incarnation = secrets.randbits(62) | 1
        self._began = time.monotonic()
        self.movers = {transport: Mover(transport) for transport in TRANSPORTS}
        self._context = zmq.asyncio.Context()
        self._router = self._context.socket(zmq.ROUTER)
        for option, value in ((zmq.ROUTER_HANDOVER, 1), (zmq.LINGER, 500), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0)):
            self._router.setsockopt(option, value)
        self._router.bind(endpoint)
        os.chmod(endpoint.removeprefix("ipc://"), 0o600)  # noqa: PTH101
        self.task = asyncio.create_task(self._receive())

    async def close(self) -> None:
        """Movers notice that the coordinator is gone by themselves."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self._router.close()
        self._context.term()

    @property
    def running(self) -> list[str]:
        """The transports whose movers listen, or will in a moment."""
        is_starting = time.monotonic() - self._began < START_S
        return [each.transport for each in self.movers.values() if (each.pid or is_starting) and not each.problem]

    def port(self, transport: str) -> int:
        """Where the transport's mover listens; 0: it does not, or not yet."""
        mover = self.movers.get(transport)
        return mover.port if mover is not None else 0

    def tell(self, transport: str, message: protocol.ToMover) -> None:
        """Queue a message for the transport's mover; ``flush`` sends."""
        self.movers[transport].outbox.append(message)

    def flush(self) -> None:
        """Send what was queued for each mover in one frame. Nothing is kept for one that is not there."""
        for mover in self.movers.values():
            if mover.outbox:
                batch, mover.outbox = mover.outbox, []
                if mover.pid:
                    self._send(mover, batch)

    def _send(self, mover: Mover, batch: list[protocol.ToMover]) -> None:
        with contextlib.suppress(zmq.Again):
            self._router.send_multipart([mover.name.encode(), protocol.encode(batch)], zmq.NOBLOCK)

    async def _receive(self) -> None:
        by_name = {mover.name.encode(): mover for mover in self.movers.values()}
        while True:
            name, frame = await self._router.recv_multipart()
            mover = by_name.get(name)
            if mover is None:
                log.error("a mover that is none of this site's", mover=name[:80].decode(errors="replace"))
                continue
            try:
                messages = protocol.decode_from_mover(frame)
            except msgspec.DecodeError as error:
                log.error("a frame from a mover makes no sense", reason=str(error), mover=mover.name)
                continue
            for message in messages:
                self.handle(mover.transport, message)
            self.flush()

    def handle(self, transport: str, message: protocol.FromMover) -> None:
        """A mover said this."""
        mover = self.movers[transport]
        match message:
            case protocol.Hello():
                self._greet(mover, message)
            case protocol.Listening():
                mover.port, mover.problem = message.port, ""
                self._listener.mover_listens(transport)
            case protocol.ListenFailed():
                if mover.problem != message.reason:
                    log.error("a mover cannot listen", mover=mover.name, reason=message.reason)
                mover.port, mover.problem = 0, message.reason
                self._listener.mover_listens(transport)
            case _:
                self._listener.mover_says(message)

    def _greet(self, mover: Mover, hello: protocol.Hello) -> None:
        self.flush()
        self._send(mover, [protocol.Welcome(incarnation=self._incarnation)])
        if hello.pid == mover.pid:
            return
        log.info("a mover is here", mover=mover.name, pid=hello.pid)
        mover.pid, mover.port, mover.problem = hello.pid, 0, ""
        self._listener.mover_restarted(mover.transport)
        mover.outbox.clear()
        self.tell(mover.transport, self._listen)
