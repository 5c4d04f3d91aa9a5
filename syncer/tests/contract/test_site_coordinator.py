"""A coordinator in this process, on a real home, folder and sockets; the peers and the mover are played by the test."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio
from blake3 import blake3

from syncer.core.records import Content, Entry, Kind
from syncer.errors import StoreError
from syncer.files.root import Root
from syncer.files.watch import Watcher
from syncer.site.agreement import SCANNING, SILENT
from syncer.site.coordinator import Coordinator
from syncer.site.coordinator_process import open_index
from syncer.site.folder import Folder
from syncer.site.home import Config, Home
from syncer.site.setup import add_site, initialise, remove_site
from syncer.site.status import StatusServer, ask
from syncer.site.waiting import wait_until_in_sync
from syncer.store.index import Index
from syncer.wire import control
from syncer.wire import mover_protocol as mover

DEADLINE_S = 10.0
EMPTY = Entry(
    path=b"empty",
    kind=Kind.FILE,
    mode=0o644,
    content=Content(0, blake3(b"").digest(), 1 << 17, b""),
    vector=(("a.00000001", 1),),
    origin="a",
    dot=("a.00000001", 1),
)
KEY = zmq.curve_keypair()[0].decode()


def with_coordinator(tmp_path: Path, play: Callable[[Coordinator], Awaitable[None]]) -> None:
    """Runs ``play`` beside a serving coordinator of site "b" that knows site "a"; raises what either raises."""
    home_path, address = tmp_path / "home", f"127.{os.getpid() % 200 + 20}.252.1"
    initialise(
        home_path,
        site="b",
        folder=tmp_path / "folder",
        address=address,
        control_port=7420,
        data_port=7421,
        rate_bps=0,
    )
    add_site(home_path, "a", address=address.removesuffix("1") + "2", key=KEY, data_port=7421)

    async def run() -> None:
        home = Home(home_path)
        config = home.load()
        with Root(tmp_path / "folder").open() as root, Watcher(root) as watcher:
            watcher.add_tree()
            folder, index, status = Folder(root), Index(home.index_path, site="b"), StatusServer(home, config)
            coordinator = Coordinator(home, config, index, folder, watcher)
            running = asyncio.ensure_future(coordinator.run(status))
            try:
                while not coordinator.ready:
                    await asyncio.sleep(0)
                playing = asyncio.ensure_future(play(coordinator))
                done, _ = await asyncio.wait(
                    {running, playing}, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED
                )
                assert done, "neither the coordinator nor the test came to an end"
                for task in done:
                    await task
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await status.close()
                folder.close()
                index.close()

    asyncio.run(run())


def connect(coordinator: Coordinator) -> int:
    """Site "a" is connected and the session with it is up; the session's number."""
    coordinator.peer_connected("a", control.Hello(site="a", epoch=1, last_seq=0, heard_epoch=0, heard_seq=0))
    coordinator.peer_says("a", control.Transports(running=["udt"], pinned="auto", test="", reason=""))
    data = coordinator.data
    data.hub.handle("udt", mover.Hello(name="mover-udt", transport="udt", pid=1))
    data.hub.handle("udt", mover.Listening(address="127.0.0.1", port=7421))
    (session,) = data._sessions
    data.hub.handle("udt", mover.SessionUp(session=session))
    assert coordinator.replica.peers["a"].has_data_path
    return data.session("a")


def test_a_site_is_removed_while_its_session_is_up(tmp_path: Path) -> None:
    async def play(coordinator: Coordinator) -> None:
        connect(coordinator)
        coordinator.control._lines["a"].stream.connected = True
        remove_site(tmp_path / "home", "a")
        coordinator.reload()
        assert not coordinator.replica.peers
        assert not coordinator.control._lines
        assert not coordinator.data._sessions

    with_coordinator(tmp_path, play)


def test_what_breaks_while_a_peer_is_heard_ends_the_coordinator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged index may be found by a peer's question: deaf for ever would be worse than a restart."""

    async def play(coordinator: Coordinator) -> None:
        def damaged(transport: str, frame: object) -> None:
            raise StoreError("the checksum of a row is wrong")

        monkeypatch.setattr(coordinator.data.hub, "handle", damaged)
        with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.IDENTITY, b"mover-udt")
            socket.connect(coordinator.home.endpoint("movers"))
            await socket.send(mover.encode([mover.Hello(name="mover-udt", transport="udt", pid=1)]))
            await asyncio.Event().wait()

    with pytest.raises(StoreError):
        with_coordinator(tmp_path, play)


