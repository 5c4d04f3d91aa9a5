"""Logging on a full disk."""

from __future__ import annotations

import os
from pathlib import Path

from syncer.log_sink import LogSink
from syncer.site.home import Home


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        assert LogSink(fd).write("line\n") == 5
    finally:
        os.close(fd)


def test_lines_are_appended(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for line in ("one\n", "tw\udcff\n"):
            LogSink(fd).write(line)
    finally:
        os.close(fd)
    assert (tmp_path / "log").read_text() == "one\ntw?\n"


def test_a_process_that_cannot_be_noted_runs_all_the_same(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run.mkdir()
    (home.run / "coordinator.pid").mkdir()
    home.write_pid("coordinator", 1)
    assert home.read_pid("coordinator") is None
