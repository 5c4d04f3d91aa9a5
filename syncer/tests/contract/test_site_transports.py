"""Whole engines on loopback addresses: which transport their links take, and what users can do about it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncer.tests.contract.engine_site import EngineSite, MakeSites, agree, make_sites, until

__all__ = ["make_sites"]

FAILOVER_S = 25.0
"""The session's silence, an attempt to bring it up again, and a busy machine."""


def link(site: EngineSite) -> dict[str, Any]:
    """What the site says of its first peer's link."""
    report = site.status()["peers"][0]["link"]
    return report if isinstance(report, dict) else {"transport": None}


def wait_for_transport(transport: str, *sites: EngineSite, within_s: float = FAILOVER_S) -> float:
    """Until both sites' link is over it; how long it took."""
    began = time.monotonic()
    while not all(link(site)["transport"] == transport for site in sites):
        assert time.monotonic() - began < within_s, f"never over {transport}: {[link(site) for site in sites]}"
        time.sleep(0.1)
    return time.monotonic() - began


def carries(one: EngineSite, two: EngineSite, name: str, size: int = 300_000) -> None:
    (one.folder / name).write_bytes(os.urandom(size))
    assert name.encode() in agree(one, two)


def test_udt_is_preferred_and_a_pin_at_either_site_wins(make_sites: MakeSites) -> None:
    one, two = make_sites(2)
    wait_for_transport("udt", one, two)
    carries(one, two, "over udt")
    one.call("site", "set", "s1", "--transport", "tcp")
    wait_for_transport("tcp", one, two)
    assert link(two)["reason"] == "pinned"
    carries(two, one, "over tcp")
    one.call("site", "set", "s1", "--transport", "default")
    wait_for_transport("udt", one, two)
    two.call("site", "set", "s1", "--transport", "tcp")
    wait_for_transport("tcp", one, two)
    assert "pinned" in link(one)["reason"]
    carries(one, two, "over tcp too")


def test_a_udp_port_in_use_means_tcp_until_it_is_free(make_sites: MakeSites) -> None:
    """UDP to the site can't work: its mover doesn't get its port."""
    one, two = make_sites(2, start=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind((two.address, two.card["data_port"]))
        for site in (one, two):
            site.start()
        wait_for_transport("tcp", one, two)
        assert "mover-udt: cannot listen" in link(two)["reason"]
        carries(one, two, "over tcp")
    wait_for_transport("udt", one, two)
    carries(two, one, "over udt")


def test_a_transport_that_falls_silent_is_left_for_the_other(make_sites: MakeSites) -> None:
    """A stopped mover neither answers nor ends: what a firewall does that begins to drop UDP."""
    one, two = make_sites(2)
    wait_for_transport("udt", one, two)
    os.kill(one.pids()["mover-udt"], signal.SIGSTOP)
    wait_for_transport("tcp", one, two)
    assert "udt" in link(two)["reason"]
    carries(one, two, "over tcp")
    os.kill(one.pids()["mover-udt"], signal.SIGCONT)
    wait_for_transport("udt", one, two, within_s=60)
    carries(one, two, "over udt")


@contextlib.contextmanager
def udp_dropped(address: str, above: str = "") -> Iterator[None]:
    """What arrives there over UDP is dropped, or what goes beyond a rate."""
    table = f"longhaul_test_{os.getpid()}"
    rules = f"add table ip {table}; add chain ip {table} in {{ type filter hook input priority 0; }}; "
    rules += f"add rule ip {table} in ip protocol udp ip daddr {address} {above} drop"
    subprocess.run(["nft", rules], check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "ip", table], check=True)


@pytest.mark.root
@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="dropping packets needs root")
def test_udp_that_is_dropped_on_the_way_in_a_transfer(make_sites: MakeSites) -> None:
    one, two = make_sites(2)
    wait_for_transport("udt", one, two)
    one.call("site", "set", "s0", "--rate", "100Mbit/s")
    with udp_dropped(two.address):
        (one.folder / "big").write_bytes(os.urandom(40 << 20))
        wait_for_transport("tcp", one, two)
        assert b"big" in agree(one, two)


@pytest.mark.root
@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.skipif(os.geteuid() != 0, reason="dropping packets needs root")
def test_a_much_better_transport_is_found_while_files_are_moved(make_sites: MakeSites) -> None:
    """The way for UDP is policed to 24 Mbit/s, the cap is 100: TCP must be found, kept, and the file be whole."""
    one, two = make_sites(2)
    wait_for_transport("udt", one, two)
    for site in (one, two):
        site.call("site", "set", site.name, "--rate", "100Mbit/s")
    with udp_dropped(two.address, above="limit rate over 3 mbytes/second"):
        (one.folder / "big").write_bytes(os.urandom(1 << 20) * 400)
        wait_for_transport("tcp", one, two, within_s=90)
        assert "trial" in link(one)["reason"]
        deadline = time.monotonic() + 90
        while "measured" not in link(two)["reason"]:
            assert time.monotonic() < deadline, link(two)
            time.sleep(0.5)
        assert link(two)["transport"] == "tcp"
        assert link(two)["reason"].startswith("measured: tcp")
        two.wait(120)
        assert (two.folder / "big").stat().st_size == 400 << 20


