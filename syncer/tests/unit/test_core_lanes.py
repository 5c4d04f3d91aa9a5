"""How much is asked of a peer at once, in which order, and of what it is told."""

from __future__ import annotations

import itertools

from blake3 import blake3

from syncer.core.commands import Apply, Command, Fetch, SendDelta
from syncer.core.diff import LocalState
from syncer.core.lanes import FIRST_WINDOW, LARGEST_WINDOW, SMALL_FILE, Lane, large_lane, small_lane
from syncer.core.peering import DELTA_ENTRIES, DELTAS_IN_FLIGHT, PARTIAL_IN_FLIGHT
from syncer.core.records import Content, Entry, Fingerprint, Kind, block_size_for
from syncer.core.replica import Replica
from syncer.tests.simulation.simulated_site import MemoryIndex

GIGABYTE = 1 << 30
numbers = itertools.count(1)


def file_entry(path: bytes, size: int, *, count: int = 1) -> Entry:
    digest = blake3(b"%d" % next(numbers)).digest()
    block = block_size_for(size)
    return Entry(
        path=path,
        kind=Kind.FILE,
        mode=0o644,
        content=Content(size, digest, block, digest * -(-size // block)),
        vector=(("a.1", count),),
        origin="a",
        dot=("a.1", count),
    )


def connected() -> Replica:
    replica = Replica("b", MemoryIndex(1), ["a"])
    replica.peer_up("a", 7, 0, 0, 0)
    replica.data_path_up("a")
    return replica


def announce(replica: Replica, *entries: Entry) -> list[Command]:
    start = replica.peers["a"].their_received + 1
    replica.delta("a", list(enumerate(entries, start)), start + len(entries) - 1, True)
    return replica.flush()


def fetched(commands: list[Command]) -> list[bytes]:
    return [command.entry.path for command in commands if isinstance(command, Fetch)]


def test_a_small_file_is_asked_for_at_once_while_large_ones_fill_their_lane() -> None:
    replica = connected()
    assert fetched(announce(replica, *(file_entry(b"large %d" % n, GIGABYTE) for n in range(5)))) == [
        b"large 0",
        b"large 1",
    ]
    assert fetched(announce(replica, file_entry(b"urgent", 10_000))) == [b"urgent"]


def test_the_next_large_file_is_asked_for_when_one_ends() -> None:
    replica = connected()
    commands = announce(replica, *(file_entry(b"large %d" % n, GIGABYTE) for n in range(3)))
    job = next(command.job for command in commands if isinstance(command, Fetch))
    replica.fetched(job)
    assert fetched(replica.flush()) == [b"large 2"]


def test_a_window_doubles_each_round_trip_while_it_limits() -> None:
    lane = small_lane()
    lane.wants.extend(b"%d" % n for n in range(10**4))
    asked: list[int] = []
    job = itertools.count()
    for _ in range(4):
        round_trip = []
        while lane.has_room:
            lane.start(number := next(job), SMALL_FILE)
            round_trip.append(number)
        asked.append(len(round_trip))
        for number in round_trip:
            lane.end(number)
    assert asked[0] == FIRST_WINDOW // SMALL_FILE
    assert asked[1:] == [2 * asked[0], 4 * asked[0], 8 * asked[0]]


def test_a_window_is_no_more_than_the_path_delivers_in_half_a_second_and_a_round_trip() -> None:
    lane = large_lane()
    lane.window = LARGEST_WINDOW
    lane.measured(25_000_000, 0.1)
    assert lane.window == 2 * 25_000_000 * 6 // 10
    lane.measured(10, 0.1)
    assert lane.window == FIRST_WINDOW
    lane.measured(10**12, 0.3)
    assert lane.cap == LARGEST_WINDOW


def test_an_idle_lane_begins_small_again() -> None:
    lane = Lane(most_files=10, least_files=1)
    lane.window = LARGEST_WINDOW
    lane.start(1, 10)
    lane.end(1)
    assert lane.window == FIRST_WINDOW
    assert lane.wanted == 0
    lane.end(1)
    assert lane.wanted == 0


def install(replica: Replica, commands: list[Command]) -> list[Command]:
    """Fetch and install all that is asked for."""
    for command in commands:
        if isinstance(command, Fetch):
            replica.fetched(command.job)
    for command in replica.flush():
        if isinstance(command, Apply):
            replica.applied(command.entry.path, Fingerprint(1, 2, 3, 4, 5, 0o644))
    return replica.flush()


def test_a_peer_is_not_told_what_it_announced_itself() -> None:
    replica = connected()
    commands = install(replica, announce(replica, file_entry(b"one", 10), file_entry(b"two", 10)))
    deltas = [command for command in commands if isinstance(command, SendDelta)]
    assert [delta.entries for delta in deltas] == [[]]
    assert deltas[0].upto == replica.index.last_seq == 2


def test_a_peer_is_told_of_a_path_that_stood_here_before() -> None:
    """It may hold an earlier record of ours for losing, and wait to hear that it is gone."""
    replica = connected()
    install(replica, announce(replica, file_entry(b"one", 10)))
    newer = file_entry(b"one", 10, count=2)
    commands = install(replica, announce(replica, newer))
    replica.delta_taken("a")
    commands += replica.flush()
    told = [entry for command in commands if isinstance(command, SendDelta) for _, entry in command.entries]
    assert told == [newer]


def test_a_peer_that_comes_back_is_told_everything_again() -> None:
    replica = connected()
    one = file_entry(b"one", 10)
    install(replica, announce(replica, one))
    replica.peer_down("a")
    replica.peer_up("a", 8, 0, 0, 0)
    deltas = [command for command in replica.flush() if isinstance(command, SendDelta)]
    assert [entry for delta in deltas for _, entry in delta.entries] == [one]


def write(replica: Replica, paths: list[bytes]) -> list[SendDelta]:
    """A user's files; what the peer is told of them."""
    mark = replica.mark()
    states = []
    for path in paths:
        content = file_entry(path, 10).content
        states.append(
            LocalState(path=path, kind=Kind.FILE, fingerprint=Fingerprint(1, 2, 10, 4, 5, 0o644), content=content)
        )
    replica.observed(states, mark)
    replica.release(mark)
    return [command for command in replica.flush() if isinstance(command, SendDelta)]


def test_single_files_leave_credit_for_full_deltas() -> None:
    replica = connected()
    small = [delta for n in range(50) for delta in write(replica, [b"single %d" % n])]
    assert len(small) == PARTIAL_IN_FLIGHT
    full = write(replica, [b"bulk %d" % n for n in range(DELTAS_IN_FLIGHT * DELTA_ENTRIES)])
    assert len(full) == DELTAS_IN_FLIGHT - PARTIAL_IN_FLIGHT
    assert all(len(delta.entries) == DELTA_ENTRIES for delta in full)
