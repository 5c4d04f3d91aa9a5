"""The certificate against programs that are not ours: ping, irtt and iperf3 on the same lab."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from harness.lab.lab import Lab
from harness.model.impairment import Impairment, IndependentLoss
from harness.model.measurement import Certificate, QuantityName
from harness.model.topology import Link, Site, Topology
from harness.plan.intervals import Interval, proportion, quantile_interval
from harness.plan.judge_delay import tolerance_us

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.slow]

RATE_BPS = 20_000_000
THERE = Impairment(delay_us=20_000, rate_bps=RATE_BPS, buffer_bytes=250_000)
BACK = Impairment(delay_us=35_000)
LOSSY = Impairment(delay_us=10_000, loss=IndependentLoss(probability=0.1))
PLAIN = Impairment(delay_us=10_000)
LINKS = {("east", "west"): THERE, ("west", "east"): BACK, ("east", "south"): LOSSY, ("south", "east"): PLAIN}
DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    for program in ("irtt", "iperf3", "ping"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}: apt-get install irtt iperf3 iputils-ping")
    sites = tuple(Site(name=name) for name in ("east", "west", "south"))
    links = tuple(
        Link(source=a.name, destination=b.name, impairment=LINKS.get((a.name, b.name), PLAIN))
        for a in sites
        for b in sites
        if a is not b
    )
    topology = Topology(name="oracles", sites=sites, links=links)
    built = Lab.up(topology, lab_id="t" + secrets.token_hex(2), state_root=tmp_path_factory.mktemp("state"))
    yield built
    built.down()


@pytest.fixture(scope="module")
def certificate(lab: Lab) -> Certificate:
    return lab.measure(links=list(LINKS), rounds=1)


@pytest.fixture(scope="module")
def irtt(lab: Lab) -> dict[str, dict[str, Any]]:
    """What irtt reports of the ways from east to west and to south, by the far site."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(("west", "south"), pool.map(lambda site: run_irtt(lab, site), ("west", "south")), strict=True))


def run_irtt(lab: Lab, site: str) -> dict[str, Any]:
    node = lab.nodes[site]
    place = f"{node.wan_address}:2112"
    server = node.remote.start("irtt", ["irtt", "server", "-b", place])
    try:
        # The client tries again until the server is there.
        command = ["irtt", "client", "-i", "10ms", "-d", "3s", "-l", "60", "-Q", "-o", "-", place]
        report: dict[str, Any] = json.loads(lab.nodes["east"].remote.run(command, timeout_s=DEADLINE_S).stdout)
        return report
    finally:
        node.remote.signal(server.pid, "KILL")


def test_ping_agrees_on_the_rtt(lab: Lab, certificate: Certificate) -> None:
    command = ["ping", "-c", "60", "-i", "0.02", "-s", "36", "west"]
    said = lab.nodes["east"].remote.run(command, timeout_s=DEADLINE_S).stdout
    rtts = [float(found) * 1000 for found in re.findall(r"time=([\d.]+) ms", said)]
    assert len(rtts) == 60
    agree(certificate, "rtt", quantile_interval(sorted(rtts), 0.5), tolerance_us(55_000, "quick"))


def test_irtt_agrees_on_the_rtt_and_both_ways(certificate: Certificate, irtt: dict[str, dict[str, Any]]) -> None:
    delays = [trip["delay"] for trip in irtt["west"]["round_trips"] if trip["lost"] == "false"]
    assert len(delays) > 250
    tolerance = tolerance_us(55_000, "quick")
    agree(certificate, "rtt", median_of([delay["rtt"] for delay in delays]), tolerance)
    agree(certificate, "one-way delay", median_of([delay["send"] for delay in delays]), tolerance)
    back = median_of([delay["receive"] for delay in delays])
    agree(certificate, "one-way delay", back, tolerance, link=("west", "east"))


def test_irtt_agrees_on_the_loss_of_one_way(certificate: Certificate, irtt: dict[str, dict[str, Any]]) -> None:
    trips = irtt["south"]["round_trips"]
    upstream = sum(trip["lost"] == "true_up" for trip in trips)
    assert not [trip for trip in trips if trip["lost"] == "true_down"]
    # irtt's packets that are still on their way when it ends are lost in neither.
    agree(certificate, "loss", proportion(len(trips), upstream), 0.0, link=("east", "south"))


def test_iperf3_agrees_on_the_rate(lab: Lab) -> None:
    measured = lab.measure(calibrate="full", links=[("east", "west")], rounds=1)
    rate = measured.links[0].quantity("rate")
    assert rate is not None and rate.measured is not None
    assert rate.measured == pytest.approx(RATE_BPS, rel=0.015)
    buffer = measured.links[0].quantity("buffer")
    assert buffer is not None and buffer.measured == pytest.approx(THERE.buffer_bytes, rel=0.1)
    west = lab.nodes["west"]
    command = ["iperf3", "--server", "--one-off", "--json", "--interval", "0.5", "--bind", west.wan_address]
    server = west.remote.start("iperf3", command)
    try:
        report = iperf3(lab, west.wan_address)
    finally:
        west.remote.signal(server.pid, "KILL")
    # The queue fills in the first interval and is cut off in the last; the median forgives one in which iperf3 stalled.
    intervals = [each["sum"]["bits_per_second"] for each in report["server_output_json"]["intervals"]][1:-1]
    # It counts payload: IP and UDP add 28 bytes to each 1472.
    assert statistics.median(intervals) * 1500 / 1472 == pytest.approx(rate.measured, rel=0.02)


def iperf3(lab: Lab, address: str) -> dict[str, Any]:
    """UDP faster than the link; again until the server listens."""
    command = ["iperf3", "--client", address, "--udp", "--bitrate", "30M", "--length", "1472", "--time", "3"]
    deadline = time.monotonic() + DEADLINE_S
    while True:
        done = lab.nodes["east"].remote.run([*command, "--json", "--get-server-output"], check=False)
        report: dict[str, Any] = json.loads(done.stdout)
        if done.exit_code == 0:
            return report
        if time.monotonic() > deadline:
            raise AssertionError(report)


def median_of(nanoseconds: list[int]) -> Interval:
    return quantile_interval(sorted(value / 1000 for value in nanoseconds), 0.5)


def agree(
    certificate: Certificate,
    name: QuantityName,
    theirs: Interval,
    tolerance: float,
    link: tuple[str, str] = ("east", "west"),
) -> None:
    """Both intervals hold the same truth, give or take the tolerance."""
    (ours,) = (one.quantity(name) for one in certificate.links if (one.source, one.destination) == link)
    assert ours is not None and ours.low is not None and ours.high is not None
    assert max(ours.low, theirs[0]) - min(ours.high, theirs[1]) <= tolerance, (name, ours, theirs)
