"""What every WAN core must do with IPv6 beside IPv4, with a link's own MTU, and with packets under a false name."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from harness.model.impairment import Impairment
from harness.model.topology import Link, Site, Topology
from harness.plan.addressing import LAB_SLOTS, LabPlan, plan_lab
from harness.tests.wan_bench import Notes, nodes, placement, pool, receive
from harness.wan.local_transport import in_netns
from harness.wan.placement import place_core
from harness.wan.port import WanCore

__all__ = ["placement", "pool"]
pytestmark = [pytest.mark.root, pytest.mark.vm]

PORT = 40407
SMALL_MTU = 1300
QUIET_S = 1.0
DELAY_MS = {("s0", "s1"): 10, ("s1", "s0"): 30, ("s0", "s2"): 50, ("s2", "s0"): 10, ("s1", "s2"): 70, ("s2", "s1"): 10}
HEADERS = {4: 28, 6: 48}
SO_TIMESTAMPNS = 35
IPV6_MTU_DISCOVER, IP_MTU_DISCOVER, DISCOVER = 23, 10, 2
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75


@dataclass
class Bench:
    core: WanCore
    plan: LabPlan

    def address(self, site: str, version: int) -> IPv4Address | IPv6Address:
        plan = self.plan.site(site)
        address = plan.wan_address if version == 4 else plan.wan_address6
        assert address is not None
        return address

    def endpoint(self, site: str, version: int, speaks_for: str | None = None) -> socket.socket:
        """A UDP socket at a site, with its own address or another site's."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with in_netns(self.plan.site(site).netns):
            made = socket.socket(family, socket.SOCK_DGRAM)
        level, anybody = (
            (socket.IPPROTO_IP, IP_TRANSPARENT) if version == 4 else (socket.IPPROTO_IPV6, IPV6_TRANSPARENT)
        )
        made.setsockopt(level, anybody, 1)
        made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        made.bind((str(self.address(speaks_for or site, version)), PORT))
        return made

    def packets(self, source: str, destination: str) -> int:
        return next(c.packets for c in self.core.counters() if (c.source, c.destination) == (source, destination))


@pytest.fixture(scope="module")
def bench(placement: str, pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    names = ("s0", "s1", "s2")
    links = tuple(
        Link(
            source=source,
            destination=destination,
            impairment=Impairment(delay_us=delay * 1000),
            mtu=SMALL_MTU if (source, destination) == ("s0", "s2") else None,
        )
        for (source, destination), delay in DELAY_MS.items()
    )
    topology = Topology(name="dual-stack", sites=tuple(Site(name=name) for name in names), links=links)
    plan, notes = plan_lab(topology, "c" + secrets.token_hex(2), LAB_SLOTS - 1), Notes()
    with nodes(plan) as netns:
        core = place_core(placement, len(names), notes, tmp_path_factory.mktemp("core"), 11)  # type: ignore[arg-type]
        try:
            core.attach(plan, netns)
            assert core.state()["ipv6"], "this core's kernel has no IPv6"
            core.shape([(link.source, link.destination, link.impairment) for link in links])
            yield Bench(core, plan)
        finally:
            core.detach()
    assert notes.resources == []


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", [("s0", "s1"), ("s1", "s0"), ("s1", "s2")])
def test_both_families_meet_the_links_delay_and_its_counters(bench: Bench, link: tuple[str, str], version: int) -> None:
    source, destination = link
    before = bench.packets(source, destination)
    with (
        contextlib.closing(bench.endpoint(source, version)) as sender,
        contextlib.closing(bench.endpoint(destination, version)) as sink,
    ):
        delays = []
        for _ in range(12):
            started = time.time_ns()
            sender.sendto(b"x" * 36, sink.getsockname())
            delays += [(arrival - started) / 1e6 for arrival in receive(sink, QUIET_S)]
    assert len(delays) == 12
    assert statistics.quantiles(delays, n=4)[0] == pytest.approx(DELAY_MS[link], abs=2.0)
    assert bench.packets(source, destination) - before == 12


@pytest.mark.parametrize("version", [4, 6])
def test_a_small_link_refuses_what_is_too_large_and_says_so(bench: Bench, version: int) -> None:
    fits = SMALL_MTU - HEADERS[version]
    with (
        contextlib.closing(bench.endpoint("s0", version)) as sender,
        contextlib.closing(bench.endpoint("s2", version)) as sink,
        contextlib.closing(bench.endpoint("s1", version)) as other,
    ):
        level, discover = (
            (socket.IPPROTO_IP, IP_MTU_DISCOVER) if version == 4 else (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
        )
        sender.setsockopt(level, discover, DISCOVER)
        sender.sendto(bytes(fits), sink.getsockname())
        assert receive(sink, QUIET_S)
        sender.sendto(bytes(1500 - HEADERS[version]), other.getsockname())
        assert receive(other, QUIET_S), "only the link to s2 is small"
        sender.sendto(bytes(fits + 1), sink.getsockname())
        assert not receive(sink, QUIET_S / 2)
        with pytest.raises(OSError, match="too long") as refused:
            # By now the core's answer has come.
            sender.sendto(bytes(fits + 1), sink.getsockname())
        assert refused.value.errno == errno.EMSGSIZE


def test_nobody_passes_under_another_sites_name(bench: Bench) -> None:
    """IPv4 is dropped by the core's rp_filter; IPv6 meets the link on which it really came."""
    for version, arrives in ((4, False), (6, True)):
        true, false = bench.packets("s0", "s2"), bench.packets("s1", "s2")
        with (
            contextlib.closing(bench.endpoint("s0", version, speaks_for="s1")) as liar,
            contextlib.closing(bench.endpoint("s2", version)) as sink,
        ):
            liar.sendto(b"it is s1", sink.getsockname())
            assert bool(receive(sink, QUIET_S / 2)) is arrives
        assert bench.packets("s0", "s2") - true == arrives
        assert bench.packets("s1", "s2") == false


def test_a_line_that_nobody_uses_is_silent(bench: Bench) -> None:
    def lines() -> str:
        shown = [
            subprocess.run(["ip", "-n", site.netns, "-s", "link", "show", "wan0"], capture_output=True, text=True)
            for site in bench.plan.sites
        ]
        return "".join(done.stdout for done in shown)

    before = lines()
    time.sleep(QUIET_S)
    assert lines() == before
    for site in bench.plan.sites:
        assert "fe80" not in subprocess.run(
            ["ip", "-n", site.netns, "-6", "address"], capture_output=True, text=True, check=True
        ).stdout.replace("lo", "")
