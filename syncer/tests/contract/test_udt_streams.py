"""asyncio's readers and writers over our UDT."""

from __future__ import annotations

import asyncio
import os

import pytest

from syncer import udt
from syncer.udt.streams import UdtServer, open_connection, start_server
from syncer.udt.transport import UdtTransport

LOOPBACK = "127.0.0.1"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def serving(**settings: float) -> UdtServer:
    return await start_server(echo, LOOPBACK, 0, **settings)  # type: ignore[arg-type]


def test_what_is_written_comes_back_and_ends() -> None:
    async def main() -> None:
        async with await serving() as server:
            reader, writer = await open_connection(LOOPBACK, server.address[1])
            data = os.urandom(5_000_000)

            async def write() -> None:
                for at in range(0, len(data), 100_000):
                    writer.write(data[at : at + 100_000])
                    await writer.drain()
                writer.write_eof()

            writing = asyncio.create_task(write())
            assert await reader.read() == data
            await writing
            assert writer.get_extra_info("peername") == server.address
            assert writer.get_extra_info("statistics").bytes_delivered == len(data)
            writer.close()
            assert writer.is_closing()
            await writer.wait_closed()
            assert isinstance(writer.transport, UdtTransport)
            assert writer.transport.undelivered_bytes() == 0

    asyncio.run(asyncio.wait_for(main(), 60))


def test_many_connections_in_one_loop() -> None:
    async def ask(port: int, number: int) -> None:
        reader, writer = await open_connection(LOOPBACK, port)
        writer.write(b"%d" % number)
        assert await reader.readexactly(len(b"%d" % number)) == b"%d" % number
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with await serving() as server:
            await asyncio.gather(*(ask(server.address[1], number) for number in range(50)))

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_reader_that_does_not_read_holds_the_writer_back() -> None:
    async def main() -> None:
        arrived: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        small = {"send_buffer_bytes": 100_000, "receive_buffer_bytes": 100_000}
        server = await start_server(
            lambda reader, writer: arrived.put_nowait((reader, writer)),
            LOOPBACK,
            0,
            limit=10_000,
            **small,  # type: ignore[arg-type]
        )
        async with server:
            _reader, writer = await open_connection(LOOPBACK, server.address[1], **small)  # type: ignore[arg-type]
            there, back = await arrived.get()
            writer.write(bytes(2_000_000))
            draining = asyncio.create_task(writer.drain())
            done, _pending = await asyncio.wait([draining], timeout=0.5)
            assert not done
            assert await there.readexactly(2_000_000) == bytes(2_000_000)
            await asyncio.wait_for(draining, 10)
            for each in (writer, back):
                each.close()
                await each.wait_closed()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_broken_connection_raises_in_the_reader() -> None:
    async def main() -> None:
        arrived: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        server = await start_server(lambda _reader, writer: arrived.put_nowait(writer), LOOPBACK, 0)
        async with server:
            reader, writer = await open_connection(LOOPBACK, server.address[1])
            (await arrived.get()).transport.abort()
            with pytest.raises(udt.Broken):
                await reader.read()
            writer.close()
            with pytest.raises(udt.Broken):
                await writer.wait_closed()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_nobody_listens_and_a_cancelled_attempt() -> None:
    async def main() -> None:
        server = await serving()
        server.close()
        await server.wait_closed()
        assert not server.is_serving()
        with pytest.raises(udt.ConnectionRefused):
            await open_connection(LOOPBACK, server.address[1])
        # A port that is bound, but where nobody answers.
        silent = udt.UdtSocket()
        silent.bind((LOOPBACK, 0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(open_connection(*silent.getsockname()), 0.3)
        silent.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_close_lingers_no_longer_than_it_may() -> None:
    async def main() -> None:
        async with await start_server(lambda _reader, _writer: None, LOOPBACK, 0) as server:
            _reader, writer = await open_connection(
                LOOPBACK, server.address[1], control="fixed", rate_bps=1e6, linger_s=0.3
            )
            writer.write(bytes(3_000_000))
            writer.close()
            await asyncio.wait_for(writer.wait_closed(), 5)
            assert isinstance(writer.transport, UdtTransport)
            assert writer.transport.undelivered_bytes() > 1_000_000

    asyncio.run(asyncio.wait_for(main(), 60))
