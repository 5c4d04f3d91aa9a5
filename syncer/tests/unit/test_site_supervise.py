"""The supervisor and the tether of its children, with real processes and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from syncer.site import supervise
from syncer.site.home import Home
from syncer.site.tether import TETHER

DEADLINE_S = 20
SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


def tether(tmp_path: Path, parent: int, command: list[str], *, inherited: int) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-m", "syncer.site.tether", str(tmp_path / "log"), str(parent), "--", *command]
    return subprocess.run(line, env=os.environ | {TETHER: str(inherited)}, timeout=DEADLINE_S, check=False)


def test_a_child_of_another_parent_than_the_tethered_one_does_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    command = [sys.executable, "-c", f"open({str(proof)!r}, 'w')"]
    assert tether(tmp_path, 0, command, inherited=os.getppid()).returncode == 1
    assert not proof.exists()
    assert tether(tmp_path, 0, command, inherited=os.getpid()).returncode == 0
    assert proof.exists()


def test_a_tethered_process_passes_its_own_pid_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"import os; raise SystemExit(os.environ[{TETHER!r}] != str(os.getpid()))"]
    assert tether(tmp_path, os.getpid(), command, inherited=1).returncode == 0


def test_a_stop_while_the_child_is_being_started_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    home.prepare()
    started: list[subprocess.Popen[bytes]] = []

    class StoppedMeanwhile(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(SLEEPER)
            started.append(self)
            os.kill(os.getpid(), signal.SIGTERM)

        def wait(self, timeout: float | None = None) -> int:
            return super().wait(DEADLINE_S if timeout is None else timeout)

    monkeypatch.setattr(subprocess, "Popen", StoppedMeanwhile)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        supervise._keep_alive(home, [])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for child in started:
            child.kill()
    assert [child.returncode for child in started] == [-signal.SIGTERM]
