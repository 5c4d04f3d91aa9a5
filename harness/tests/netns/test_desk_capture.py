"""Catching packets in a namespace: counts, clean ends, and nothing left behind after a kill."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dpkt
import pytest

from harness.errors import InputError
from harness.nodes.capture import Capture, check_filter

pytestmark = pytest.mark.root

PING = ["ping", "-n", "-q", "-c", "4", "-i", "0.05", "127.0.0.1"]


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"lhdesk{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def inside(namespace: str, argv: list[str]) -> None:
    subprocess.run(["ip", "netns", "exec", namespace, *argv], check=True, stdout=subprocess.DEVNULL)


def test_the_file_is_whole_after_a_stop_and_holds_what_the_filter_wants(namespace: str, tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    wanted = "icmp[icmptype] == icmp-echo"
    with file.open("wb") as stream, Capture(namespace, "lo", wanted, output=stream, snap_bytes=60) as running:
        running.await_listening()
        inside(namespace, PING)
        counts = running.stop()
    packets = list(dpkt.pcap.Reader(io.BytesIO(file.read_bytes())))
    # Each packet crosses the loopback once as sent and once as received, and tcpdump shows one of the two.
    assert counts.captured == len(packets) == 4
    assert all(40 < len(packet) <= 60 for _, packet in packets)


def test_it_ends_by_itself_after_so_many_packets(namespace: str, tmp_path: Path) -> None:
    with (tmp_path / "x.pcap").open("wb") as stream, Capture(namespace, "lo", "", output=stream, packets=2) as running:
        running.await_listening()
        inside(namespace, PING)
        assert running.wait(20).captured == 2


def test_a_filter_that_does_not_compile_is_the_users_mistake() -> None:
    check_filter("tcp port 22")
    with pytest.raises(InputError, match="syntax error"):
        check_filter("tcp prot 22")


def test_nothing_stays_behind_when_its_owner_is_killed(namespace: str, tmp_path: Path) -> None:
    script = (
        "import sys; from harness.nodes.capture import Capture\n"
        f"running = Capture({namespace!r}, 'lo', '', output=open({str(tmp_path / 'x.pcap')!r}, 'wb'))\n"
        "running.await_listening(); print(running._process.pid, flush=True); sys.stdin.read()\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdin is not None
    pid = int(owner.stdout.readline())
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/exe").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "tcpdump outlives its owner"
        time.sleep(0.01)
