"""One site's state machine, sans-IO: events in (its methods), commands out (``flush``).

An event only changes what is in memory; ``flush`` writes all that was staged to the index in one durable transaction
and then returns the commands that rest on it: an acknowledgement never leaves before what it acknowledges is durable.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

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
    Source,
)
from syncer.core.diff import LocalState, children_leave_first, local_version
from syncer.core.lanes import Lane
from syncer.core.needs import Need, State, choose, is_directory, is_there, needs_content
from syncer.core.overlay import Overlay
from syncer.core.peering import DELTA_ENTRIES, Peer, bounded
from syncer.core.ports import IndexPort
from syncer.core.reconcile import (
    Verdict,
    conflict_copy,
    conflict_path,
    reconcile,
    same_content,
    seen,
)
from syncer.core.records import Entry, Fingerprint
from syncer.core.version_vector import advance, join


class Replica:
    """The site ``site`` with its ``index`` and configured ``peers``."""

    def __init__(self, site: str, index: IndexPort, peers: Iterable[str]) -> None:
        self.site = site
        self.index = index
        self.actor = f"{site}.{index.epoch & 0xFFFFFFFF:08x}"
        self.peers = {name: self._restored(name) for name in sorted(peers)}
        self.needs: dict[bytes, Need] = {}
        self._commands: list[Command] = []
        self._view = Overlay(index)
        self._asides: dict[bytes, Need] = {}
        self._unsaved: set[Peer] = set()
        self._progress_is_due = False
        self._jobs: dict[int, bytes] = {}
        self._next_job = 1
        self._waiting_for_parent: dict[bytes, set[bytes]] = {}
        self._waiting_for_children: set[bytes] = set()
        self._tick = 0
        self._touched: dict[bytes, int] = {}
        self._marks: dict[int, int] = {}

    # the configured peers

    def add_peer(self, site: str) -> None:
        """A site was added to the configuration."""
        self.peers.setdefault(site, self._restored(site))

    def remove_peer(self, site: str) -> None:
        """A site was removed from the configuration."""
        self.peer_down(site)
        self.peers.pop(site, None)

    def _restored(self, site: str) -> Peer:
        known = self.index.peer(site)
        return Peer(site, epoch=known.epoch, their_durable=known.received_seq, our_acked=known.acked_seq)

    # what peers say

    def peer_up(self, site: str, epoch: int, last_seq: int, heard_epoch: int, heard_seq: int) -> None:
        """A connection stands. ``heard_...``: what the peer has of our index, durable there."""
        peer = self.peers[site]
        if peer.connected:
            self.peer_down(site)
        if heard_epoch == self.index.epoch and heard_seq > self.index.last_seq:
            self._commands.append(IndexIsOld(site=site))
            return
        peer.resume(epoch, last_seq)
        peer.our_acked = heard_seq if heard_epoch == self.index.epoch else 0
        peer.our_sent = peer.our_acked
        peer.connected = True

    def peer_down(self, site: str) -> None:
        """The connection is gone: what was announced over it and is not settled will be told again."""
        peer = self.peers.get(site)
        if peer is None or not peer.connected:
            return
        self.data_path_down(site)
        paths = list(peer.unsettled)
        peer.forget_connection()
        for path in paths:
            need = self.needs.get(path)
            if need is not None:
                need.queued_at.discard(site)
                need.announced.pop(site, None)
                self._plan(need)

    def delta(self, site: str, entries: list[tuple[int, Entry]], upto: int, last: bool) -> None:
        """The peer's index has these entries, and none other up to ``upto``."""
        peer = self.peers[site]
        if not peer.connected:
            return
        for seq, entry in entries:
            if seq <= peer.their_received:
                continue
            peer.announced(entry.path, seq)
            need = self.needs.get(entry.path)
            if need is None:
                need = self.needs[entry.path] = Need(entry.path)
            need.announced[site] = entry
            need.refused.discard(site)
            self._plan(need)
        peer.their_received = max(peer.their_received, upto)
        peer.their_last = max(peer.their_last, upto)
        peer.their_told = min(peer.their_told, upto - 1)
        peer.caught_up = last
        self._commands.append(DeltaTaken(site=site))

    def delta_taken(self, site: str) -> None:
        """The peer has taken in one of our deltas: room for one more."""
        peer = self.peers[site]
        peer.deltas_in_flight = max(0, peer.deltas_in_flight - 1)

    def acked(self, site: str, seq: int) -> None:
        """The peer has our index up to ``seq`` durably."""
        peer = self.peers[site]
        if peer.connected:
            peer.our_acked = max(peer.our_acked, min(seq, self.index.last_seq))

    def data_path_up(self, site: str) -> None:
        """Content can be fetched from the peer."""
        peer = self.peers[site]
        if not peer.connected:
            return
        peer.has_data_path = True
        for need in self.needs.values():
            if site in need.announced:
                need.refused.discard(site)
                if need.state is State.QUEUED:
                    self._queue(need)

    def data_path_down(self, site: str) -> None:
        """Every fetch from the peer is off; partial temporary files stay for a resume."""
        peer = self.peers[site]
        jobs = peer.jobs
        peer.has_data_path = False
        for job in jobs:
            self.fetch_failed(job, refused=False)

    # what fetching says

    def fetched(self, job: int) -> None:
        """The content is here in full, verified and durable."""
        need = self._end_job(job)
        if need is not None:
            need.state = State.FETCHED
            self._advance(need)

    def fetch_failed(self, job: int, *, refused: bool, blocked: bool = False) -> None:
        """``refused``: that peer cannot give it, ask another. ``blocked``: this site cannot take it now (disk)."""
        need = self._end_job(job)
        if need is None:
            return
        if refused:
            need.refused.add(need.job_site)
        need.state = State.BLOCKED if blocked else State.IDLE
        if not blocked:
            self._advance(need)

    def _end_job(self, job: int) -> Need | None:
        path = self._jobs.pop(job, None)
        if path is None:
            return None
        need = self.needs[path]
        self.peers[need.job_site].end_job(job)
        need.job = 0
        return need

    # what the folder says

    def mark(self) -> int:
        """A scan begins: pass the value to ``observed``, and to ``release`` once the scan has reported everything."""
        self._marks[self._tick] = self._marks.get(self._tick, 0) + 1
        return self._tick

    def release(self, mark: int) -> None:
        """The scan that began at ``mark`` is over."""
        self._marks[mark] -= 1
        if not self._marks[mark]:
            del self._marks[mark]
        if not self._marks:
            self._touched.clear()

    def observed(self, states: Iterable[LocalState], mark: int) -> None:
        """A scan found these paths different from the index. Paths that we changed ourselves since the scan began are
        looked at again instead: what the scan saw of them may be older than what the index knows."""
        for state in sorted(states, key=children_leave_first):
            need = self.needs.get(state.path)
            if (busy := self._busy(state.path, need)) is not None:
                busy.recheck = True
            elif self._touched.get(state.path, -1) > mark:
                self._commands.append(Rescan(path=state.path))
            else:
                self._observe(state, need)

    def _busy(self, path: bytes, need: Need | None) -> Need | None:
        """The need that is changing ``path`` on disk at this moment."""
        if need is not None and need.state is State.APPLYING:
            return need
        return self._asides.get(path)

    def _observe(self, state: LocalState, need: Need | None) -> None:
        known = self._view.entry(state.path)
        fingerprint = state.fingerprint if state.settled else None
        version = local_version(known, state, self.site, self.actor)
        if version is None:
            if state.kind is not None:
                self._view.refresh(state.path, fingerprint)
            if need is not None and need.state is State.BLOCKED:
                self._unblock(need)
            return
        self._view.stage(version, fingerprint)
        if need is not None:
            need.distrusts_local = False
            self._plan(need)
        self._woken_by(version)

    def retry(self) -> None:
        """Some time has passed: try again what was blocked, and ask again those who refused."""
        for need in list(self.needs.values()):
            if need.state is State.BLOCKED or (need.refused and need.state in (State.IDLE, State.QUEUED)):
                need.refused.clear()
                self._unblock(need)
        self._progress_is_due = True

    def _unblock(self, need: Need) -> None:
        need.state = State.IDLE
        self._plan(need)

    # what installing says

    def applied(self, path: bytes, fingerprint: Fingerprint | None, aside: Fingerprint | None = None) -> None:
        """The target stands at ``path`` durably; ``aside`` is the fingerprint of the conflict copy, if one was kept."""
        need = self._end_apply(path)
        assert need.target is not None
        if need.aside is not None:
            there = self._view.entry(need.aside.path)
            vector = need.aside.vector if there is None else join(there.vector, need.aside.vector)
            self._touch(need.aside.path)
            self._view.stage(replace(need.aside, vector=vector), aside)
            other = self.needs.get(need.aside.path)
            if other is not None and other.state is not State.APPLYING:
                self._plan(other)
        self._reach(need, fingerprint)

    def apply_failed(self, path: bytes, *, rescan: bool = False, local_source_lost: bool = False) -> None:
        """It could not be done. ``rescan``: what stands there is not what the index says; scan it first.
        ``local_source_lost``: the file to copy from changed; take the content from a peer."""
        need = self._end_apply(path)
        need.distrusts_local |= local_source_lost
        if local_source_lost:
            self._plan(need)
            return
        need.state = State.BLOCKED
        if rescan or need.recheck:
            self._commands.append(Rescan(path=path))
            if need.aside is not None:
                self._commands.append(Rescan(path=need.aside.path))
        need.recheck = False

    def _end_apply(self, path: bytes) -> Need:
        need = self.needs[path]
        self._touch(path)
        if need.aside is not None:
            self._asides.pop(need.aside.path, None)
        need.state = State.IDLE
        return need

    def _touch(self, path: bytes) -> None:
        self._tick += 1
        if self._marks:
            self._touched[path] = self._tick

    def _reach(self, need: Need, fingerprint: Fingerprint | None) -> None:
        """The target is what stands here now."""
        assert need.target is not None
        target = need.target
        if self._view.entry(need.path) is None:
            for site, entry in need.announced.items():
                if entry == target:
                    self.peers[site].agreed[need.path] = entry
        self._view.stage(target, fingerprint)
        if need.recheck:
            need.recheck = False
            self._commands.append(Rescan(path=need.path))
            if need.aside is not None:
                self._commands.append(Rescan(path=need.aside.path))
        self._plan(need)
        self._woken_by(target)

    # planning

    def _plan(self, need: Need) -> None:
        """Look at a need afresh after anything about it changed."""
        if need.state is State.APPLYING:
            return
        local = self._view.entry(need.path)
        for site, entry in sorted(need.announced.items()):
            outcome = reconcile(local, entry)
            if outcome.verdict is Verdict.JOIN:
                local = outcome.target
                self._view.stage(local, self._view.fingerprint(need.path))
            if outcome.verdict in (Verdict.JOIN, Verdict.SAME):
                del need.announced[site]
                self.peers[site].unsettled.pop(need.path, None)
        before = need.target
        need.target, need.displaced = choose(local, need.announced)
        keeps_content = before is not None and need.target is not None and same_content(before, need.target)
        if not (keeps_content and need.state in (State.QUEUED, State.FETCHING, State.FETCHED)):
            self._drop_job(need)
            need.queued_at.clear()
            need.state = State.IDLE
        if not need.announced:
            self._drop_job(need)
            del self.needs[need.path]
            self._waiting_for_children.discard(need.path)
            return
        self._advance(need)

    def _drop_job(self, need: Need) -> None:
        if need.job:
            self._commands.append(CancelFetch(job=need.job, site=need.job_site))
            self._end_job(need.job)

    def _advance(self, need: Need) -> None:
        """Take the next step of a need that is not under way."""
        if need.target is None or need.state in (State.APPLYING, State.FETCHING, State.BLOCKED):
            return
        local = self._view.entry(need.path)
        if need.state is not State.FETCHED and needs_content(need.target, local):
            need.use_local = None if need.distrusts_local else self._local_copy(need.target)
            if need.use_local is None:
                self._queue(need)
                return
        if is_there(need.target, local):
            self._reach(need, self._view.fingerprint(need.path))
        elif self._may_apply(need.target, local):
            self._apply(need, local)

    def _local_copy(self, target: Entry) -> bytes | None:
        """A file of this folder that has the target's content, for renames and copies."""
        assert target.content is not None
        paths = self.index.by_digest(target.content.digest)
        return next((path for path in paths if self._view.fingerprint(path) is not None), None)

    def _queue(self, need: Need) -> None:
        need.state = State.QUEUED
        size = need.target.content.size if need.target is not None and need.target.content is not None else 0
        for site in need.sources():
            if site not in need.queued_at:
                need.queued_at.add(site)
                self.peers[site].lane(size).wants.append(need.path)

    def _may_apply(self, target: Entry, local: Entry | None) -> bool:
        """Whether the tree around allows the target now; if not, the need is woken when that changes."""
        parent = target.path.rpartition(b"/")[0]
        if not target.deleted and parent and not is_directory(self._view.entry(parent)):
            self._waiting_for_parent.setdefault(parent, set()).add(target.path)
            return False
        if is_directory(local) and not is_directory(target) and any(self._view.live_children(target.path)):
            self._waiting_for_children.add(target.path)
            return False
        return True

    def _apply(self, need: Need, local: Entry | None) -> None:
        assert need.target is not None
        source = Source.NONE
        if needs_content(need.target, local):
            source = Source.TEMPORARY if need.state is State.FETCHED else Source.LOCAL
        need.state = State.APPLYING
        need.aside = self._conflict_copy(local) if need.displaced and local is not None else None
        if need.aside is not None:
            self._asides[need.aside.path] = need
        self._waiting_for_children.discard(need.path)
        self._commands.append(
            Apply(
                entry=need.target,
                known=local,
                fingerprint=self._view.fingerprint(need.path),
                metadata_only=local is not None and same_content(local, need.target),
                source=source,
                aside=need.aside.path if need.aside is not None else None,
                local=need.use_local if source is Source.LOCAL else None,
            )
        )

    def _conflict_copy(self, loser: Entry) -> Entry | None:
        """The record under which ``loser`` is kept; None when it is kept already (or its copy was deleted since)."""
        for digits in (8, 16, 64):
            copy = conflict_copy(loser, conflict_path(loser, digits=digits))
            if copy.path in self._asides:
                continue
            there = self._view.entry(copy.path)
            if there is None:
                return copy
            if seen(there.vector, copy.dot) or same_content(there, copy):
                return None
            if there.deleted:
                return reconcile(there, copy).target
        return None

    def _woken_by(self, entry: Entry) -> None:
        """Go on with what waited for this path to become a directory, or to leave its own."""
        if is_directory(entry):
            for path in sorted(self._waiting_for_parent.pop(entry.path, ())):
                if (need := self.needs.get(path)) is not None:
                    self._advance(need)
        parent = entry.path.rpartition(b"/")[0]
        if entry.deleted and parent in self._waiting_for_children and (need := self.needs.get(parent)) is not None:
            self._advance(need)

    def _revive_directories(self) -> None:
        """A directory that a peer removed, but in which something lives that nobody removed, comes back.

        Decided only once all that the peers have to say was heard: the children's removals may come after their
        directory's. A site that merely has to receive such a child waits for the child's holder to do this.
        """
        if any(peer.connected and not peer.caught_up for peer in self.peers.values()):
            return
        for path in sorted(self._waiting_for_children, reverse=True):
            local = self._view.entry(path)
            need = self.needs.get(path)
            if need is None or need.target is None or local is None or not is_directory(local):
                self._waiting_for_children.discard(path)
                continue
            if any(self._stays(child) for child in self._view.live_children(path)):
                vector = advance(local.vector, self.actor)
                dot = (self.actor, dict(vector)[self.actor])
                self._view.stage(replace(local, vector=vector, dot=dot, origin=self.site), self._view.fingerprint(path))
                self._waiting_for_children.discard(path)
                self._plan(need)

    def _stays(self, child: Entry) -> bool:
        need = self.needs.get(child.path)
        return need is None or need.target is None or not need.target.deleted

    # commands out

    def flush(self) -> list[Command]:
        """Make all that was staged durable, and return what there is to do. Raises what the index raises: then nothing
        was acknowledged, and the site has to start over from what is durable."""
        if self._waiting_for_children:
            self._revive_directories()
        moved = [peer for peer in self.peers.values() if peer.connected and peer.settle()]
        if self._view.is_dirty or (self._progress_is_due and self._unsaved):
            progress = {peer.site: peer.progress for peer in {*moved, *self._unsaved}}
            self._view.commit(progress)
            self._unsaved.clear()
        else:
            self._unsaved.update(moved)
        self._progress_is_due = False
        self._view.commit_refreshed()
        for peer in moved:
            peer.their_told = peer.their_durable
            self._commands.append(SendAck(site=peer.site, seq=peer.their_durable))
        for peer in self.peers.values():
            self._send_deltas(peer)
        self._start_fetches()
        commands, self._commands = self._commands, []
        return commands

    def _send_deltas(self, peer: Peer) -> None:
        last_seq = self.index.last_seq
        while peer.may_be_told(last_seq):
            entries = bounded(self.index.since(peer.our_sent, DELTA_ENTRIES))
            upto = entries[-1][0] if entries else last_seq
            news = peer.news(entries)
            if not news and peer.deltas_in_flight and upto == last_seq:
                return  # nothing but what the peer told us: to be acknowledged, but not in a hurry
            peer.told(entries, upto)
            self._commands.append(SendDelta(site=peer.site, entries=news, upto=upto, last=upto == last_seq))

    def _start_fetches(self) -> None:
        """Fill the peers' windows in turn, so that what several peers have comes from all of them."""
        willing = [(peer, lane) for peer in self.peers.values() for lane in peer.lanes_with_room()]
        while willing:
            willing = [(peer, lane) for peer, lane in willing if self._start_fetch(peer, lane)]

    def _start_fetch(self, peer: Peer, lane: Lane) -> bool:
        while lane.wants and lane.has_room:
            need = self.needs.get(lane.wants.popleft())
            if need is None:
                continue
            need.queued_at.discard(peer.site)
            if need.state is not State.QUEUED or need.target is None or not need.has_source(peer.site):
                continue
            assert need.target.content is not None
            need.job, need.job_site, need.state = self._next_job, peer.site, State.FETCHING
            self._next_job += 1
            self._jobs[need.job] = need.path
            lane.start(need.job, need.target.content.size)
            self._commands.append(Fetch(job=need.job, site=peer.site, entry=need.target))
            return True
        return False

    def path_measured(self, site: str, bytes_per_s: float, round_trip_s: float) -> None:
        """What the data path from the peer delivered while content was owed; 0: nothing is known."""
        peer = self.peers.get(site)
        if peer is not None and bytes_per_s > 0:
            for lane in (peer.small, peer.large):
                lane.measured(bytes_per_s, round_trip_s)

    # what to tell a user

    def peer_in_sync(self, site: str) -> bool:
        """Whether, for all that was told so far, the peer has ours and we have the peer's."""
        peer = self.peers[site]
        return (
            peer.connected
            and peer.our_acked == self.index.last_seq
            and peer.their_received >= peer.their_last
            and not peer.unsettled
        )

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to do, to record or to tell here, for all that was told or seen so far."""
        return not (self.needs or self._view.is_dirty or self._commands)

    @property
    def in_sync(self) -> bool:
        """Whether nothing is known that is not done, here or at a peer. Writes that no scan has seen are not known."""
        return self.at_rest and all(self.peer_in_sync(site) for site in self.peers)
