"""Traces in topologies, and playing as a schedule and as fields of links."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.problems import DocumentError
from harness.config.topology_file import parse_topology
from harness.model.impairment import ActiveQueue, FourStateLoss, GilbertElliottLoss, Impairment, IndependentLoss
from harness.model.playback import lateness_of
from harness.model.topology import Topology
from harness.model.trace import Course, Point, Trace
from harness.plan.playback import PROMPT_QUEUE, Target, as_access, fields, onto_links, ticks

WAN = """\
version: 1
name: wan
sites:
  hq:
  shop: {access: broadband}
  van: {kind: mobile%s}
links:
  - {between: [hq, shop], rtt: 20 ms, rate: 50 Mbit/s}
  - {between: [hq, van], rtt: 30 ms%s}
  - {between: [shop, van], rtt: 40 ms}
"""


def _topology(site: str = "", link: str = "") -> Topology:
    return parse_topology((WAN % (site, link)).encode(), Path("wan.yaml"))


def test_a_site_follows_a_trace_in_series_with_its_links() -> None:
    topology = _topology(site=", trace: {play: geo-satellite, offset: 20 s, speed: 2, loop: false}")
    (play,) = topology.traces
    assert (play.trace, play.site, play.pairs) == ("geo-satellite", "van", ())
    assert (play.offset_s, play.speed, play.loop) == (20.0, 2.0, False)
    assert Path(play.file).name == "geo-satellite.trace"
    # Until it plays: its mean, in series with the link.
    down = topology.link("hq", "van").impairment
    assert down.delay_us == 15_000 + 290_000
    assert 20_000_000 < (down.rate_bps or 0) < 22_000_000
    assert down.buffer_bytes == 3_000_000
    targets = {target.link: target for target in as_access(topology, "van")}
    assert {link: target.direction for link, target in targets.items()} == {
        ("hq", "van"): "down",
        ("van", "hq"): "up",
        ("shop", "van"): "down",
        ("van", "shop"): "up",
    }
    # What the other end's access line does stays in the series.
    assert targets["van", "hq"].within == Impairment(delay_us=15_000)
    within = targets["van", "shop"].within
    assert within is not None
    assert (within.delay_us, within.rate_bps) == (20_000 + 14_000, 5_000_000)


def test_a_trace_takes_the_place_of_the_access_line() -> None:
    topology = _topology(site=", access: lte")
    assert topology.link("van", "hq").impairment.delay_us == 45_000
    within = {target.link: target.within for target in as_access(topology, "van")}["van", "hq"]
    assert within is not None
    assert within.delay_us == 15_000
    assert within.rate_bps is None


def test_a_link_follows_a_trace_from_its_subscriber() -> None:
    topology = _topology(link=", trace: lte-driving")
    (play,) = topology.traces
    assert play.pairs == (("hq", "van"), ("van", "hq"))
    assert [target.direction for target in onto_links(play.pairs)] == ["up", "down"]
    assert topology.link("hq", "van").impairment.delay_us == 15_000


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (", trace: lte-drivin", "wan.yaml:9:45: there is no trace 'lte-drivin'; did you mean 'lte-driving'?"),
        (", trace: {play: lte-driving, speed: 0}", "a plain number from 0.01 to 100"),
        (", trace: {play: lte-driving, lop: true}", "did you mean 'loop'?"),
        (", trace: {loop: true}", "the key 'play' is missing"),
        (", trace: {play: lte-driving, offset: 9000 s, loop: false}", "the trace lte-driving ends before 9000 s"),
    ],
)
def test_a_mistake_about_a_trace_has_its_place(key: str, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        _topology(link=key)
    assert words in str(caught.value)


def test_a_broken_trace_file_is_told_with_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("time_s,rate_kbps\n0,x\n")
    with pytest.raises(DocumentError, match=r"bad\.csv:2:1: rate_kbps: expected a number"):
        parse_topology((WAN % ("", ", trace: bad.csv")).encode(), tmp_path / "wan.yaml")


STEPS = Trace(name="steps", duration_us=1_000_000, down=Course(at_us=(0, 200_000, 700_000), rate_bps=(100, 200, 300)))


def test_a_schedule_begins_in_the_middle_and_comes_round() -> None:
    found = [(tick.at_us, tick.trace_us, tick.round) for tick in islice(_ticks(STEPS, offset_us=600_000, loop=True), 6)]
    assert found == [
        (0.0, 600_000, 0),
        (100_000.0, 700_000, 0),
        (400_000.0, 0, 1),
        (600_000.0, 200_000, 1),
        (1_100_000.0, 700_000, 1),
        (1_400_000.0, 0, 2),
    ]


def test_a_schedule_without_loop_ends_with_the_trace() -> None:
    found = [(tick.at_us, tick.trace_us) for tick in _ticks(STEPS, speed=2.0)]
    assert found == [(0.0, 0), (100_000.0, 200_000), (350_000.0, 700_000), (500_000.0, 1_000_000)]


@given(st.sets(st.integers(1, 999_999), max_size=60), st.floats(0.5, 50), st.integers(0, 999_999))
def test_no_two_changes_are_closer_than_the_kernel_can_make_them(times: set[int], speed: float, offset_us: int) -> None:
    at_us = (0, *sorted(times))
    trace = Trace(name="t", duration_us=1_000_000, down=Course(at_us=at_us, delay_us=tuple(range(len(at_us)))))
    found = list(_ticks(trace, offset_us=offset_us, speed=speed))
    for before, after in pairwise(found):
        assert after.at_us - before.at_us >= 9_999
        assert after.trace_us > before.trace_us
    assert found[-1].trace_us == 1_000_000
    assert found[-1].at_us == pytest.approx((1_000_000 - offset_us) / speed, abs=10_001)


def _ticks(trace: Trace, *, offset_us: int = 0, speed: float = 1.0, loop: bool = False):  # type: ignore[no-untyped-def]
    return ticks(trace, offset_us=offset_us, speed=speed, loop=loop)


RATES = Course(at_us=(0,), rate_bps=(1_000,), delay_us=(5,), loss=(0.5,), blocked=(False,))
ALONE = Target(source="a", destination="b", direction="up")


def test_a_trace_replaces_what_it_speaks_of_and_keeps_the_buffer() -> None:
    below = Impairment(delay_us=90_000, jitter_us=20, rate_bps=10**6, buffer_bytes=77_000)
    point = Point(rate_bps=2_000_000, delay_us=5, loss=0.0)
    assert fields(RATES, point, ALONE, below, 1) == {
        "rate_bps": 2_000_000,
        "active_queue": PROMPT_QUEUE,
        "delay_us": 5,
        "jitter_us": 5,
        "loss": None,
        "blocked": False,
    }
    assert fields(RATES, Point(rate_bps=9_000), ALONE, Impairment(), 123)["buffer_bytes"] == 123


def test_a_queue_that_manages_itself_goes_on_doing_so() -> None:
    below = Impairment(rate_bps=10**6, active_queue=ActiveQueue(discipline="fq-codel"))
    assert "active_queue" not in fields(RATES, Point(rate_bps=9_000), ALONE, below, 1)


def test_in_series_delays_add_losses_combine_and_the_slower_rate_wins() -> None:
    within = Impairment(delay_us=100, jitter_us=7, rate_bps=5_000, loss=IndependentLoss(probability=0.5))
    target = ALONE.model_copy(update={"within": within})
    point = Point(rate_bps=9_000, delay_us=50, jitter_us=3, loss=0.5)
    found = fields(RATES, point, target, within, 1)
    assert (found["rate_bps"], found["delay_us"], found["jitter_us"]) == (5_000, 150, 10)
    assert found["loss"] == IndependentLoss(probability=0.75)


def test_losses_with_memory_combine_or_are_refused() -> None:
    bursts = GilbertElliottLoss(good_to_bad=0.1, bad_to_good=0.5)
    target = ALONE.model_copy(update={"within": Impairment(loss=bursts)})
    mixed = fields(RATES, Point(loss=0.2), target, Impairment(), 1)["loss"]
    assert mixed == bursts.model_copy(update={"loss_in_good": pytest.approx(0.2)})
    four = ALONE.model_copy(update={"within": Impairment(loss=FourStateLoss(p13=0.1, p31=0.5))})
    assert fields(RATES, Point(loss=0.0), four, Impairment(), 1)["loss"].kind == "four-state"
    with pytest.raises(ValueError, match="cannot be combined"):
        fields(RATES, Point(loss=0.1), four, Impairment(), 1)


def test_quantiles_of_lateness_are_values_that_occurred() -> None:
    found = lateness_of([float(value) for value in range(1, 101)])
    assert found is not None
    assert (found.p50_ms, found.p99_ms, found.max_ms) == (50.0, 99.0, 100.0)
    assert lateness_of([]) is None


def _with_traffic(stream: str) -> Topology:
    text = (WAN % ("", "")) + f"cross_traffic:\n  - {stream}\n"
    return parse_topology(text.encode(), Path("wan.yaml"))


def test_cross_traffic_is_declared_in_words() -> None:
    (tcp,) = _with_traffic(
        "{from: hq, to: van, pattern: tcp, flows: 4, congestion_control: bbr, at: 5 s}"
    ).cross_traffic
    assert (tcp.flows, tcp.congestion_control, tcp.rate_bps, tcp.start_s, tcp.duration_s) == (4, "bbr", None, 5.0, None)
    (udp,) = _with_traffic(
        "{from: van, to: hq, pattern: on-off, rate: 2 Mbit/s, packet: 200 B, on: 2 s, off: 500 ms, for: 1 s}"
    ).cross_traffic
    assert (udp.rate_bps, udp.packet_bytes, udp.on_s, udp.off_s, udp.duration_s) == (2_000_000, 200, 2.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ("{from: hq, to: vam, pattern: tcp}", "wan.yaml:12:20: there is no site 'vam'"),
        ("{from: hq, to: hq, pattern: tcp}", "to itself"),
        ("{from: hq, to: van, pattern: poisson}", "needs a rate"),
        ("{from: hq, to: van, pattern: constant, rate: 1 Mbit/s, flows: 2}", "flows belongs to the pattern tcp"),
        ("{from: hq, to: van, pattern: tcp, off: 1 s}", "belong to the pattern on-off"),
        ("{from: hq, to: van, pattern: constant, rate: 1 Mbit/s, packet: 2 kB}", "64 B to the mtu, 1500 B"),
        ("{from: hq, to: van, pattern: bursty}", "accepted: constant, poisson, on-off, tcp"),
        ("{from: hq, to: van, pattern: tcp, congestion_control: no/such}", "'no/such' is not a name"),
    ],
)
def test_a_mistake_about_cross_traffic_has_its_place(stream: str, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        _with_traffic(stream)
    assert words in str(caught.value)