def test_a_change_that_is_not_recorded_yet_is_not_at_rest(tmp_path: Path) -> None:
    """On a fast network two surveys may come between a scan and the commit of what it found, on a full disk many."""

    async def play(coordinator: Coordinator) -> None:
        assert coordinator.idle
        (tmp_path / "folder" / "new").mkdir()
        await coordinator.scanner.full_scan()
        assert not coordinator.idle or coordinator.index.last_seq == 1
        while not coordinator.idle:
            await asyncio.sleep(0)
        assert coordinator.index.last_seq == 1

    with_coordinator(tmp_path, play)


def test_a_full_disk_shows_in_the_status(tmp_path: Path) -> None:
    async def play(coordinator: Coordinator) -> None:
        connect(coordinator)
        assert coordinator.alert is None
        session = coordinator.data.session("a")
        failed = mover.ReceiveFailed(session=session, job=1, code="disk", detail="ENOSPC: No space left on device")
        coordinator.data.hub.handle("udt", failed)
        answer = await asyncio.to_thread(ask, coordinator.home, {"ask": "status"}, timeout_s=DEADLINE_S)
        assert "ENOSPC" in answer["alert"]

    with_coordinator(tmp_path, play)


def test_what_cannot_be_stored_is_tried_again_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file is made by the coordinator itself; on a disk without inodes that fails."""

    async def play(coordinator: Coordinator) -> None:
        def full(*_: object, **__: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        session = connect(coordinator)
        with monkeypatch.context() as patch:
            patch.setattr("syncer.site.folder.os.open", full)
            coordinator.peer_says("a", control.IndexDelta(entries=[(1, EMPTY)], upto=1, last=True))
            while coordinator.alert is None:
                await asyncio.sleep(0)
        while not (tmp_path / "folder" / "empty").exists():
            await asyncio.sleep(0.01)
        assert coordinator.data.session("a") == session

    with_coordinator(tmp_path, play)


def test_another_folder_is_no_mass_delete(tmp_path: Path) -> None:
    """The configuration may be changed by hand, or an old disk be mounted in the place of the new one."""

    async def epochs_of(*folders: str) -> list[int]:
        home = Home(tmp_path)
        home.prepare()
        config = Config(site="b", folder="", address="127.0.0.1", public_key=KEY)
        status = StatusServer(home, config)
        epochs = []
        try:
            for folder in folders:
                with Root(tmp_path / folder).create() as root, await open_index(home, "b", root, status) as index:
                    epochs.append(index.epoch)
        finally:
            await status.close()
        return epochs

    first, again, other = asyncio.run(epochs_of("one", "one", "two"))
    assert first == again
    assert other != first


def test_a_scan_that_takes_longer_than_a_question_is_told_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(coordinator: Coordinator) -> None:
        connect(coordinator)
        monkeypatch.setattr(coordinator.scanner, "full_scan", asyncio.Event().wait)
        answer = await coordinator.agreement.confirm(time.monotonic() + 0.1, scanned=False)
        assert answer == {"in_sync": False, "lagging": {"a": SILENT, "b": SCANNING}, "scanned": False}

    with_coordinator(tmp_path, play)


def test_wait_gives_a_large_folder_the_time_that_its_scan_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question begins with a scan: questions that are too short never get an answer."""
    questions: list[float] = []

    def ask_slow_engine(home: Home, question: dict[str, Any], **_: float) -> dict[str, Any]:
        questions.append(question["for_s"])
        if question["for_s"] >= 30:
            return {"in_sync": True, "lagging": {}, "scanned": 1}
        return {"in_sync": False, "lagging": {"a": SCANNING}, "scanned": 0}

    monkeypatch.setattr("syncer.site.waiting.ask", ask_slow_engine)
    home = Home(tmp_path)
    home.save(Config(site="b", folder="", address="127.0.0.1", public_key=KEY))
    wait_until_in_sync(home, 600)
    assert questions == [5.0, 10.0, 20.0, 40.0]


def test_hints_that_cannot_be_read_end_the_coordinator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read in part is lost: only the scan after a restart finds it in time."""

    async def play(coordinator: Coordinator) -> None:
        def broken() -> None:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")

        monkeypatch.setattr(coordinator.scanner._watcher, "read", broken)
        (tmp_path / "folder" / "new").mkdir()
        await asyncio.Event().wait()

    with pytest.raises(OSError, match="allocate"):
        with_coordinator(tmp_path, play)
