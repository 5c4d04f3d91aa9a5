"""Small files in groups: what is synced how, what is told, and how much may wait."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from syncer.movers.disk import MAX_QUEUED_BYTES, DiskPool
from syncer.movers.whole_files import AVOID_S, SLOW_S, TOGETHER_AT_LEAST, SyncChoice, WholeFile, WholeFileWriter


def test_a_slow_sync_of_the_whole_file_system_is_avoided_for_a_while() -> None:
    choice = SyncChoice()
    assert not choice.whole_file_system(TOGETHER_AT_LEAST - 1, 100.0)
    assert choice.whole_file_system(TOGETHER_AT_LEAST, 100.0)
    choice.took(SLOW_S / 2, 100.0)
    assert choice.whole_file_system(TOGETHER_AT_LEAST, 100.0)
    choice.took(2 * SLOW_S, 100.0)
    assert not choice.whole_file_system(TOGETHER_AT_LEAST, 100.0 + AVOID_S / 2)
    assert choice.whole_file_system(TOGETHER_AT_LEAST, 101.0 + AVOID_S)


def test_every_submission_hears_of_its_own_files(tmp_path: Path) -> None:
    writer = WholeFileWriter()
    heard: dict[int, list[int]] = {}
    for number in range(20):
        names = [tmp_path / f"{number}-{part}" for part in range(30)] + [tmp_path / "missing" / "file"]
        files = [WholeFile(os.fsencode(name), memoryview(b"%d" % number)) for name in names]
        writer.submit(files, lambda errors, number=number: heard.update({number: errors}))  # type: ignore[misc]
    writer.close()
    assert heard == {number: [0] * 30 + [errno.ENOENT] for number in range(20)}
    assert len(list(tmp_path.iterdir())) == 600


def test_a_full_queue_stops_who_submits(tmp_path: Path) -> None:
    disk = DiskPool()
    go_on, entered = threading.Event(), threading.Event()

    def stuck() -> None:
        entered.set()
        assert go_on.wait(10)

    disk.submit(MAX_QUEUED_BYTES, stuck)
    assert entered.wait(10)
    done = threading.Event()
    file = WholeFile(os.fsencode(tmp_path / "file"), memoryview(b"x"))
    submitter = threading.Thread(target=disk.write_whole, args=(1, [file], lambda errors: done.set()))
    submitter.start()
    assert not done.wait(0.2)
    assert submitter.is_alive()
    go_on.set()
    assert done.wait(10)
    submitter.join(10)
    disk.close()
