"""What every mover must do, with two real processes of it. A new transport is a new line in TRANSPORTS."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer.tests.contract.mover_bench import SMALL_BLOCK, Mover, Pair
from syncer.wire import mover_protocol as protocol

TRANSPORTS = ("syncer.movers.udt", "syncer.movers.tcp")


@pytest.fixture(params=TRANSPORTS)
def module(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pair(tmp_path: Path, module: str) -> Iterator[Pair]:
    pair = Pair(tmp_path / "movers", module)
    yield pair
    pair.close()


def write(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def is_quiet(last: list[protocol.SessionStats], stats: protocol.SessionStats) -> bool:
    """Whether hardly anything arrived since the report before, which ``last`` holds."""
    before, last[0] = last[0], stats
    return stats.bytes_received - before.bytes_received < 10_000


def transfer(pair: Pair, session: int, moves: list[tuple[protocol.ExpectFile, protocol.SendFile]]) -> set[int]:
    pair.receiver.say(*(expect for expect, _ in moves))
    pair.sender.say(*(send for _, send in moves))
    return {expect.job for expect, _ in moves}


def test_files_of_all_sizes_arrive(pair: Pair, tmp_path: Path) -> None:
    session = pair.open()
    sizes = [0, 1, 1000, SMALL_BLOCK, SMALL_BLOCK + 1, 256 * 1024, 3_000_001]
    sources = [write(tmp_path / f"source{number}", size) for number, size in enumerate(sizes)]
    jobs = transfer(pair, session, [pair.job(session, source, source.with_suffix(".temp")) for source in sources])
    pair.receiver.received(session, jobs)
    for source in sources:
        assert source.with_suffix(".temp").read_bytes() == source.read_bytes()
    sent: set[int] = set()
    while sent != jobs:
        sent |= set(pair.sender.wait(protocol.Sent).jobs)


def test_files_go_both_ways_in_one_session(pair: Pair, tmp_path: Path) -> None:
    session = pair.open()
    there, back = write(tmp_path / "there", 500_000), write(tmp_path / "back", 500_000)
    expect, send = pair.job(session, there, tmp_path / "there.temp")
    pair.receiver.say(expect)
    pair.sender.say(send)
    expect_back, send_back = pair.job(session, back, tmp_path / "back.temp")
    pair.sender.say(expect_back)
    pair.receiver.say(send_back)
    pair.receiver.received(session, {expect.job})
    pair.sender.received(session, {expect_back.job})
    assert (tmp_path / "there.temp").read_bytes() == there.read_bytes()
    assert (tmp_path / "back.temp").read_bytes() == back.read_bytes()


def test_two_thousand_small_files(pair: Pair, tmp_path: Path) -> None:
    session = pair.open()
    sources = [write(tmp_path / f"{number}", 100 + number) for number in range(2000)]
    moves = [pair.job(session, source, source.with_suffix(".temp")) for source in sources]
    pair.receiver.received(session, transfer(pair, session, moves))
    assert all(source.with_suffix(".temp").read_bytes() == source.read_bytes() for source in sources)


def test_a_small_file_overtakes_a_large_one(pair: Pair, tmp_path: Path) -> None:
    session = pair.open()
    large, small = write(tmp_path / "large", 100_000_000), write(tmp_path / "small", 1000)
    expect_large, send_large = pair.job(session, large, tmp_path / "large.temp")
    expect_small, send_small = pair.job(session, small, tmp_path / "small.temp")
    pair.receiver.say(expect_large, expect_small)
    pair.sender.say(send_large, send_small)
    assert pair.receiver.wait(protocol.Received).jobs == [expect_small.job]
    pair.receiver.received(session, {expect_large.job})
    assert (tmp_path / "large.temp").read_bytes() == large.read_bytes()


def test_only_missing_blocks_are_sent(pair: Pair, tmp_path: Path) -> None:
    session = pair.open()
    source = write(tmp_path / "source", 5 * SMALL_BLOCK + 17)
    temp = tmp_path / "temp"
    data = source.read_bytes()
    temp.write_bytes(data[: 2 * SMALL_BLOCK])
    move = pair.job(session, source, temp, have=(0, 1), block_size=SMALL_BLOCK)
    pair.receiver.received(session, transfer(pair, session, [move]))
    assert temp.read_bytes() == data
    stats = pair.sender.wait(protocol.SessionStats, lambda stats: stats.bytes_sent > 3 * SMALL_BLOCK)
    assert stats.bytes_sent < 4 * SMALL_BLOCK


@pytest.mark.parametrize("victim", ["sender", "receiver"])
def test_a_killed_mover_is_noticed_and_the_transfer_resumes(pair: Pair, tmp_path: Path, victim: str) -> None:
    session = pair.open()
    source = write(tmp_path / "source", 40 * SMALL_BLOCK)
    temp = tmp_path / "temp"
    expect, send = pair.job(session, source, temp, block_size=SMALL_BLOCK)
    # Only the first half is asked for: the job cannot finish before the kill.
    pair.receiver.say(expect)
    pair.sender.say(
        protocol.SendFile(
            session=session,
            job=send.job,
            path=send.path,
            size=send.size,
            mtime_ns=send.mtime_ns,
            ranges=send.ranges[:20],
        )
    )
    pair.receiver.wait(protocol.SessionStats, lambda stats: stats.bytes_received > 20 * SMALL_BLOCK)
    killed = getattr(pair, victim)
    survivor = pair.receiver if victim == "sender" else pair.sender
    killed.kill()
    down = survivor.wait(protocol.SessionDown, timeout_s=12)
    assert down.session == session
    have = tuple(range(20))
    if victim == "sender":
        assert down.verified == {expect.job: list(have)}
    killed.respawn()
    if victim == "receiver":
        pair.port = pair.listen()
    again = pair.open()
    move = pair.job(again, source, temp, have=have, block_size=SMALL_BLOCK)
    pair.receiver.received(again, transfer(pair, again, [move]))
    assert temp.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_wrong_key_brings_no_session(pair: Pair, direction: str) -> None:
    session = pair.open(wrong_key=direction, wait=False)
    for mover in (pair.sender, pair.receiver):
        assert mover.wait(protocol.SessionDown).session == session
        assert not [message for message in mover.seen if isinstance(message, protocol.SessionUp)]


def test_a_connection_for_no_session_is_refused_until_there_is_one(pair: Pair) -> None:
    session = secrets.randbits(63)
    keys = secrets.token_bytes(32), secrets.token_bytes(32)
    common = {"session": session, "address": "127.0.0.1", "port": pair.port}
    pair.sender.say(protocol.OpenSession(site="b", role="connect", send_key=keys[0], receive_key=keys[1], **common))
    # Long enough for a first attempt to have been turned away.
    pair.sender.poll(0.5)
    pair.receiver.say(protocol.OpenSession(site="a", role="accept", send_key=keys[1], receive_key=keys[0], **common))
    pair.sender.wait(protocol.SessionUp)
    pair.receiver.wait(protocol.SessionUp)


def test_a_source_that_is_not_what_was_agreed(pair: Pair, tmp_path: Path) -> None:
    session = pair.open()
    changed, gone = write(tmp_path / "changed", 1000), write(tmp_path / "gone", 1_000_000)
    moves = [
        pair.job(session, changed, tmp_path / "changed.temp"),
        pair.job(session, gone, tmp_path / "gone.temp"),
    ]
    os.utime(changed, ns=(0, 0))
    gone.unlink()
    for job in transfer(pair, session, moves):
        assert pair.sender.wait(protocol.SendFailed, lambda message, job=job: message.job == job).code == "source"
        failed = pair.receiver.wait(protocol.ReceiveFailed, lambda message, job=job: message.job == job)
        assert failed.code == "source"
        assert failed.detail


def test_content_that_is_not_what_was_agreed(pair: Pair, tmp_path: Path) -> None:
    session = pair.open()
    for name, size in (("small", 1000), ("large", 3 * SMALL_BLOCK)):
        source = write(tmp_path / name, size)
        move = pair.job(session, source, tmp_path / f"{name}.temp", block_size=SMALL_BLOCK)
        before = source.stat()
        content = bytearray(source.read_bytes())
        content[-1] ^= 1
        source.write_bytes(content)
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
        transfer(pair, session, [move])
        failed = pair.receiver.wait(protocol.ReceiveFailed)
        assert failed.code == "verify"
        assert failed.verified == ([] if name == "small" else [0, 1])


def test_a_cancelled_job_stops_and_the_session_goes_on(pair: Pair, tmp_path: Path) -> None:
    session = pair.open()
    cancelled, kept = write(tmp_path / "cancelled", 30_000_000), write(tmp_path / "kept", 1_000_000)
    unwanted = pair.job(session, cancelled, tmp_path / "cancelled.temp")
    transfer(pair, session, [unwanted])
    pair.receiver.say(protocol.CancelReceive(session=session, job=unwanted[0].job))
    pair.sender.say(protocol.CancelSend(session=session, job=unwanted[0].job))
    pair.receiver.received(session, transfer(pair, session, [pair.job(session, kept, tmp_path / "kept.temp")]))
    assert (tmp_path / "kept.temp").read_bytes() == kept.read_bytes()


def test_cancelling_a_job_leaves_the_other_directions_job_of_that_number_alone(pair: Pair, tmp_path: Path) -> None:
    session = pair.open()
    there, back = write(tmp_path / "there", 30_000_000), write(tmp_path / "back", 30_000_000)
    expect, send = pair.job(session, there, tmp_path / "there.temp", job=7)
    expect_back, send_back = pair.job(session, back, tmp_path / "back.temp", job=7)
    pair.receiver.say(expect)
    pair.sender.say(expect_back, send)
    pair.receiver.say(send_back, protocol.CancelReceive(session=session, job=7))
    pair.sender.say(protocol.CancelSend(session=session, job=7))
    pair.sender.received(session, {7})
    assert (tmp_path / "back.temp").read_bytes() == back.read_bytes()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_fails_the_job_and_nothing_else(pair: Pair, tmp_path: Path) -> None:
    session = pair.open()
    small_disk = tmp_path / "disk"
    small_disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small_disk], check=True)
    try:
        large, small = write(tmp_path / "large", 4_000_000), write(tmp_path / "small", 1000)
        transfer(pair, session, [pair.job(session, large, small_disk / "large.temp")])
        failed = pair.receiver.wait(protocol.ReceiveFailed)
        assert (failed.code, failed.detail.split(":")[0]) == ("disk", "ENOSPC")
        (small_disk / "large.temp").unlink()
        pair.receiver.received(session, transfer(pair, session, [pair.job(session, small, small_disk / "small.temp")]))
    finally:
        subprocess.run(["umount", small_disk], check=True)


def test_a_new_incarnation_drops_every_session(pair: Pair, tmp_path: Path) -> None:
    session = pair.open()
    pair.receiver.incarnation = 2
    pair.receiver.say(protocol.Welcome(incarnation=2))
    assert pair.sender.wait(protocol.SessionDown).session == session
    pair.port = pair.listen()
    again = pair.open()
    source = write(tmp_path / "source", 1000)
    pair.receiver.received(again, transfer(pair, again, [pair.job(again, source, tmp_path / "temp")]))


def test_closing_a_session_ends_it_at_both_ends(pair: Pair) -> None:
    session = pair.open()
    pair.sender.say(protocol.CloseSession(session=session))
    assert "coordinator" in pair.sender.wait(protocol.SessionDown).reason
    assert pair.receiver.wait(protocol.SessionDown).session == session


@pytest.mark.parametrize("direction", ["there", "back"])
def test_a_speed_test_counts_what_arrived_while_files_go_on(pair: Pair, tmp_path: Path, direction: str) -> None:
    session = pair.open()
    pair.sender.say(protocol.SpeedTest(session=session, test=9, direction=direction, seconds=1.0))
    source = write(tmp_path / "source", 300_000)
    pair.receiver.received(session, transfer(pair, session, [pair.job(session, source, tmp_path / "temp")]))
    assert not [message for message in pair.sender.seen if isinstance(message, protocol.SpeedResult)]
    result = pair.sender.wait(protocol.SpeedResult)
    assert (result.session, result.test, result.direction) == (session, 9, direction)
    assert 800_000 < result.microseconds < 20_000_000
    counting = pair.receiver if direction == "there" else pair.sender
    stats = counting.wait(protocol.SessionStats, lambda stats: stats.bytes_received >= result.bytes)
    assert result.bytes > 1_000_000
    assert stats.content_received <= 300_000
    assert (tmp_path / "temp").read_bytes() == source.read_bytes()


def test_a_speed_test_that_is_stopped_ends_early(pair: Pair) -> None:
    session = pair.open()
    pair.sender.say(
        protocol.SpeedTest(session=session, test=1, direction="there", seconds=60),
        protocol.SpeedTest(session=session, test=2, direction="back", seconds=60),
    )
    for mover in (pair.sender, pair.receiver):
        mover.wait(protocol.SessionStats, lambda stats: stats.bytes_received > 1_000_000)
    pair.sender.say(protocol.StopSpeedTest(session=session, test=1), protocol.StopSpeedTest(session=session, test=2))
    # Both directions are still again: only heartbeats come between two reports.
    for mover in (pair.sender, pair.receiver):
        last = [mover.wait(protocol.SessionStats)]
        mover.wait(protocol.SessionStats, lambda stats, last=last: is_quiet(last, stats))


def test_a_cap_reaches_the_transport_and_can_be_changed(pair: Pair) -> None:
    session = pair.open(rate_bps=40_000_000)
    for mover in (pair.sender, pair.receiver):
        assert mover.wait(protocol.SessionStats).rate_cap_bps == 40_000_000
    pair.sender.say(protocol.SetRate(session=session, rate_bps=20_000_000))
    pair.sender.wait(protocol.SessionStats, lambda stats: stats.rate_cap_bps == 20_000_000)
    pair.sender.say(protocol.SetRate(session=session, rate_bps=0))
    pair.sender.wait(protocol.SessionStats, lambda stats: stats.rate_cap_bps == 0)


def test_over_ipv6(tmp_path: Path, module: str) -> None:
    pair = Pair(tmp_path / "movers", module, address="::1")
    try:
        session = pair.open(rate_bps=400_000_000)
        source = write(tmp_path / "source", 3_000_001)
        pair.receiver.received(session, transfer(pair, session, [pair.job(session, source, tmp_path / "temp")]))
        assert (tmp_path / "temp").read_bytes() == source.read_bytes()
    finally:
        pair.close()


def test_a_port_in_use_is_reported_and_tried_again(tmp_path: Path, module: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if "tcp" in module else socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        if holder.type == socket.SOCK_STREAM:
            holder.listen()
        port = holder.getsockname()[1]
        mover = Mover(tmp_path / "mover", module)
        try:
            mover.wait(protocol.Hello)
            mover.say(protocol.Listen(address="127.0.0.1", port=port))
            assert str(port) in mover.wait(protocol.ListenFailed).reason
            holder.close()
            assert mover.wait(protocol.Listening).port == port
        finally:
            mover.close()


def test_stop_ends_the_process(tmp_path: Path, module: str) -> None:
    mover = Mover(tmp_path / "mover", module)
    mover.wait(protocol.Hello)
    mover.say(protocol.Stop())
    assert mover.process.wait(10) == 0
    mover.close()
