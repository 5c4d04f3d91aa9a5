"""N sites, their users and the network between them, under one seed and a virtual clock."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

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
from syncer.core.records import Kind
from syncer.core.replica import Replica
from syncer.tests.simulation.simulated_site import Disk, MemoryIndex, Refused

NAMES = (b"a", b"b.txt", b"d", b"d/a", b"d/b.txt", b"d/e", b"d/e/f", b"g")


@dataclass
class Site:
    name: str
    disk: Disk
    index: MemoryIndex
    replica: Replica
    life: int = 0
    temporary: dict[bytes, bytes] = field(default_factory=dict)


class World:
    """``quiet`` users write nothing more once ``heal_and_settle`` was called; then all must agree."""

    def __init__(self, seed: int, sites: int, *, losses: bool = True) -> None:
        self.random = random.Random(seed)
        self.names = [f"s{number}" for number in range(sites)]
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._written = itertools.count()
        self.written: set[bytes] = set()
        self.superseded: set[bytes] = set()
        self.links: dict[frozenset[str], int] = {}
        self._last_arrival: dict[tuple[str, str], float] = {}
        self.cut: set[frozenset[str]] = set()
        self.losses = losses
        self.sites = {name: self._new_site(name) for name in self.names}

    def _new_site(self, name: str) -> Site:
        index = MemoryIndex(self.random.getrandbits(64) | 1)
        return Site(name, Disk(), index, Replica(name, index, [other for other in self.names if other != name]))

    # time

    def after(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._order), action))

    def run_until_idle(self) -> None:
        steps = 0
        while self._queue:
            self.now, _, action = heapq.heappop(self._queue)
            action()
            steps += 1
            assert steps < 200_000, "the sites never come to rest"

    def run_for(self, duration: float) -> None:
        end = self.now + duration
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    # the network

    def connect(self, left: str, right: str) -> None:
        pair = frozenset((left, right))
        if pair in self.cut:
            return
        self.links[pair] = self.links.get(pair, 0) + 1
        hellos = {name: self.sites[name].index for name in (left, right)}
        told = {(a, b): hellos[a].peer(b) for a, b in ((left, right), (right, left))}
        for here, there in ((left, right), (right, left)):
            heard = told[there, here]
            theirs = hellos[there]
            self.sites[here].replica.peer_up(there, theirs.epoch, theirs.last_seq, heard.epoch, heard.received_seq)
        for here, there in ((left, right), (right, left)):
            self.sites[here].replica.data_path_up(there)
            self.flush(here)

    def disconnect(self, left: str, right: str) -> None:
        pair = frozenset((left, right))
        self.links[pair] = self.links.get(pair, 0) + 1
        for here, there in ((left, right), (right, left)):
            self.sites[here].replica.peer_down(there)
            self.flush(here)

    def send(self, source: str, target: str, action: Callable[[Replica], None], *, ordered: bool = True) -> None:
        """Deliver over the present connection, or never; ordered messages keep their order."""
        pair = frozenset((source, target))
        link, life = self.links.get(pair, 0), self.sites[target].life
        arrival = self.now + self.random.random()
        if ordered:
            arrival = self._last_arrival[source, target] = max(arrival, self._last_arrival.get((source, target), 0.0))

        def deliver() -> None:
            if self.links.get(pair, 0) == link and self.sites[target].life == life:
                action(self.sites[target].replica)
                self.flush(target)

        self.after(arrival - self.now, deliver)

    # the surroundings of a replica

    def flush(self, name: str) -> None:
        for command in self.sites[name].replica.flush():
            self._carry_out(name, command)

    def _carry_out(self, name: str, command: Command) -> None:
        site = self.sites[name]
        match command:
            case SendDelta():
                self.send(name, command.site, lambda r: r.delta(name, command.entries, command.upto, command.last))
            case SendAck():
                self.send(name, command.site, lambda r: r.acked(name, command.seq))
            case DeltaTaken():
                self.send(name, command.site, lambda r: r.delta_taken(name))
            case Fetch():
                self._fetch(site, command)
            case Apply():
                self._at_site(name, lambda: self._apply(site, command))
            case Rescan():
                self._at_site(name, lambda: self.scan(name))
            case CancelFetch():
                pass
            case IndexIsOld():
                raise AssertionError("no index is restored here")

    def _at_site(self, name: str, action: Callable[[], None]) -> None:
        life = self.sites[name].life
        self.after(self.random.random(), lambda: action() if self.sites[name].life == life else None)

    def _fetch(self, site: Site, command: Fetch) -> None:
        content = command.entry.content
        assert content is not None

        def serve(_: Replica) -> None:
            other = self.sites[command.site]
            for path in [command.entry.path, *other.index.by_digest(content.digest)]:
                row, file = other.index.entry(path), other.disk.tree.get(path)
                known = row is not None and row.entry.content is not None and row.entry.content.digest == content.digest
                if known and row is not None and file is not None and file.fingerprint == row.fingerprint:
                    self.send(command.site, site.name, partial(arrive, data=file.data), ordered=False)
                    return
            self.send(command.site, site.name, lambda r: r.fetch_failed(command.job, refused=True))

        def arrive(replica: Replica, data: bytes) -> None:
            site.temporary[content.digest] = data
            replica.fetched(command.job)

        self.send(site.name, command.site, serve)

    def _apply(self, site: Site, command: Apply) -> None:
        path = command.entry.path
        try:
            fingerprint, aside = site.disk.apply(command, lambda digest: site.temporary[digest])
        except Refused:
            done = lambda: site.replica.apply_failed(path, rescan=True)  # noqa: E731
        except LookupError:
            done = lambda: site.replica.apply_failed(path, local_source_lost=True)  # noqa: E731
        else:
            done = lambda: site.replica.applied(path, fingerprint, aside)  # noqa: E731

        def report() -> None:
            done()
            self.flush(site.name)

        self._at_site(site.name, report)

    def scan(self, name: str) -> None:
        site = self.sites[name]
        mark = site.replica.mark()
        seen = Disk(dict(site.disk.tree))

        def report() -> None:
            site.replica.observed(seen.states(site.index), mark)
            site.replica.release(mark)
            self.flush(name)

        self._at_site(name, report)

    def crash(self, name: str, *, lose_index: bool = False) -> None:
        """Everything in memory is gone; the disk and the index (unless lost) are as they are."""
        site = self.sites[name]
        site.life += 1
        for other in self.names:
            if other != name:
                self.links[frozenset((name, other))] = self.links.get(frozenset((name, other)), 0) + 1
                self.sites[other].replica.peer_down(name)
                self.flush(other)
        if lose_index:
            site.index = MemoryIndex(self.random.getrandbits(64) | 1)
        site.replica = Replica(name, site.index, [other for other in self.names if other != name])
        self.scan(name)
        for other in self.names:
            if other != name:
                self.after(self.random.random() * 3, lambda other=other: self.connect(name, other))  # type: ignore[misc]

    # the users

    def user_acts(self, name: str) -> None:
        disk, choose = self.sites[name].disk, self.random
        path = choose.choice([*NAMES, *sorted(disk.tree)])
        there = disk.tree.get(path)
        act = choose.choices(("write", "mkdir", "symlink", "remove", "rename", "chmod"), weights=(8, 2, 1, 3, 2, 1))[0]
        if not disk.has_parent(path):
            return
        mtime = choose.randrange(1 << 40)
        if act == "write" and (there is None or there.kind is Kind.FILE):
            self._supersede(disk, path)
            data = b"%d by %s" % (next(self._written), name.encode())
            self.written.add(data)
            disk.put(path, Kind.FILE, data, choose.choice((0o644, 0o755)), mtime)
        elif act == "mkdir" and there is None:
            disk.put(path, Kind.DIRECTORY, mode=choose.choice((0o755, 0o700)))
        elif act == "symlink" and there is None:
            target = b"to %d" % next(self._written)
            self.written.add(target)
            disk.put(path, Kind.SYMLINK, target, mode=0)
        elif act == "remove" and there is not None:
            for gone in [*disk.inside(path), path]:
                self._supersede(disk, gone)
            disk.remove(path)
        elif act == "rename" and there is not None and there.kind is Kind.FILE:
            target_path = choose.choice(NAMES)
            target = disk.tree.get(target_path)
            if target_path != path and disk.has_parent(target_path) and (target is None or target.kind is Kind.FILE):
                self._supersede(disk, target_path)
                disk.remove(path)
                disk.put(target_path, Kind.FILE, there.data, there.mode, there.mtime)
        elif act == "chmod" and there is not None and there.kind is not Kind.SYMLINK:
            disk.chmod(path, choose.choice((0o600, 0o640, 0o700)), there.mtime)
        if choose.random() < 0.7:
            self._at_site(name, lambda: self.scan(name))

    def _supersede(self, disk: Disk, path: bytes) -> None:
        there = disk.tree.get(path)
        if there is not None and there.kind is not Kind.DIRECTORY:
            self.superseded.add(there.data)

    # a whole run

    def play(self, acts: int) -> None:
        pairs = list(itertools.combinations(self.names, 2))
        for pair in pairs:
            self.after(self.random.random(), lambda pair=pair: self.connect(*pair))  # type: ignore[misc]
        for _ in range(acts):
            roll = self.random.random()
            if roll < 0.75:
                self.user_acts(self.random.choice(self.names))
            elif roll < 0.82:
                pair = self.random.choice(pairs)
                self.cut.add(frozenset(pair))
                self.disconnect(*pair)
            elif roll < 0.90:
                pair = self.random.choice(pairs)
                self.cut.discard(frozenset(pair))
                self.connect(*pair)
            elif roll < 0.94 and self.losses:
                self.crash(self.random.choice(self.names), lose_index=self.random.random() < 0.25)
            else:
                self.run_for(self.random.random() * 5)
            self.run_for(self.random.random() * self.random.choice((0.1, 1.0, 3.0)))

    def settle(self) -> None:
        """Heal everything, scan everywhere, and run until nothing is left to do."""
        self.cut.clear()
        for pair in itertools.combinations(self.names, 2):
            self.connect(*pair)
        for _ in range(8):
            for name in self.names:
                self.scan(name)
                self.sites[name].replica.retry()
                self.flush(name)
            self.run_until_idle()

    # what must hold at rest

    def check(self) -> None:
        trees = {
            name: {path: (f.kind, f.data, f.mode, f.mtime) for path, f in site.disk.tree.items()}
            for name, site in self.sites.items()
        }
        first = trees[self.names[0]]
        for name, tree in trees.items():
            assert tree == first, f"{name} differs: {sorted(set(tree.items()) ^ set(first.items()))}"
        alive = {data for _, data, _, _ in first.values()}
        lost = self.written - self.superseded - alive
        assert not lost, f"lost: {lost}"
        for name, site in self.sites.items():
            assert not site.replica.needs, f"{name} still needs {site.replica.needs}"
            assert site.replica.in_sync, f"{name} does not know that it is in sync"
            assert not site.disk.states(site.index), f"{name}: a scan would plan something"
        records = [{p: (r.entry.vector, r.entry.dot) for p, r in s.index.rows.items()} for s in self.sites.values()]
        assert all(record == records[0] for record in records), "the sites' records differ"
