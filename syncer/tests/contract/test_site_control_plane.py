"""Two control planes on loopback, and keys that come and go."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable

import pytest
import zmq
from msgspec.structs import replace

from syncer.site.control_plane import ControlPlane
from syncer.site.home import Config, PeerConfig
from syncer.wire.control import DeltaTaken, Hello, Message

DEADLINE_S = 20.0
_hosts = itertools.count(1)


class Ear:
    """Notes who is connected and what they say."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.connected: set[str] = set()
        self.heard: list[tuple[str, Message]] = []

    def hello(self, site: str) -> Hello:
        return Hello(site=self.site, epoch=1, last_seq=0, heard_epoch=0, heard_seq=0)

    def peer_connected(self, site: str, hello: Hello) -> None:
        self.connected.add(site)

    def peer_disconnected(self, site: str) -> None:
        self.connected.discard(site)

    def peer_says(self, site: str, message: Message) -> None:
        self.heard.append((site, message))


class End:
    """One site's control plane."""

    def __init__(self, site: str) -> None:
        public, self.secret = zmq.curve_keypair()
        address = f"127.{os.getpid() % 200 + 20}.251.{next(_hosts)}"
        self.card = PeerConfig(name=site, address=address, key=public.decode())
        self.config = Config(site=site, folder="", address=address, public_key=self.card.key)
        self.ear = Ear(site)

    def open(self, *peers: PeerConfig) -> ControlPlane:
        plane = ControlPlane(replace(self.config, sites=list(peers)), self.secret, self.ear)
        plane.set_peers(list(peers))
        return plane


def run(play: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(play(), DEADLINE_S))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_a_key_that_was_replaced_speaks_for_nobody_over_its_old_connection() -> None:
    async def play() -> None:
        here, there = End("a"), End("b")
        plane, other = here.open(there.card), there.open(here.card)
        try:
            await until(lambda: bool(here.ear.connected and there.ear.connected))
            new_key = zmq.curve_keypair()[0].decode()
            plane.set_peers([replace(there.card, key=new_key)])
            assert not here.ear.connected
            line = other._lines["a"]
            other._disconnect(line)
            line.stream.restart(1)
            other._greet(line)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(until(lambda: plane._lines["b"].stream.hello is not None), 0.5)
        finally:
            await plane.close()
            await other.close()

    run(play)


def test_what_is_said_arrives_in_order() -> None:
    async def play() -> None:
        here, there = End("a"), End("b")
        plane, other = here.open(there.card), there.open(here.card)
        try:
            await until(lambda: bool(here.ear.connected and there.ear.connected))
            for _ in range(3):
                plane.say("b", DeltaTaken())
            plane.flush()
            await until(lambda: len(there.ear.heard) == 3)
            assert there.ear.heard == [("a", DeltaTaken())] * 3
        finally:
            await plane.close()
            await other.close()

    run(play)
