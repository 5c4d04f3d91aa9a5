"""A clock of a node that can be moved: a small library, preloaded into every process that the node's sshd starts.

Time namespaces move the monotonic clocks alone, so the time of day is moved in the process. Programs that are linked
statically, or that ask the kernel without the C library (Go), do not see it.
"""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from harness.errors import NodeError
from harness.model.base import Value

_SOURCE = Path(__file__).with_name("native") / "node_clock.c"
_FLAGS = ("-shared", "-fPIC", "-O2", "-s", "-std=gnu11", "-Wall", "-Wno-nonnull-compare")
_DEADLINE_S = 60
_LAYOUT = struct.Struct("<qdq")
_TURN = struct.Struct("<Q")


class ClockShift(Value):
    """One displacement: ``offset_s`` at once, and ``rate`` seconds a second since ``since_s`` (monotonic)."""

    offset_s: float = 0.0
    rate: float = 0.0
    since_s: float = 0.0


def install_clock(etc: Path) -> dict[str, str]:
    """Put the library and its control file into a node's ``etc``; the environment that its processes need.

    Raises NodeError when there is no C compiler.
    """
    library, control = etc / "clock.so", etc / "clock"
    library.write_bytes(_library())
    library.chmod(0o755)
    control.write_bytes(_TURN.pack(0) + _LAYOUT.pack(0, 0.0, 0))
    return {"LD_PRELOAD": str(library), "LONGHAUL_CLOCK": str(control)}


def has_clock(etc: Path) -> bool:
    """Whether the node's processes have one that can be moved."""
    return (etc / "clock").exists()


def set_clock(etc: Path, shifts: Iterable[ClockShift]) -> None:
    """Move the node's clock by all of these together, and by nothing else."""
    now_s = time.monotonic()
    offset_ns, rate = 0.0, 0.0
    for shift in shifts:
        offset_ns += 1e9 * (shift.offset_s + shift.rate * (now_s - shift.since_s))
        rate += shift.rate
    with (etc / "clock").open("r+b", buffering=0) as control:
        turn = _TURN.unpack(control.read(_TURN.size))[0] | 1
        control.seek(0)
        control.write(_TURN.pack(turn))
        control.write(_LAYOUT.pack(round(offset_ns), rate, round(now_s * 1e9)))
        control.seek(0)
        control.write(_TURN.pack(turn + 1))


def read_clock(etc: Path) -> float:
    """By how many seconds the node's clock is ahead now."""
    content = (etc / "clock").read_bytes()
    offset_ns, rate, since_ns = _LAYOUT.unpack_from(content, _TURN.size)
    return float((offset_ns + rate * (time.monotonic_ns() - since_ns)) / 1e9)


@functools.cache
def _library() -> bytes:
    compiler = shutil.which("gcc")
    if compiler is None:
        raise NodeError("a node's clock needs a C compiler, and gcc is missing", hint="apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / "clock.so"
        done = subprocess.run(
            [compiler, *_FLAGS, "-o", str(made), str(_SOURCE), "-ldl"],
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
        )
        if done.returncode:
            raise NodeError(f"{_SOURCE.name} does not compile:\n{done.stderr.strip()}")
        return made.read_bytes()
