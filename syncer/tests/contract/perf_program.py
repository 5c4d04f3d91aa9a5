"""``python -m syncer.udt.perf`` as its users run it: a server in the background; a client's exit code and result."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

PROGRAM = [sys.executable, "-m", "syncer.udt.perf"]
START_S = 30.0


@dataclass(frozen=True)
class Measured:
    exit_code: int
    result: dict[str, Any]
    """Empty when there was none."""
    errors: str


@dataclass
class Server:
    process: subprocess.Popen[str]
    address: tuple[str, int]


@contextmanager
def serving(implementation: str, *options: str, host: str = "127.0.0.1") -> Iterator[Server]:
    """On a free port; ended by an interrupt unless it has left."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--bind", host, "--port", "0", "-i", implementation, "--json", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        late = threading.Timer(START_S, process.kill)
        late.start()
        first = process.stdout.readline()
        late.cancel()
        listening = json.loads(first)["listening"]
        yield Server(process, (listening["address"], listening["port"]))
    finally:
        process.kill()
        process.communicate()


def measured(address: tuple[str, int], *options: str, timeout_s: float = 60.0) -> Measured:
    done = subprocess.run(
        [*PROGRAM, "send", address[0], "--port", str(address[1]), "--json", *options],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Measured(done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr)
