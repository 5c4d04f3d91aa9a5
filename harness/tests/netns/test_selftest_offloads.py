"""Offloads on a real veth, seen by ethtool's own program and by the packets of a tunnel."""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.errors import ShapingError
from harness.wan.local_transport import LocalTransport, in_netns
from harness.wan.offloads import switch_off

pytestmark = pytest.mark.root

MTU = 1500
ON_BY_NATURE = {"tx-scatter-gather", "tx-scatter-gather-fraglist", "highdma", "rx-checksumming"}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """Two namespaces, joined by veths called ``wire`` with offloads off."""
    names = [f"lhtest-{secrets.token_hex(3)}" for _ in range(2)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", names[1])
        for number, name in enumerate(names):
            ip("-n", name, "addr", "add", f"198.18.255.{number + 1}/30", "dev", "wire")
            ip("-n", name, "link", "set", "wire", "mtu", str(MTU), "up")
            with closing(LocalTransport(name)) as transport:
                switch_off(transport, "wire")
        yield names[0], names[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def test_ethtool_agrees_that_nothing_makes_packets_bigger(pair: tuple[str, str]) -> None:
    shown = subprocess.run(
        ["ip", "netns", "exec", pair[0], "ethtool", "-k", "wire"], capture_output=True, text=True, check=True
    ).stdout
    on = {line.split(":")[0].strip() for line in shown.splitlines() if re.search(r": on\b", line)}
    assert not [name for name in on - ON_BY_NATURE if re.search(r"segmentation|gro|gso|lro|receive|tx-checksum", name)]
    with closing(LocalTransport(pair[0])) as transport:
        switch_off(transport, "wire")


def test_what_a_tunnel_sends_is_one_mtu_too(pair: tuple[str, str]) -> None:
    for number, name in enumerate(pair):
        ends = [f"198.18.255.{number + 1}", f"198.18.255.{2 - number}"]
        link = f"ip -n {name} link add vx1 type vxlan id 7 dstport 4789 local {ends[0]} remote {ends[1]}"
        made = subprocess.run(link.split(), capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"this kernel has no VXLAN: {made.stderr.strip()}")
        ip("-n", name, "addr", "add", f"198.18.254.{number + 1}/30", "dev", "vx1")
        ip("-n", name, "link", "set", "vx1", "up")
    before = counters(pair[1])
    with in_netns(pair[1]):
        listener = socket.create_server(("198.18.254.2", 4040))
    with in_netns(pair[0]):
        client = socket.create_connection(("198.18.254.2", 4040), timeout=10)
    size = 1_000_000
    with closing(listener), closing(client):
        accepted, _ = listener.accept()
        with closing(accepted):
            client.settimeout(10)
            accepted.settimeout(10)
            left = size
            while left:
                client.sendall(bytes(min(left, 50_000)))
                left -= len(accepted.recv(min(left, 50_000), socket.MSG_WAITALL))
    after = counters(pair[1])
    packets, octets = after[0] - before[0], after[1] - before[1]
    assert octets > size
    assert octets / packets <= MTU + 14


def counters(netns: str) -> tuple[int, int]:
    """Packets and bytes that came in over the wire; bytes of the Ethernet header count."""
    with in_netns(netns):
        table = Path("/proc/thread-self/net/dev").read_text()
    fields = next(line for line in table.splitlines() if line.strip().startswith("wire:")).split(":")[1].split()
    return int(fields[1]), int(fields[0])


def test_an_interface_that_is_not_there_is_an_error(pair: tuple[str, str]) -> None:
    with closing(LocalTransport(pair[0])) as transport, pytest.raises(ShapingError, match="nowhere"):
        switch_off(transport, "nowhere")
