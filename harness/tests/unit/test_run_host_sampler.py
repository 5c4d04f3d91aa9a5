"""The sampler of the host ends with its owner and leaves whole lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from harness.run import health
from harness.run.health import read_windows

SAMPLER = Path(health.__file__).with_name("host_sampler.py")


def test_it_ends_at_the_end_of_its_input_and_says_what_it_saw(tmp_path: Path) -> None:
    file = tmp_path / "host.jsonl"
    spec = json.dumps({"file": str(file), "core_pid": os.getpid(), "hertz": 200})
    with subprocess.Popen([sys.executable, "-I", "-S", str(SAMPLER), spec], stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while len(read_windows(file)) < 1:
            assert time.monotonic() < deadline, "no line in 30 s"
            sum(range(1000))
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0
    windows = read_windows(file)
    assert windows
    assert sum(len(window.late_us) for window in windows) > 10
    assert max(window.core_busiest for window in windows) > 0.01
    assert all(0 <= window.steal <= 1 and 0 <= window.busy <= 1 for window in windows)


def test_lines_that_a_crash_cut_short_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "host.jsonl"
    file.write_text('{"at_s": 1, "seconds": 1, "steal": 0, "busy": 0.5}\n{"at_s": 2, "sec')
    assert [window.at_s for window in read_windows(file)] == [1.0]
    assert read_windows(tmp_path / "absent") == []
