"""Topology files: what a good one means, and that a bad one names every mistake where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.problems import DocumentError
from harness.config.topology_file import load_topology, parse_topology
from harness.errors import ExitCode, InputError
from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss
from harness.model.topology import Outage, Topology

HERE = Path("wan.yaml")

TWO_SITES = """\
version: 1
name: two
sites:
  a:
  b: {title: Beta, kind: office}
links:
  - between: [a, b]
    rtt: 81 ms
"""


def parse(text: str, path: Path = HERE) -> Topology:
    return parse_topology(text.encode(), path)


def problems_of(text: str, path: Path = HERE) -> list[str]:
    with pytest.raises(DocumentError) as refused:
        parse(text, path)
    assert refused.value.exit_code is ExitCode.BAD_INPUT
    assert str(refused.value).splitlines() == [str(problem) for problem in refused.value.problems]
    return str(refused.value).splitlines()


def impairment(link_keys: str, source: str = "a", destination: str = "b") -> Impairment:
    text = TWO_SITES.replace("    rtt: 81 ms\n", "".join(f"    {line}\n" for line in link_keys.split("\n")))
    return parse(text).link(source, destination).impairment


def test_a_link_between_two_sites_is_both_directions() -> None:
    topology = parse(TWO_SITES)
    assert topology.site_names == ("a", "b")
    assert topology.sites[1].title == "Beta"
    assert [link.name for link in topology.links] == ["a>b", "b>a"]
    assert topology.mtu == 1500
    assert {link.impairment for link in topology.links} == {Impairment(delay_us=40_500)}


def test_an_odd_microsecond_of_rtt_is_kept() -> None:
    out, back = impairment("rtt: 5 us"), impairment("rtt: 5 us", "b", "a")
    assert (out.delay_us, back.delay_us) == (3, 2)


def test_the_default_buffer_is_one_bandwidth_delay_product_and_at_least_64_kib() -> None:
    assert impairment("rtt: 80 ms\nrate: 100 Mbit/s").buffer_bytes == 1_000_000
    assert impairment("rtt: 1 ms\nrate: 10 Mbit/s").buffer_bytes == 65_536
    assert impairment("rtt: 80 ms").buffer_bytes is None


def test_a_buffer_is_a_size_or_a_time_at_the_rate() -> None:
    assert impairment("rtt: 8 ms\nrate: 8 Mbit/s\nbuffer: 250 kB").buffer_bytes == 250_000
    assert impairment("rtt: 8 ms\nrate: 8 Mbit/s\nbuffer: 200 ms").buffer_bytes == 200_000


def test_loss_has_three_forms() -> None:
    assert impairment("rtt: 1 ms\nloss: 1%").loss == IndependentLoss(probability=0.01)
    bursts = impairment("rtt: 1 ms\nloss: {mean: 20%, burst: 4 packets}").loss
    assert isinstance(bursts, GilbertElliottLoss)
    assert bursts.mean == pytest.approx(0.2)
    assert 1 / bursts.bad_to_good == 4
    stated = impairment("rtt: 1 ms\nloss: {good_to_bad: 1%, bad_to_good: 25%, loss_in_bad: 50%}").loss
    assert stated == GilbertElliottLoss(good_to_bad=0.01, bad_to_good=0.25, loss_in_bad=0.5)
    assert impairment("rtt: 1 ms\nloss: 0%").loss is None


def test_directed_links_may_differ() -> None:
    text = TWO_SITES.replace("between: [a, b]\n    rtt: 81 ms", "{from: a, to: b, delay: 10 ms, loss: 1%}")
    topology = parse(text + "  - {from: b, to: a, delay: 30 ms}\n")
    assert topology.link("a", "b").impairment.delay_us == 10_000
    assert topology.link("b", "a").impairment == Impairment(delay_us=30_000)


def test_defaults_fill_what_links_leave_out_and_cover_missing_pairs() -> None:
    text = TWO_SITES.replace("  a:\n", "  a:\n  c:\n") + "defaults: {rtt: 20 ms, rate: 1 Mbit/s}\n"
    topology = parse(text)
    assert topology.link("a", "b").impairment == Impairment(delay_us=40_500, rate_bps=10**6, buffer_bytes=65_536)
    assert topology.link("c", "a").impairment == Impairment(delay_us=10_000, rate_bps=10**6, buffer_bytes=65_536)


def test_an_outage_is_in_the_timeline() -> None:
    topology = parse(TWO_SITES + "timeline:\n  - {do: outage, site: a, at: 10 s, for: 500 ms, every: 1 s}\n")
    assert topology.timeline == (Outage(site="a", at_s=10, duration_s=0.5, every_s=1),)


PROFILE = """\
version: 1
name: slow
source: a test
uplink: {delay: 5 ms, jitter: 1 ms, rate: 1 Mbit/s, buffer: 1 s, loss: 10%}
downlink: {delay: 7 ms, rate: 2 Mbit/s}
"""


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A topology's path with a profile ``slow`` beside it."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "slow.yaml").write_text(PROFILE)
    return tmp_path / "wan.yaml"


def test_a_profile_gives_the_keys_that_a_link_leaves_out(beside: Path) -> None:
    topology = parse(TWO_SITES.replace("rtt: 81 ms", "profile: slow\n    loss: 1%"), beside)
    up, down = topology.link("a", "b"), topology.link("b", "a")
    assert up.profile == "slow"
    assert up.impairment.model_dump(exclude={"loss"}) == Impairment(
        delay_us=5_000, jitter_us=1_000, rate_bps=10**6, buffer_bytes=125_000
    ).model_dump(exclude={"loss"})
    assert up.impairment.mean_loss == down.impairment.mean_loss == 0.01
    assert (down.impairment.delay_us, down.impairment.rate_bps) == (7_000, 2 * 10**6)
    assert "a test" in up.source_note


def test_an_access_line_is_in_series_with_every_link_of_its_site(beside: Path) -> None:
    text = TWO_SITES.replace("  a:\n", "  a: {access: slow}\n").replace(
        "81 ms", "80 ms\n    rate: 1.5 Mbit/s\n    loss: 1%"
    )
    topology = parse(text, beside)
    up, down = topology.link("a", "b").impairment, topology.link("b", "a").impairment
    assert topology.sites[0].access == "slow"
    assert (up.delay_us, up.jitter_us, up.rate_bps, up.buffer_bytes) == (45_000, 1_000, 10**6, 125_000)
    assert up.mean_loss == pytest.approx(1 - 0.99 * 0.9)
    # The pair's own 1.5 Mbit/s is slower than the downlink's 2 Mbit/s; its buffer is the BDP of the whole round trip.
    assert (down.delay_us, down.rate_bps, down.buffer_bytes) == (47_000, 1_500_000, 65_536)
    assert down.mean_loss == pytest.approx(0.01)


def test_independent_loss_in_series_with_bursts_keeps_the_bursts(beside: Path) -> None:
    text = TWO_SITES.replace("  a:\n", "  a: {access: slow}\n").replace(
        "rtt: 81 ms", "rtt: 81 ms\n    loss: {mean: 1%, burst: 5 packets}"
    )
    loss = parse(text, beside).link("a", "b").impairment.loss
    assert isinstance(loss, GilbertElliottLoss)
    assert loss.bad_to_good == 0.2
    assert loss.loss_in_good == pytest.approx(0.1)
    assert loss.mean == pytest.approx(1 - 0.99 * 0.9)


def test_two_burst_losses_in_series_are_refused(beside: Path) -> None:
    profile = beside.parent / "profiles" / "slow.yaml"
    profile.write_text(PROFILE.replace("loss: 10%", "loss: {mean: 1%, burst: 5 packets}"))
    text = TWO_SITES.replace("  a:\n", "  a: {access: slow}\n").replace(
        "rtt: 81 ms", "rtt: 81 ms\n    loss: {mean: 1%, burst: 5 packets}"
    )
    assert problems_of(text, beside) == [
        f"{beside}:9:11: burst loss meets burst loss in series; give one of the two an independent loss such as 1%"
    ]


def test_a_mistake_in_a_profile_is_reported_in_the_profile(beside: Path) -> None:
    profile = beside.parent / "profiles" / "slow.yaml"
    profile.write_text(PROFILE.replace("rate: 2 Mbit/s", "rate: 2 Mbps"))
    assert problems_of(TWO_SITES.replace("rtt: 81 ms", "profile: slow"), beside) == [
        f"{profile}:5:31: '2 Mbps' has the unknown unit 'Mbps'; accepted units: bit/s, kbit/s, Mbit/s, Gbit/s"
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("rtt: 81 ms", "rtt: 81"), "8:10: 81 has no unit; accepted units: us, ms, s (for example 80 ms)"),
        (("rtt: 81 ms", "rtt: 81 ms\n    los: 1%"), "9:5: unknown key 'los'; accepted: delay, jitter, distribution, "),
        (("rtt: 81 ms", "rtt: 81 ms\n    los: 1%"), "did you mean 'loss'?"),
        (
            ("rtt: 81 ms", "rtt: 81 ms\n    loss: {mean: 1%, length: 3}"),
            "9:22: unknown key 'length'; accepted: mean, burst",
        ),
        (("rtt: 81 ms", "rtt: 81 ms\n    loss: {mean: 1, burst: 2 packets}"), "9:18: 1 has no unit; accepted units: %"),
        (("rtt: 81 ms", "rtt: 81 ms\n    loss: 25% 10%"), "9:11: '25% 10%' is not a percentage"),
        (("rtt: 81 ms", "rtt: 81 ms\n    loss: 100%"), "9:11: nothing would ever arrive"),
        (("rtt: 81 ms", "rtt: 81 ms\n    loss: {mean: 90%, burst: 2 packets}"), "9:11: this mean needs longer bursts"),
        (("rtt: 81 ms", "rtt: 81 ms\n    buffer: 1 MB"), "9:13: a buffer needs a rate"),
        (
            ("rtt: 81 ms", "rtt: 81 ms\n    rate: 1 Mbit/s\n    buffer: 1400 B"),
            "10:13: a buffer of 1.4 kB is below one packet",
        ),
        (("rtt: 81 ms", "rtt: 81 ms\n    jitter: 50 ms"), "9:13: jitter 50 ms is above the delay of 40.5 ms"),
        (("rtt: 81 ms", "rtt: 81 ms\n    delay: 3 ms"), "7:5: rtt and delay exclude each other"),
        (("rtt: 81 ms", "rtt: 2 h"), "8:10: '2 h' has the unknown unit 'h'"),
        (("rtt: 81 ms", "rtt: 61 s"), "8:10: '61 s' is out of range; accepted: 0 ms to 60 s"),
        (("rtt: 81 ms", "rate: 1 Mbit/s"), "7:5: the link has no rtt or delay"),
        (("rtt: 81 ms", "profile: lt"), "8:14: there is no profile 'lt'; profiles: "),
        (("rtt: 81 ms", "profile: ../lte"), "8:14: there is no profile '../lte'"),
        (("rtt: 81 ms", "rtt:"), "8:5: 'rtt' has no value"),
        (("[a, b]", "[a, c]"), "7:18: there is no site 'c'; sites: a, b"),
        (("[a, b]", "[a, a]"), "7:18: a link from 'a' to itself"),
        (("[a, b]", "[a]"), "7:14: 1 entries here; accepted: at least 2"),
        (("between: [a, b]", "from: a"), "7:5: the key 'to' is missing"),
        (("between: [a, b]", "to: b"), "7:5: the key 'from' is missing"),
        (("between: [a, b]\n    ", ""), "7:5: a link names its sites"),
        (("  b: {", "  b:\n  c:\n  d: {"), "8:1: no link for a>c, a>d, b>c, b>d, c>a, c>b and 4 more; add them"),
        (("a:\n", "A:\n"), "4:3: 'A' is not a site's name"),
        (
            ("office", "ofice"),
            "5:26: 'ofice' is not accepted; accepted: data-centre, mobile, office; did you mean 'office'?",
        ),
        (("version: 1", "version: 2"), "1:10: 2 is not accepted; accepted: 1"),
        (("version: 1", "mtu: 100\nversion: 1"), "1:6: 100 is out of range; accepted: at least 576"),
        (("version: 1", "mtu: 1500 B\nversion: 1"), "1:6: expected a whole number, found '1500 B'"),
        (("name: two", ""), "1:1: the key 'name' is missing"),
        (("name: two", "name: two\nname: three"), "3:1: duplicate key 'name'; it is already on line 2"),
        (("name: two", "name: &x two"), "2:7: anchors and aliases are not accepted"),
        (("name: two", "name: !!python/name:os.system two"), "2:7: the tag 'python/name:os.system' is not accepted"),
        (("name: two", "name: [two"), "3:6: not valid YAML: expected ',' or ']', but got ':'"),
        (("name: two", "name: 2.5"), "2:7: expected text, found 2.5"),
        (("links:", "links: 3\nother:"), "6:8: expected a list, found 3"),
    ],
)
def test_a_mistake_is_named_where_it_stands(change: tuple[str, str], expected: str) -> None:
    assert change[0] in TWO_SITES
    found = problems_of(TWO_SITES.replace(*change, 1))
    assert any(line.removeprefix("wan.yaml:").startswith(expected) or expected in line for line in found), found


def test_a_pair_described_twice_names_the_first_line() -> None:
    twice = TWO_SITES + "  - {from: b, to: a, delay: 1 ms}\n"
    assert problems_of(twice) == ["wan.yaml:9:5: the link b>a is already described on line 7"]


def test_every_mistake_of_a_file_is_reported_at_once_in_its_order() -> None:
    text = (
        TWO_SITES.replace("office", "house").replace("81 ms", "81") + "timeline:\n  - {do: outage, site: z, at: 1 s}\n"
    )
    assert [line.split(": ")[0] for line in problems_of(text)] == [
        "wan.yaml:5:26",
        "wan.yaml:8:10",
        "wan.yaml:10:5",
        "wan.yaml:10:24",
    ]


def test_an_empty_value_is_one_mistake() -> None:
    assert len(problems_of(TWO_SITES.replace("name: two", "name:"))) == 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "wan.yaml:1:1: the file is empty"),
        (b"a: \xff", "wan.yaml:1:4: the file is not UTF-8 text"),
        (b"- 1", "wan.yaml:1:1: expected a mapping (key: value), found [1]"),
        (b"[" * 5_000, "nested too deeply"),
        (b"a: \x00", "wan.yaml:1:1: not valid YAML"),
        (b"--- 1\n--- 2\n", "not valid YAML"),
        (b" " * (2 << 20), "larger than 1 MiB"),
    ],
)
def test_what_is_no_document_is_refused(data: bytes, expected: str) -> None:
    with pytest.raises(DocumentError) as refused:
        parse_topology(data, HERE)
    assert expected in str(refused.value)


def test_a_file_that_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.yaml: cannot be read: No such file or directory"):
        load_topology(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="Is a directory"):
        load_topology(tmp_path)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_topology_or_an_input_error(data: bytes) -> None:
    try:
        parse_topology(data, HERE)
    except InputError as refused:
        assert str(refused).startswith("wan.yaml")


fragments = st.sampled_from(
    [
        *TWO_SITES.split(),
        "\n",
        "\n  ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "&a",
        "*a",
        "<<",
        "!!int",
        "null",
        "~",
        "1e400",
        "|",
        "'",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(fragments, max_size=12), st.integers(0, len(TWO_SITES)), st.integers(0, 30))
def test_any_damaged_file_is_a_topology_or_an_input_error(inserted: list[str], start: int, cut: int) -> None:
    damaged = TWO_SITES[:start] + " ".join(inserted) + TWO_SITES[start + cut :]
    try:
        parse_topology(damaged.encode(), HERE)
    except InputError as refused:
        assert str(refused).startswith("wan.yaml:")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1 ms", "a", "1%", "9 B"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["between", "rtt", "loss", "mean", "burst", "a", "from", "to", "do"]), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["sites", "links", "defaults", "timeline", "mtu", "name", "version", "source"]), values)
def test_any_value_of_any_key_is_a_topology_or_an_input_error(key: str, value: object) -> None:
    import json

    try:
        parse(TWO_SITES + f"{key}: {json.dumps(value)}\n" if key not in TWO_SITES else _with(key, json.dumps(value)))
    except InputError as refused:
        assert str(refused).startswith("wan.yaml:")


def _with(key: str, value: str) -> str:
    kept = {
        "version": "version: 1",
        "name": "name: two",
        "sites": "sites: {a: , b: }",
        "links": "links: [{between: [a, b], rtt: 1 ms}]",
    }
    kept[key] = f"{key}: {value}"
    return "\n".join(kept.values())
