"""``syncer run``: the process that keeps circusd alive, which keeps the coordinator and the movers alive.

A SIGKILL of any of them is mended by its parent; each dies with its parent, so nothing ever runs twice.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from syncer.errors import InputError
from syncer.site.home import TRANSPORTS, Home

RESPAWN_CHECK_S = 0.5
GRACEFUL_STOP_S = 4
CRASH_PAUSE_S = 0.5


def circus_ini(home: Home) -> str:
    """The configuration of circusd: every endpoint in the private run directory, since none has authentication."""
    python = sys.executable
    commands = {
        "coordinator": [python, "-m", "syncer.site.coordinator_process", "--home", str(home.path)],
    }
    for transport in TRANSPORTS:
        name = f"mover-{transport}"
        module = f"syncer.movers.{transport}"
        commands[name] = [python, "-m", module, "--name", name, "--coordinator", home.endpoint("movers")]
    sections = [
        "[circus]",
        f"check_delay = {RESPAWN_CHECK_S}",
        f"endpoint = {home.endpoint('circus')}",
        f"pubsub_endpoint = {home.endpoint('circus-events')}",
        "statsd = False",
    ]
    for role, command in commands.items():
        sections += [
            "",
            f"[watcher:{role}]",
            f"cmd = {shlex.quote(python)}",
            f"args = {shlex.join(tethered(home, role, 0, command)[1:])}",
            "copy_env = True",
            "singleton = True",
            "numprocesses = 1",
            "respawn = True",
            "max_retry = -1",
            "warmup_delay = 0",
            f"graceful_timeout = {GRACEFUL_STOP_S}",
        ]
    return "\n".join(sections) + "\n"


def tethered(home: Home, role: str, parent: int, command: list[str]) -> list[str]:
    """``command`` as a child that dies with ``parent`` and logs to the role's file."""
    log = str(home.log / f"{role}.out")
    return [sys.executable, "-m", "syncer.site.tether", log, str(parent), "--", *command]


def run(home: Home, announce: Callable[[str], None]) -> None:
    """Run the site until SIGTERM or SIGINT. Raises InputError when an engine runs in ``home`` already."""
    config = home.load()
    home.load_secret()
    lock = home.lock()
    if lock is None:
        raise InputError(f"an engine runs in {home.path} already", hint=f"see: syncer status --home {home.path}")
    try:
        home.prepare()
        for stale in home.run.glob("*.pid"):
            stale.unlink()
        home.write_pid("supervisor", os.getpid())
        ini = home.run / "circus.ini"
        ini.write_text(circus_ini(home))
        announce(f"site {config.site}: syncing {config.folder}; logs in {home.log}")
        _keep_alive(home, [sys.executable, "-m", "syncer.site.circusd_process", str(ini)])
    finally:
        os.close(lock)


def _keep_alive(home: Home, command: list[str]) -> None:
    child: subprocess.Popen[bytes] | None = None
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        if child is not None and child.poll() is None:
            child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    while not stopping:
        began = time.monotonic()
        child = subprocess.Popen(
            tethered(home, "circusd", os.getpid(), command), stdin=subprocess.DEVNULL, start_new_session=True
        )
        if stopping:  # told so while it was being started
            child.terminate()
        home.write_pid("circusd", child.pid)
        child.wait()
        if not stopping and time.monotonic() - began < CRASH_PAUSE_S:
            time.sleep(CRASH_PAUSE_S)
