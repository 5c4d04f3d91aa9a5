"""The measuring program as a black box, on the loopback device."""

from __future__ import annotations

import signal
import socket
import subprocess
import time

import pytest

from syncer.tests.contract.perf_program import PROGRAM, measured, serving
from syncer.tests.contract.udp_relay import Direction, UdpRelay

LOOPBACK = "127.0.0.1"


@pytest.mark.parametrize("reverse", [(), ("--reverse",)], ids=["forward", "reverse"])
@pytest.mark.parametrize(("server", "client"), [("longhaul", "longhaul"), ("libudt", "libudt"), ("libudt", "longhaul")])
def test_bytes_arrive_and_are_counted(server: str, client: str, reverse: tuple[str, ...]) -> None:
    with serving(server) as end:
        done = measured(end.address, "-i", client, "--bytes", "5MB", "--connections", "3", "--verify", *reverse)
    assert done.exit_code == 0, done.errors
    result = done.result
    assert (result["implementation"], result["peer_implementation"]) == (client, server)
    assert result["bytes"] == sum(result["intervals_bytes"]) == 5_000_000
    assert result["goodput_bps"] == pytest.approx(5_000_000 * 8 / result["seconds"])
    assert result["verified"] is True
    assert len(set(result["digests"])) == 3
    assert result["sender"]["packets_sent"] >= 5_000_000 / 1456
    assert result["sender"]["cpu_s"] > 0
    assert result["receiver"]["cpu_s"] > 0


def test_the_time_is_the_receivers() -> None:
    with serving("longhaul") as end:
        done = measured(end.address, "--seconds", "4.5", "--control", "fixed", "--rate", "20Mbit/s")
    assert done.exit_code == 0, done.errors
    result = done.result
    assert result["seconds"] == 4.5
    assert len(result["intervals_bytes"]) == 45
    settled = sum(result["intervals_bytes"][30:]) * 8 / 1.5
    assert result["goodput_after_3s_bps"] == pytest.approx(settled)
    # A machine that is busy with something else makes it slower; nothing makes it faster than it may be.
    assert result["goodput_after_3s_bps"] < 20e6 * 1456 / 1514 * 1.03


def test_content_that_changes_on_the_way_fails() -> None:
    def damaged(direction: Direction, datagram: bytes) -> list[bytes]:
        whole = direction is Direction.TO_SERVER and len(datagram) == 1472 and not datagram[0] & 0x80
        # The same byte of every full packet, so that no retransmission repairs it.
        return [datagram[:-1] + bytes([datagram[-1] ^ 1])] if whole else [datagram]

    with serving("longhaul", "--once") as end, UdpRelay(end.address, judge=damaged) as relay:
        done = measured(relay.address, "--bytes", "1MB", "--verify")
        assert done.exit_code == 1
        assert done.result["verified"] is False
        assert end.process.wait(20) == 1


@pytest.mark.parametrize("implementation", ["longhaul", "libudt"])
def test_nobody_there(implementation: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind((LOOPBACK, 0))
        done = measured(deaf.getsockname(), "-i", implementation)
    assert done.exit_code == 3
    assert "nobody who speaks UDT answers" in done.errors
    assert "serve --port" in done.errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-i", "udp"), "no UDT implementation 'udp'"),
        (("-i", "libudt", "--control", "bbr"), "libudt has no congestion control 'bbr'"),
        (("--control", "fixed"), "a fixed rate needs a number"),
        (("-i", "libudt", "--rate", "1Mbit/s"), "no rate cap"),
        (("--rate", "fast"), "'fast' is no rate"),
        (("--bytes", "0"), "'0' is no size"),
        (("--bytes", "1MB", "--seconds", "1"), "exclude each other"),
        (("--bytes", "2", "--connections", "3"), "too few"),
        (("--connections", "0"), "--connections"),
    ],
)
def test_bad_input(options: tuple[str, ...], message: str) -> None:
    done = measured((LOOPBACK, 9), *options)
    assert done.exit_code == 2
    assert message in done.errors
    assert "Traceback" not in done.errors


def test_an_unknown_host() -> None:
    done = measured(("no.such.host.invalid", 9))
    assert done.exit_code == 2
    assert "is no address" in done.errors


def test_a_server_refuses_a_control_that_it_lacks() -> None:
    with serving("libudt") as end:
        done = measured(end.address, "-i", "longhaul", "--reverse", "--control", "bbr")
    assert done.exit_code == 1
    assert "the server refuses: libudt has no congestion control 'bbr'" in done.errors


def test_an_address_that_is_taken() -> None:
    with serving("longhaul") as end:
        done = subprocess.run(
            [*PROGRAM, "serve", "--bind", LOOPBACK, "--port", str(end.address[1])],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 2
    assert "cannot listen" in done.stderr


def test_an_interrupt_ends_both_ends() -> None:
    with serving("longhaul") as end:
        client = subprocess.Popen(
            [*PROGRAM, "send", LOOPBACK, "--port", str(end.address[1]), "--seconds", "60", "--rate", "5Mbit/s"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert client.stdout is not None
        assert "sends to" in client.stdout.readline()
        client.send_signal(signal.SIGINT)
        _out, errors = client.communicate(timeout=20)
        assert client.returncode == 130
        assert errors == "perf: interrupted\n"
        # The next one is served although the last one broke off, as soon as the server has noticed.
        deadline = time.monotonic() + 8
        while (done := measured(end.address, "--bytes", "1MB")).exit_code != 0 and time.monotonic() < deadline:
            assert "another measurement is running" in done.errors
        assert done.exit_code == 0
        end.process.send_signal(signal.SIGINT)
        assert end.process.wait(20) == 130
