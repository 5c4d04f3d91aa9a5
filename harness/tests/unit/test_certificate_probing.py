"""Plans of probes stay within their budgets; plans and answers of the prober are read as they were meant."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss
from harness.plan.delay_law import serialisation_us
from harness.plan.prober_protocol import Observation, noise_of, observations, overflowed, prober_plan
from harness.plan.probing import (
    FASTEST_FEED_BPS,
    HEADERS_BYTES,
    LIGHT_BUDGET_PPS,
    MAX_LOAD,
    MOST_LINKS,
    SATURATION,
    Session,
    Stream,
    batches,
    plan_sessions,
    sampled_links,
)
from harness.wan.native_program import compiled

CLEAN = Impairment(delay_us=40_000, rate_bps=100_000_000)
LINKS = st.builds(
    Impairment,
    delay_us=st.integers(0, 700_000),
    jitter_us=st.integers(0, 50_000),
    loss=st.one_of(
        st.none(),
        st.builds(IndependentLoss, probability=st.floats(0, 1)),
        st.just(GilbertElliottLoss(good_to_bad=0.01, bad_to_good=0.2)),
    ),
    rate_bps=st.one_of(st.none(), st.integers(9600, 2 * 10**9)),
    blocked=st.booleans(),
)


def mesh(count: int, impairment: Impairment = CLEAN) -> dict[tuple[str, str], Impairment]:
    sites = [f"s{index}" for index in range(count)]
    return {(one, other): impairment for one in sites for other in sites if one != other}


def sessions_of(wanted: dict[tuple[str, str], Impairment], depth: str = "quick", number: int = 1) -> list[Session]:
    return plan_sessions(wanted, list(wanted), depth, dict.fromkeys(wanted, 1500), number)  # type: ignore[arg-type]


@given(LINKS, LINKS, st.integers(1, 3), st.sampled_from(["quick", "full"]))
def test_any_pair_of_links_gets_a_plan_within_its_load(
    forward: Impairment, backward: Impairment, number: int, depth: str
) -> None:
    wanted = {("a", "b"): forward, ("b", "a"): backward}
    for session in sessions_of(wanted, depth, number):
        for stream in session.streams:
            assert stream.last_us <= session.end_us
            if stream.kind != "light":
                continue
            for link in (forward, backward):
                both_ways = 2 * serialisation_us(link, stream.payload_bytes + HEADERS_BYTES)
                assert both_ways * 1000 <= MAX_LOAD * stream.interval_ns


@given(LINKS)
def test_echoes_never_come_between_probes_whose_delay_varies(link: Impairment) -> None:
    for stream in sessions_of({("a", "b"): link, ("b", "a"): CLEAN})[0].streams:
        assert not (link.jitter_us and stream.echoes)
        assert not (stream.kind == "dense" and stream.echoes)


@given(LINKS)
def test_a_dense_stream_begins_when_the_link_is_quiet(link: Impairment) -> None:
    streams = [one for one in sessions_of({("a", "b"): link, ("b", "a"): CLEAN})[0].streams if one.kind != "noise"]
    for dense in (one for one in streams if one.kind == "dense"):
        assert all(dense.first_us >= one.last_us for one in streams if one.kind == "light")


@pytest.mark.parametrize(("sites", "most_s"), [(4, 2.6), (16, 2.6), (32, 6), (128, 7)])
def test_a_quick_measurement_is_quick_at_any_size(sites: int, most_s: float) -> None:
    wanted = mesh(sites)
    chosen, note = sampled_links([f"s{index}" for index in range(sites)], "quick", wanted)
    (session,) = plan_sessions(wanted, chosen, "quick", dict.fromkeys(wanted, 1500))
    assert session.end_us < most_s * 1e6
    probes = sum(stream.packets for stream in session.streams if stream.kind == "light")
    assert probes <= LIGHT_BUDGET_PPS * max(stream.last_us for stream in session.streams) / 1e6 + len(chosen)
    assert bool(note) == (len(chosen) < len(wanted))


def test_a_sample_crosses_every_line_both_ways_and_pairs_links() -> None:
    sites = [f"s{index}" for index in range(128)]
    chosen, note = sampled_links(sites, "quick", mesh(128))
    assert len(chosen) == 1024 <= MOST_LINKS
    assert set(Counter(source for source, _ in chosen).values()) == {8}
    assert set(Counter(destination for _, destination in chosen).values()) == {8}
    assert {(b, a) for a, b in chosen} == set(chosen)
    assert "1024 of 16256 links" in note


def test_a_full_calibration_leaves_no_link_out_and_saturates_disjoint_ones() -> None:
    wanted = mesh(5, CLEAN.model_copy(update={"rate_bps": 20_000_000}))
    seen: Counter[tuple[str, str]] = Counter()
    for session in sessions_of(wanted, "full"):
        filling = [stream for stream in session.streams if stream.kind == "saturating"]
        seen.update(stream.link for stream in filling)
        for one in filling:
            beside = [other for other in filling if other is not one and other.first_us < one.last_us > one.first_us]
            overlapping = [other for other in beside if other.last_us > one.first_us]
            assert not [other for other in overlapping if set(other.link) & set(one.link)]
    assert seen == dict.fromkeys(wanted, 1)


def test_a_link_that_no_machine_feeds_is_not_saturated() -> None:
    fast = Impairment(rate_bps=int(FASTEST_FEED_BPS / SATURATION) + 1_000)
    kinds = {stream.kind for session in sessions_of(mesh(2, fast), "full") for stream in session.streams}
    assert kinds == {"noise", "light"}


def test_rounds_count_from_one_and_grow() -> None:
    with pytest.raises(ValueError, match="rounds"):
        sessions_of(mesh(2), "quick", 0)
    packets = [sum(one.packets for one in sessions_of(mesh(2), "quick", number)[0].streams) for number in (1, 2, 3)]
    assert packets == sorted(set(packets))


@given(st.integers(0, 200), st.integers(1, 50))
def test_batches_are_equal_and_lose_nothing(count: int, size: int) -> None:
    links = [("a", str(number)) for number in range(count)]
    parts = batches(links, size)
    assert [link for part in parts for link in part] == links
    assert all(len(part) <= size for part in parts)


SESSION = Session(
    title="a test",
    streams=(
        Stream(kind="light", source="a", destination="b", packets=4, interval_ns=10**6, echoes=True, spread=True),
        Stream(kind="damage", source="b", destination="a", packets=2, interval_ns=10**6, payload_bytes=200),
    ),
    end_us=50_000,
)


def test_a_plan_is_what_the_prober_reads() -> None:
    reach = {"a": "198.18.0.2", "b": "203.0.113.9"}
    text = prober_plan(SESSION, "a", token=9, start_ns=5, listen=("192.168.77.2", 40404), reach=reach)
    assert text.splitlines() == [
        "token 9", "start 5", "end 50000", "bind 192.168.77.2 40404", "peer 0 203.0.113.9 40404",
        "stream 0 0 4 1000000 0 36 3",
    ]  # fmt: skip
    other = prober_plan(SESSION, "b", token=9, start_ns=5, listen=("198.18.0.10", 40404), reach=reach)
    assert other.splitlines()[-1] == "stream 1 0 2 1000000 0 200 4"


def words(*values: int) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}I", *values)).decode()


def answer(sent: dict[str, object], arrived: dict[str, object], **other: object) -> str:
    report = {"boot": "x", "clock": "t", "start_ns": 10**9, "bound_ns": 0, "overflow": 0, "late_p99_ns": 0}
    return json.dumps({**report, "late_max_ns": 0, "sent": sent, "arrived": arrived, **other})


def test_both_ends_answers_come_to_what_became_of_each_packet() -> None:
    nothing = {"at": words(), "echoes": words(), "failed": 0}
    a = answer({"0": {"at": words(0, 10, 2**32 - 1, 30), "echoes": words(1, 800), "failed": 1}}, {})
    b = answer({"1": nothing}, {"0": {"packets": words(1, 410, 0, 420, 0, 421, 3, 430), "damaged": 0}})
    light, _ = observations(SESSION, {"a": a, "b": b})
    assert light.counted == (0, 1, 3)
    assert light.lost == (False, False, False)
    assert light.delays_us == pytest.approx((42, 40, 40))
    assert light.rtt_us == pytest.approx((80,))
    assert (light.duplicates, light.reordered) == (1, (1, 1))


def test_probes_sent_before_the_other_end_listened_do_not_count() -> None:
    a = answer({"0": {"at": words(0, 10_000, 20_000, 30_000), "echoes": words(), "failed": 0}}, {})
    late = answer({"1": {"at": words(), "echoes": words(), "failed": 0}}, {}, bound_ns=10**9 + 1_500_000)
    light, _ = observations(SESSION, {"a": a, "b": late})
    assert light.counted == (2, 3)
    elsewhere = answer({"1": {"at": words(), "echoes": words(), "failed": 0}}, {}, bound_ns=10**15, boot="y")
    light, _ = observations(SESSION, {"a": a, "b": elsewhere})
    assert (light.counted, light.common_clock) == ((0, 1, 2, 3), False)


def test_answers_that_are_cut_short_are_refused() -> None:
    with pytest.raises(ValueError, match="prober at a"):
        observations(SESSION, {"a": '{"boot"', "b": "{}"})
    with pytest.raises(ValueError, match="no prober answered"):
        observations(SESSION, {"a": answer({}, {})})


@given(st.permutations(range(12)))
def test_reordered_packets_are_those_that_something_overtook(order: list[int]) -> None:
    stream = Stream(kind="light", source="a", destination="b", packets=12, interval_ns=1)
    arrivals = tuple((number, float(place)) for place, number in enumerate(order))
    one = Observation(stream=stream, sent_us=(0.0,) * 12, arrivals=arrivals, rtt_us=())
    late, extent = one.reordered
    assert late == sum(any(before > number for before in order[:place]) for place, number in enumerate(order))
    assert (late == 0) == (order == sorted(order)) == (extent == 0)


def test_the_prober_measures_a_node_to_itself() -> None:
    stream = Stream(kind="noise", source="a", destination="a", packets=20, interval_ns=500_000, echoes=True)
    damage = Stream(kind="damage", source="a", destination="a", packets=5, interval_ns=100_000, payload_bytes=300)
    session = Session(title="noise", streams=(stream, damage), end_us=60_000)
    text = prober_plan(session, "a", token=3, start_ns=0, listen=("127.0.0.1", 40911), reach={})
    done = subprocess.run([compiled("native/prober.c")], input=text, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    noise, undamaged = observations(session, {"a": done.stdout})
    assert len(noise.delays_us) == len(noise.rtt_us) == 20
    assert all(0 < delay < 50_000 for delay in noise.delays_us)
    assert (len(undamaged.arrivals), undamaged.damaged) == (5, 0)
    assert overflowed({"a": done.stdout}) == []
    assert noise_of({"a": done.stdout}, [noise]).loopback_median_us == pytest.approx(sorted(noise.delays_us)[10], rel=1)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("nonsense\n", "the plan says nonsense"),
        ("token 1\n", "names no address"),
        ("bind 127.0.0.1 40912\nstream 0 0 5 1 0 36 0\n", "there is no peer 0"),
        ("bind 127.0.0.1 40912\npeer 0 127.0.0.1 9\nstream 0 0 5 1 0 4 0\n", "payload of 4 bytes"),
        ("bind 192.0.2.77 40912\n", "cannot listen at 192.0.2.77"),
        ("bind where 1\n", "where is no address"),
    ],
)
def test_the_prober_says_what_is_wrong_with_a_plan(plan: str, said: str) -> None:
    done = subprocess.run([compiled("native/prober.c")], input=plan, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert said in done.stderr