@pytest.mark.long
def test_a_speed_test_of_all_transports_with_files_beside(make_sites: MakeSites) -> None:
    one, two = make_sites(2)
    wait_for_transport("udt", one, two)
    one.call("site", "set", "s0", "--rate", "200mbit")
    test = subprocess.Popen(
        one.command("speedtest", "s1", "--seconds", "2", "--transport", "all", "--json"),
        stdout=subprocess.PIPE,
        text=True,
    )
    for number in range(50):
        (one.folder / f"small {number}").write_bytes(os.urandom(3000))
    until(lambda: len(list(two.folder.glob("small *"))) == 50, "files arrive")
    assert test.poll() is None, "the files had to wait for the end of the test"
    output, _ = test.communicate(timeout=60)
    answer = json.loads(output)
    assert [row["transport"] for row in answer["transports"]] == ["udt", "tcp"]
    for row in answer["transports"]:
        assert "error" not in row
        assert row["there"]["rate_cap_bps"] == 200_000_000
        assert row["there"]["bytes"] > 100_000
        assert row["back"]["bytes"] > 100_000
    assert "measured" in answer["choice"]
    for site, way in ((one, "there"), (two, "back")):
        measured = {(row["transport"], row["direction"]): row["goodput_bps"] for row in link(site)["measured"]}
        for row in answer["transports"]:
            assert measured[row["transport"], way] == pytest.approx(row["there"]["goodput_bps"], rel=0.01)


def test_a_speed_test_that_cannot_be_says_why(make_sites: MakeSites, tmp_path: Path) -> None:
    one, two = make_sites(2)
    wait_for_transport("udt", one, two)
    for arguments, code, words in (
        (("s7",), 2, "s1"),
        (("s1", "--transport", "smtp"), 2, "udt"),
        (("s1", "--seconds", "0"), 2, "seconds"),
    ):
        answer = one.call("speedtest", *arguments, check=False)
        assert answer.returncode == code
        assert words in answer.stderr
    two.stop()
    until(lambda: not one.status()["peers"][0]["connected"], "the site is gone")
    answer = one.call("speedtest", "s1", check=False)
    assert answer.returncode == 1
    assert "not connected" in answer.stderr
    one.stop()
    answer = one.call("speedtest", "s1", check=False)
    assert answer.returncode == 3
    assert "Traceback" not in answer.stderr


def test_an_interrupted_speed_test_ends_at_once(make_sites: MakeSites) -> None:
    one, two = make_sites(2)
    wait_for_transport("udt", one, two)
    one.call("site", "set", "s0", "--rate", "50mbit")
    test = subprocess.Popen(one.command("speedtest", "s1", "--seconds", "60"), stderr=subprocess.PIPE, text=True)
    until(lambda: link(one)["sending_bps"] > 5_000_000, "the test sends")
    test.send_signal(signal.SIGINT)
    _, errors = test.communicate(timeout=20)
    assert (test.returncode, "Traceback" in errors) == (130, False)
    until(lambda: link(one)["sending_bps"] < 1_000_000, "it is quiet again")


def test_a_cap_changes_live_and_is_the_links_own_or_the_sites(make_sites: MakeSites) -> None:
    one, two = make_sites(2)
    wait_for_transport("udt", one, two)

    def cap() -> int:
        session = one.status()["peers"][0]["session"]
        return int(session.get("rate_cap_bps", -1)) if session else -1

    one.call("site", "set", "s0", "--rate", "50Mbit/s")
    until(lambda: cap() == 50_000_000, "the site's cap reaches the transport")
    one.call("site", "set", "s1", "--rate", "20mbit")
    until(lambda: cap() == 20_000_000, "the link's own cap reaches the transport")
    one.call("site", "set", "s1", "--rate", "default")
    until(lambda: cap() == 50_000_000, "the site's cap again")
    one.call("site", "set", "s0", "--rate", "auto")
    until(lambda: cap() == 0, "no cap")
    for wrong in ("50", "50MB/s", "0mbit", "fast", "1kbit"):
        answer = one.call("site", "set", "s1", "--rate", wrong, check=False)
        assert answer.returncode == 2
        assert "hint" in answer.stderr
