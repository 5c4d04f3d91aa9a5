"""Paths that carry less than an Ethernet: in a network namespace of its own, whose loopback device is such a path."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace"),
]

SCRIPT = """
import errno, subprocess, time
from syncer import udt

def mtu(size):
    subprocess.run(["ip", "link", "set", "lo", "mtu", str(size), "up"], check=True)

def pair(host, **settings):
    with udt.create_server((host, 0), **settings) as listener:
        client = udt.create_connection(listener.getsockname(), **settings)
        server, _peer = listener.accept()
    for end in (client, server):
        end.settimeout(10)
    return client, server

mtu(1400)
for host in ("127.0.0.1", "::1"):
    client, server = pair(host)
    assert client.statistics().mss_bytes == server.statistics().mss_bytes == 1400
    client.sendall(bytes(1_000_000))
    assert server.recv_exactly_into(bytearray(1_000_000)) == 1_000_000
    assert client.close() == 0
    server.abort()

mtu(9000)
client, server = pair("127.0.0.1", mss=9000, control="fixed", rate_bps=100e6)
client.sendall(bytes(1_000_000))
assert server.recv_exactly_into(bytearray(1_000_000)) == 1_000_000
mtu(1500)
try:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        client.sendall(bytes(100_000))
except udt.UdtError as error:
    assert error.errno == errno.EMSGSIZE, error
    assert "connect again with a smaller mss" in str(error), error
    print("told")
client.abort()
server.abort()
"""


def test_packets_fit_the_path_or_the_connection_says_why_not() -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", SCRIPT], timeout=60, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "told\n", "")
