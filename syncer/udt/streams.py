"""UDT for asyncio, with asyncio's own readers and writers.

    reader, writer = await open_connection("198.18.0.2", 4000, ceiling_bps=200e6)
    writer.write(b"...")
    await writer.drain()
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    server = await start_server(serve, "0.0.0.0", 4000)
    async with server:
        await server.serve_forever()

``drain`` waits while more waits than the connection's send buffer holds. ``wait_closed`` returns once all that was
written has arrived, or ``linger_s`` has passed; ``writer.transport.undelivered_bytes()`` tells the difference.
``writer.get_extra_info("statistics")`` are the connection's `Statistics`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Unpack

from syncer.udt.errors import UdtError, WouldBlock
from syncer.udt.settings import UdtSettings
from syncer.udt.socket import Address, Kind, SettingsGiven, UdtSocket, create_server
from syncer.udt.transport import UdtTransport

ProtocolFactory = Callable[[], asyncio.BaseProtocol]
ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]
STREAM_LIMIT = 1 << 20
"""Of a reader's buffer; twice as much stops reading, and the peer once its window is full."""


class UdtServer(asyncio.AbstractServer):
    """Accepts connections until it is closed; those that were accepted stay."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listener: UdtSocket, factory: ProtocolFactory, linger_s: float
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._factory = factory
        self._linger_s = linger_s
        self._serving = False
        self._closed = loop.create_future()
        self.address: Address = listener.getsockname()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self._serving

    async def start_serving(self) -> None:
        if not self._serving and not self._closed.done():
            self._serving = True
            self._loop.add_reader(self._listener.readable_descriptor(), self._accept)

    async def serve_forever(self) -> None:
        await self.start_serving()
        try:
            await self._closed
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        if self._closed.done():
            return
        if self._serving:
            self._serving = False
            self._loop.remove_reader(self._listener.readable_descriptor())
        self._listener.abort()
        self._closed.set_result(None)

    async def wait_closed(self) -> None:
        await asyncio.shield(self._closed)

    def _accept(self) -> None:
        try:
            accepted, _peer = self._listener.accept()
        except WouldBlock:
            return
        except UdtError as error:
            self._loop.call_exception_handler({"message": "accepting a UDT connection failed", "exception": error})
            self.close()
            return
        accepted.settimeout(0)
        UdtTransport(self._loop, accepted, self._factory(), self._linger_s)


async def create_udt_connection(
    factory: ProtocolFactory, host: str, port: int, *, local: Address | None = None, **settings: Unpack[SettingsGiven]
) -> tuple[UdtTransport, asyncio.BaseProtocol]:
    """As ``loop.create_connection``."""
    loop = asyncio.get_running_loop()
    chosen = replace(UdtSettings(), **settings)
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    failure: OSError | None = None
    for family, _type, _protocol, _name, at in found:
        sock = UdtSocket(Kind.STREAM, chosen)
        try:
            if local is not None:
                sock.bind(local)
            await _connect(loop, sock, family, at)
        except OSError as error:
            sock.abort()
            failure = error
            continue
        except BaseException:
            sock.abort()
            raise
        sock.settimeout(0)
        protocol = factory()
        transport = UdtTransport(loop, sock, protocol, chosen.linger_s)
        # Until the protocol knows its transport.
        await asyncio.sleep(0)
        return transport, protocol
    assert failure is not None
    raise failure


async def _connect(loop: asyncio.AbstractEventLoop, sock: UdtSocket, family: int, at: tuple[object, ...]) -> None:
    scope = f"%{at[3]}" if len(at) == 4 and at[3] else ""
    assert isinstance(at[1], int)
    sock.native.connect(family, f"{at[0]}{scope}", at[1], 0.0)
    decided = loop.create_future()
    descriptor = sock.writable_descriptor()
    loop.add_reader(descriptor, lambda: None if decided.done() else decided.set_result(None))
    try:
        await decided
    finally:
        loop.remove_reader(descriptor)
    sock.native.connect_result()


async def create_udt_server(
    factory: ProtocolFactory,
    host: str,
    port: int,
    *,
    backlog: int = 64,
    start_serving: bool = True,
    **settings: Unpack[SettingsGiven],
) -> UdtServer:
    """As ``loop.create_server``."""
    listener = create_server((host, port), backlog=backlog, **settings)
    listener.settimeout(0)
    server = UdtServer(asyncio.get_running_loop(), listener, factory, listener.settings.linger_s)
    if start_serving:
        await server.start_serving()
    return server


async def open_connection(
    host: str,
    port: int,
    *,
    limit: int = STREAM_LIMIT,
    local: Address | None = None,
    **settings: Unpack[SettingsGiven],
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As ``asyncio.open_connection``. Settings are those of `UdtSettings`. Raises UdtError, or OSError for the name."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _protocol = await create_udt_connection(lambda: protocol, host, port, local=local, **settings)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected: ClientConnected,
    host: str,
    port: int,
    *,
    limit: int = STREAM_LIMIT,
    backlog: int = 64,
    start_serving: bool = True,
    **settings: Unpack[SettingsGiven],
) -> UdtServer:
    """As ``asyncio.start_server``; ``server.address`` is where it listens."""
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        return asyncio.StreamReaderProtocol(reader, client_connected, loop=loop)

    return await create_udt_server(factory, host, port, backlog=backlog, start_serving=start_serving, **settings)
