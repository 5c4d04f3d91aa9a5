"""What the prober tells of packets that its socket did not take: those without room, not those that were damaged."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.wan.native_program import compiled

pytestmark = pytest.mark.root

PORT = 40413
HERE = "127.0.0.1"


@pytest.fixture
def prober() -> Iterator[subprocess.Popen[str]]:
    """Listens for a second, with nothing to send."""
    process = subprocess.Popen(
        [str(compiled("native/prober.c"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(f"token 1\nstart 0\nend 1000000\nbind {HERE} {PORT}\n")
    process.stdin.close()
    process.stdin = None
    deadline = time.monotonic() + 10
    while f"{PORT:04X} 00000000:0000" not in Path("/proc/net/udp").read_text():
        assert time.monotonic() < deadline, "it does not listen"
    yield process
    process.kill()
    process.wait()


def overflow_after(prober: subprocess.Popen[str], checksum: int) -> int:
    """Of ten packets with this checksum, and a few good ones, with which the kernel tells what it dropped before."""
    payload = bytes(1000)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        for _ in range(10):
            raw.sendto(struct.pack(">HHHH", 40414, PORT, 8 + len(payload), checksum) + payload, (HERE, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as good:
        # The prober takes the damaged ones off first; a good one that comes later bears the count.
        while prober.poll() is None:
            good.sendto(b"x", (HERE, PORT))
            with contextlib.suppress(subprocess.TimeoutExpired):
                prober.wait(timeout=0.02)
    answer, _ = prober.communicate(timeout=10)
    return int(json.loads(answer)["overflow"])


def test_a_damaged_packet_is_no_overflow(prober: subprocess.Popen[str]) -> None:
    assert overflow_after(prober, checksum=0x1234) == 0
