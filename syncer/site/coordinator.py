"""The coordinator process: one event loop that feeds the replica and carries out its commands.

Whatever can't be mended in place ends the process: its supervisor starts it again from what is durable.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

import structlog

from syncer.core.commands import (
    Apply,
    CancelFetch,
    Command,
    DeltaTaken,
    Fetch,
    IndexIsOld,
    Rescan,
    SendAck,
    SendDelta,
)
from syncer.core.records import Entry
from syncer.core.replica import Replica
from syncer.errors import DiskFailed, DiskFull, SourceChanged, StoreError, SyncerError
from syncer.files.root import Parents, fingerprint_of
from syncer.files.watch import Watcher
from syncer.site.agreement import Agreement
from syncer.site.control_plane import ControlPlane
from syncer.site.data_plane import DataPlane
from syncer.site.folder import APPLY_BATCH, Folder, installs_new
from syncer.site.home import Config, Home
from syncer.site.scanner import Scanner
from syncer.site.status import StatusServer
from syncer.store.index import Index
from syncer.wire import control
from syncer.wire import mover_protocol as mover
from syncer.wire.control import Hello, Message, WantItem

BATCH_S = 0.002
REST_FACTOR = 2.0
LONGEST_REST_S = 0.03
"""What takes long is done less often and with more at once: a commit, a batch of installs."""

WANT_ITEMS = 200
TICK_S = 1.0
STATS_S = 1.0
"""Between two reports of a mover."""

ALERT_S = 5.0
FULL = ("ENOSPC", "EDQUOT")

log = structlog.get_logger("coordinator")


class Coordinator:
    """One site, running."""

    def __init__(self, home: Home, config: Config, index: Index, folder: Folder, watcher: Watcher) -> None:
        self.home = home
        self.config = config
        self.index = index
        self.folder = folder
        self.replica = Replica(config.site, index, [peer.name for peer in config.sites])
        self.scanner = Scanner(folder, watcher, index, self.replica, self.wake)
        self.agreement = Agreement(self)
        self.ready = False
        self._work = asyncio.Event()
        self._applies: deque[Apply] = deque()
        self._applies_wake = asyncio.Event()
        self._applying = 0
        self._has_leftovers = True
        self._fetches: dict[int, str] = {}
        self._verifying: set[int] = set()
        self._alerted = "", float("-inf")
        self._stats: dict[str, mover.SessionStats] = {}
        self._wants: dict[tuple[str, int], list[WantItem]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.control = ControlPlane(config, home.load_secret(), self)
        self.data = DataPlane(config, home.endpoint("movers"), self)
        for task in (*self.control.tasks, *self.data.tasks):
            task.add_done_callback(self._ended)

    @property
    def idle(self) -> bool:
        """Whether nothing is known to be left to do at this site."""
        return self.ready and self.scanner.idle and self.replica.at_rest and not self._applies and not self._applying

    async def run(self, status: StatusServer) -> None:
        """Until cancelled, or until something breaks (raised)."""
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        status.serve(self)
        self._start(self._flush_for_ever())
        self._start(self._apply_for_ever())
        self._start(self._tick_for_ever())
        self._start(self.scanner.run())
        self.scanner.watch()
        try:
            first = asyncio.ensure_future(self.scanner.full_scan())
            await asyncio.wait({first, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            self.ready = True
            log.info("serving", entries=self.index.counts().entries)
            self.control.set_peers(self.config.sites)
            await self._failed
        finally:
            self.scanner.unwatch()
            for task in self._tasks:
                task.cancel()
            await self.control.close()
            await self.data.close()

    def reload(self) -> None:
        """Take up sites that were added or removed while running."""
        config = self.home.load()
        before, after = ({peer.name for peer in c.sites} for c in (self.config, config))
        for name in after - before:
            self.replica.add_peer(name)
        self.config = config
        self.data.reconfigure(config)
        if self.ready:
            self.control.set_peers(config.sites)
        # Last: while its connection and its session end, the replica is still told of them.
        for name in before - after:
            self.replica.remove_peer(name)
        self.wake()

    def wake(self) -> None:
        """There may be something to flush."""
        self._work.set()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback that failed (hints read in part, say) ends the process; asyncio by itself would only log it."""
        loop.default_exception_handler(context)
        error = context.get("exception")
        if "handle" in context and error is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _alert(self, problem: SyncerError) -> None:
        """A full or failing disk is told in ``status`` while it goes on: what failed is tried again every second."""
        if isinstance(problem, DiskFull | DiskFailed):
            log.error("the disk is full" if isinstance(problem, DiskFull) else "the disk fails", reason=problem.message)
            self._alerted = problem.message, time.monotonic()

    @property
    def alert(self) -> str | None:
        """What keeps this site from storing what it gets, if something does."""
        message, at = self._alerted
        return message if time.monotonic() - at < ALERT_S else None

    # the replica's commands

    async def _flush_for_ever(self) -> None:
        took = 0.0
        while True:
            await self._work.wait()
            await asyncio.sleep(_rest_after(took))
            self._work.clear()
            began = time.monotonic()
            try:
                commands = self.replica.flush()
            except DiskFull as error:
                self._alert(error)
                await asyncio.sleep(TICK_S)
                self.wake()
                continue
            for command in commands:
                self._carry_out(command)
            self.data.flush()
            self._flush_wants()
            self.control.flush()
            took = time.monotonic() - began

    def _carry_out(self, command: Command) -> None:
        match command:
            case SendDelta():
                delta = control.IndexDelta(entries=command.entries, upto=command.upto, last=command.last)
                self.control.say(command.site, delta)
            case SendAck():
                self.control.say(command.site, control.IndexAck(seq=command.seq))
            case DeltaTaken():
                self.control.say(command.site, control.DeltaTaken())
            case Fetch():
                self._fetch(command)
            case CancelFetch():
                self._cancel(command)
            case Apply():
                self._applies.append(command)
                self._applies_wake.set()
            case Rescan():
                self.scanner.look(command.path)
            case IndexIsOld():
                raise StoreError(f"{command.site} knows a later state of our index: it is rebuilt from the folder")

    # fetching

    def _fetch(self, command: Fetch) -> None:
        self._fetches[command.job] = command.site
        if self.folder.has_partial(command.entry):
            self._start(self._resume(command))
        else:
            self._want(command, [])

    async def _resume(self, command: Fetch) -> None:
        self._verifying.add(command.job)
        try:
            have = await self.folder.have(command.entry)
        except SyncerError as error:
            self._alert(error)
            self.receive_failed(command.site, command.job, "disk")
            return
        finally:
            self._verifying.discard(command.job)
        if command.job not in self._fetches:
            return
        if have is None:
            self.received(command.site, command.job)
            return
        self._want(command, have)
        self.data.flush()
        self._flush_wants()
        self.control.flush()

    def _want(self, command: Fetch, have: list[int]) -> None:
        entry, session = command.entry, self.data.session(command.site)
        content = entry.content
        assert content is not None
        self.data.tell(
            mover.ExpectFile(
                session=session,
                job=command.job,
                temp_path=self.folder.temporary_path(entry),
                size=content.size,
                block_size=content.block_size,
                blocks=content.blocks,
                have=have,
            )
        )
        ranges = _missing(content.size, content.block_size, set(have))
        item = WantItem(command.job, entry.path, content.digest, content.size, ranges)
        self._wants.setdefault((command.site, session), []).append(item)

    def _flush_wants(self) -> None:
        wants, self._wants = self._wants, {}
        for (site, session), items in wants.items():
            for start in range(0, len(items), WANT_ITEMS):
                self.control.say(site, control.Want(session=session, items=items[start : start + WANT_ITEMS]))

    def _cancel(self, command: CancelFetch) -> None:
        self._has_leftovers = True
        if self._fetches.pop(command.job, None) is not None and (session := self.data.session(command.site)):
            self.data.tell(mover.CancelReceive(session=session, job=command.job))
            self.control.say(command.site, control.WantCancelled(session=session, jobs=[command.job]))

    # serving

    def _serve(self, site: str, want: control.Want) -> None:
        if not self.data.knows(site, want.session):
            return
        refused = []
        with Parents(self.folder.root) as parents:
            sources = [self._source(item, parents) for item in want.items]
        for item, source in zip(want.items, sources, strict=True):
            if source is None:
                refused.append(item.job)
                continue
            path, mtime_ns = source
            self.data.tell(
                mover.SendFile(
                    session=want.session,
                    job=item.job,
                    path=self.folder.root.absolute(path),
                    size=item.size,
                    mtime_ns=mtime_ns,
                    ranges=item.ranges,
                )
            )
        if refused:
            self.control.say(site, control.WantRefused(session=want.session, jobs=refused))
        self.data.flush()

    def _source(self, item: WantItem, parents: Parents) -> tuple[bytes, int] | None:
        """A file of the announced index that has the wanted content and is as the index says; its path and mtime."""
        stored = self.index.entry(item.path)
        paths = [item.path] if stored is not None and _has(stored.entry, item.digest) else []
        for path in paths or self.index.by_digest(item.digest):
            stored = self.index.entry(path)
            if stored is None or stored.fingerprint is None:
                continue
            try:
                now = fingerprint_of(parents.lstat(path))
            except OSError:
                now = None
            if now == stored.fingerprint and now.size == item.size:
                return path, now.mtime_ns
            self.scanner.look(path)
        return None

    # applying

    async def _apply_for_ever(self) -> None:
        while True:
            await self._applies_wake.wait()
            self._applies_wake.clear()
            while self._applies:
                batch = [self._applies.popleft() for _ in range(min(APPLY_BATCH, len(self._applies)))]
                self._applying = len(batch)
                began = time.monotonic()
                with self.scanner.installing([command.entry.path for command in batch if installs_new(command)]):
                    applied = await self.folder.apply(batch)
                for command, fingerprint, problem in applied:
                    path = command.entry.path
                    if problem is None:
                        self.replica.applied(path, fingerprint)
                        if command.aside is not None:
                            self.scanner.look(command.aside)
                        continue
                    self._alert(problem)
                    log.info("not applied", path=os.fsdecode(path), reason=type(problem).__name__, why=problem.message)
                    if isinstance(problem, SourceChanged):
                        self.replica.apply_failed(path, local_source_lost=True)
                    else:
                        self.replica.apply_failed(path, rescan=True)
                self._applying = 0
                self.wake()
                if len(self._applies) < APPLY_BATCH:
                    await asyncio.sleep(_rest_after(time.monotonic() - began))

    # what the movers report (data_plane.Listener)

    def data_path_up(self, site: str) -> None:
        self.replica.data_path_up(site)
        self.wake()

    def data_path_down(self, site: str) -> None:
        self._has_leftovers = True
        for job in [job for job, source in self._fetches.items() if source == site]:
            del self._fetches[job]
        self.replica.data_path_down(site)
        self.wake()

    def received(self, site: str, job: int) -> None:
        if self._fetches.pop(job, None) is not None:
            self.replica.fetched(job)
            self.wake()

    def receive_failed(self, site: str, job: int, code: str, detail: str = "") -> None:
        if code == "disk" and detail.startswith(FULL):
            self._alert(DiskFull(f"no room for what {site} sends ({detail})"))
        self._has_leftovers = True
        if self._fetches.pop(job, None) is not None:
            self.replica.fetch_failed(job, refused=code != "disk", blocked=code == "disk")
            self.wake()

    def send_failed(self, site: str, job: int) -> None:
        self.scanner.look(b"")

    def say(self, site: str, message: Message) -> None:
        self.control.say(site, message)
        self.control.flush()

    # what peers say (control_plane.Listener)

    def hello(self, site: str) -> Hello:
        known = self.replica.peers[site]
        return Hello(
            site=self.config.site,
            epoch=self.index.epoch,
            last_seq=self.index.last_seq,
            heard_epoch=known.epoch,
            heard_seq=known.their_durable,
        )

    def peer_connected(self, site: str, hello: Hello) -> None:
        self.replica.peer_up(site, hello.epoch, hello.last_seq, hello.heard_epoch, hello.heard_seq)
        self.data.peer_connected(site)
        self.wake()

    def peer_disconnected(self, site: str) -> None:
        self.agreement.peer_disconnected(site)
        self.data.peer_disconnected(site)
        self.replica.peer_down(site)
        self.wake()

    def peer_says(self, site: str, message: Message) -> None:
        match message:
            case control.IndexDelta():
                self.replica.delta(site, message.entries, message.upto, message.last)
            case control.DeltaTaken():
                self.replica.delta_taken(site)
            case control.IndexAck():
                self.replica.acked(site, message.seq)
            case control.Want():
                self._serve(site, message)
            case control.WantRefused():
                for job in message.jobs:
                    if self._fetches.get(job) == site:
                        self.data.tell(mover.CancelReceive(session=message.session, job=job))
                        self.receive_failed(site, job, "source")
            case control.WantCancelled():
                for job in message.jobs:
                    self.data.tell(mover.CancelSend(session=message.session, job=job))
                self.data.flush()
            case control.Transports():
                self.data.peer_transports(site, message)
            case control.SpeedMeasured():
                self.data.peer_measured(site, message)
            case control.SessionOffer():
                self.data.offered(site, message)
            case control.SessionClosed():
                self.data.closed(site, message.session)
            case control.Survey():
                self._start(self.agreement.answer(site, message))
            case control.SurveyReply():
                self.agreement.replied(site, message)
        self.wake()

    # time

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.replica.retry()
            # Of what is still being verified nothing was asked for.
            self.data.watch_progress({site for job, site in self._fetches.items() if job not in self._verifying})
            self._measure_paths()
            self.wake()
            if self._has_leftovers and self.idle and self.replica.in_sync:
                self._has_leftovers = False
                await self.folder.clean()

    def _measure_paths(self) -> None:
        """Tell the replica what each path brought since the last report of its session."""
        for site in {*self._fetches.values()}:
            stats, before = self.data.stats(site), self._stats.get(site)
            if stats is None or stats is before:
                continue
            self._stats[site] = stats
            if before is not None and stats.session == before.session:
                arrived = stats.content_received - before.content_received
                self.replica.path_measured(site, arrived / STATS_S, stats.rtt_us / 1e6)


def _rest_after(took: float) -> float:
    return max(BATCH_S, min(REST_FACTOR * took, LONGEST_REST_S))


def _missing(size: int, block_size: int, have: set[int]) -> list[tuple[int, int]]:
    """The (offset, length) ranges of the blocks that are not there, neighbours joined."""
    ranges: list[tuple[int, int]] = []
    for index, start in enumerate(range(0, size, block_size)):
        if index in have:
            continue
        length = min(block_size, size - start)
        if ranges and sum(ranges[-1]) == start:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + length)
        else:
            ranges.append((start, length))
    return ranges


def _has(entry: Entry, digest: bytes) -> bool:
    return not entry.deleted and entry.content is not None and entry.content.digest == digest
