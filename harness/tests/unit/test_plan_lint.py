"""The linter: each rule fires on what it is about, is silent on its neighbour, and never on what is shipped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.places import load_placed
from harness.config.shipped import shipped_dir, shipped_topologies
from harness.config.trace_file import load_trace, shipped_traces
from harness.model.impairment import (
    ActiveQueue,
    Chance,
    DelayDistribution,
    FourStateLoss,
    GilbertElliottLoss,
    Impairment,
    IndependentLoss,
    Reordering,
    Slots,
)
from harness.model.timeline import Change, LinkChoice, Outage, Ramp
from harness.model.topology import CrossTraffic, Link, Nat, Site, Topology
from harness.model.trace import Course, Trace
from harness.plan import lint_link
from harness.plan.lint import ASSUMED_CORES, LintFinding, LintSummary, lint_profile, lint_topology
from harness.plan.lint_time import check_playback

VM = ASSUMED_CORES["vm"]
ALL = LinkChoice(all=True)
NORMAL = DelayDistribution(kind="normal")


def pair(sites: tuple[Site, ...] | None = None, mtu: int = 1500, link_mtu: int | None = None, **more: Any) -> Topology:
    impairment = Impairment(**{"delay_us": 10_000, **more.pop("link", {})})
    return Topology(
        name="pair",
        mtu=mtu,
        sites=sites or (Site(name="a"), Site(name="b")),
        links=(
            Link(source="a", destination="b", impairment=impairment, mtu=link_mtu),
            Link(source="b", destination="a", impairment=impairment, mtu=link_mtu),
        ),
        **more,
    )


def rules(topology: Topology, severity: str | None = None) -> set[str]:
    return {finding.rule for finding in lint_topology(topology, VM) if severity in (None, finding.severity)}


def outage(at_s: float, duration_s: float, every_s: float | None = None) -> Outage:
    return Outage(site="a", at_s=at_s, duration_s=duration_s, every_s=every_s)


def cross(**more: Any) -> CrossTraffic:
    return CrossTraffic(**{"source": "a", "destination": "b", "pattern": "constant", "rate_bps": 1_000_000, **more})


def change(at_s: float, duration_s: float | None, **fields: Any) -> Change:
    return Change(links=ALL, at_s=at_s, duration_s=duration_s, fields=fields)


MBIT = 1_000_000
LOSSY = IndependentLoss(probability=0.01)
HIDDEN = Nat()

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "correlated-loss",
        {"link": {"loss": IndependentLoss(probability=0.01, correlation=0.25)}},
        {"link": {"loss": LOSSY}},
    ),
    (
        "correlated-duplicate",
        {"link": {"duplicate": Chance(share=0.01, correlation=0.1)}},
        {"link": {"duplicate": Chance(share=0.01)}},
    ),
    (
        "correlated-corrupt",
        {"link": {"corrupt": Chance(share=0.01, correlation=0.1)}},
        {"link": {"corrupt": Chance(share=0.01)}},
    ),
    (
        "correlated-reorder",
        {"link": {"reorder": Reordering(share=0.01, correlation=0.5)}},
        {"link": {"reorder": Reordering(share=0.01)}},
    ),
    (
        "correlated-delay",
        {"link": {"jitter_us": 1000, "delay_correlation": 0.25}},
        {"link": {"jitter_us": 1000}},
    ),
    (
        "loss-never-ends",
        {"link": {"loss": GilbertElliottLoss(good_to_bad=0.01, bad_to_good=0)}},
        {"link": {"loss": GilbertElliottLoss(good_to_bad=0.01, bad_to_good=0.1)}},
    ),
    (
        "loss-never-ends",
        {"link": {"loss": FourStateLoss(p13=0.01, p31=0)}},
        {"link": {"loss": FourStateLoss(p13=0.01, p31=0.1)}},
    ),
    (
        "loss-never-begins",
        {"link": {"loss": GilbertElliottLoss(good_to_bad=0, bad_to_good=0.1)}},
        {"link": {"loss": GilbertElliottLoss(good_to_bad=0.1, bad_to_good=0.1)}},
    ),
    (
        "loss-below-resolution",
        {"link": {"loss": IndependentLoss(probability=1e-11)}},
        {"link": {"loss": IndependentLoss(probability=1e-6)}},
    ),
    (
        "buffer-below-packet",
        {"link": {"rate_bps": 10 * MBIT, "buffer_bytes": 1499}},
        {"link": {"rate_bps": 10 * MBIT, "buffer_bytes": 64_000}},
    ),
    (
        "buffer-below-bdp",
        {"link": {"delay_us": 150_000, "rate_bps": 100 * MBIT, "buffer_bytes": 15_000}},
        {"link": {"delay_us": 150_000, "rate_bps": 100 * MBIT, "buffer_bytes": 375_000}},
    ),
    (
        "buffer-bloated",
        {"link": {"rate_bps": MBIT, "buffer_bytes": 1_300_000}},
        {"link": {"rate_bps": MBIT, "buffer_bytes": 1_200_000}},
    ),
    (
        "queue-without-rate",
        {"link": {"active_queue": ActiveQueue(discipline="codel")}},
        {"link": {"rate_bps": 10 * MBIT, "active_queue": ActiveQueue(discipline="codel")}},
    ),
    (
        "queue-starved",
        {"link": {"rate_bps": 10 * MBIT, "buffer_packets": 4, "active_queue": ActiveQueue(discipline="fq-codel")}},
        {"link": {"rate_bps": 10 * MBIT, "buffer_packets": 400, "active_queue": ActiveQueue(discipline="fq-codel")}},
    ),
    (
        "queue-target-below-packet",
        {"link": {"rate_bps": MBIT, "active_queue": ActiveQueue(discipline="codel")}},
        {"link": {"rate_bps": MBIT, "active_queue": ActiveQueue(discipline="codel", target_us=18_000)}},
    ),
    (
        "queue-target-above-interval",
        {"link": {"rate_bps": 9 * MBIT, "active_queue": ActiveQueue(discipline="codel", target_us=100_000)}},
        {"link": {"rate_bps": 9 * MBIT, "active_queue": ActiveQueue(discipline="codel", target_us=5_000)}},
    ),
    ("jitter-clipped", {"link": {"jitter_us": 10_001}}, {"link": {"jitter_us": 10_000}}),
    (
        "jitter-clipped",
        {"link": {"jitter_us": 3_400, "distribution": NORMAL}},
        {"link": {"jitter_us": 3_300, "distribution": NORMAL}},
    ),
    (
        "jitter-clipped",
        {"link": {"jitter_us": 6_000, "distribution": DelayDistribution(kind="custom", quantiles=(-2.0, 0.0, 2.0))}},
        {"link": {"jitter_us": 6_000, "distribution": DelayDistribution(kind="custom", quantiles=(-1.0, 0.0, 9.0))}},
    ),
    ("jitter-reorders", {"link": {"jitter_us": 1000, "in_order": False}}, {"link": {"jitter_us": 1000}}),
    (
        "distribution-without-jitter",
        {"link": {"distribution": NORMAL}},
        {"link": {"distribution": NORMAL, "jitter_us": 100}},
    ),
    (
        "reorder-without-delay",
        {"link": {"delay_us": 0, "reorder": Reordering(share=0.01)}},
        {"link": {"reorder": Reordering(share=0.01)}},
    ),
    (
        "reorder-all",
        {"link": {"reorder": Reordering(share=1)}},
        {"link": {"reorder": Reordering(share=1, gap=5)}},
    ),
    ("delay-below-core", {"link": {"delay_us": 500}}, {"link": {"delay_us": 0}}),
    ("rate-above-core", {"link": {"rate_bps": 1001 * MBIT}}, {"link": {"rate_bps": 1000 * MBIT}}),
    (
        "duplicate-with-loss",
        {"link": {"duplicate": Chance(share=0.01), "loss": LOSSY}},
        {"link": {"duplicate": Chance(share=0.01)}},
    ),
    ("duplicate-doubles", {"link": {"duplicate": Chance(share=0.6)}}, {"link": {"duplicate": Chance(share=0.4)}}),
    (
        "slots-below-rate",
        {"link": {"rate_bps": 10 * MBIT, "slots": Slots(min_delay_us=10_000, max_delay_us=10_000, packets=8)}},
        {"link": {"rate_bps": 9 * MBIT, "slots": Slots(min_delay_us=10_000, max_delay_us=10_000, packets=8)}},
    ),
    (
        "slots-below-packet",
        {"link": {"slots": Slots(delay_us=10_000, bytes=1000)}},
        {"link": {"slots": Slots(delay_us=10_000, bytes=15_000)}},
    ),
    ("slots-always-open", {"link": {"slots": Slots(packets=8)}}, {"link": {"slots": Slots(packets=8, delay_us=5)}}),
    ("marks-without-loss", {"link": {"loss_marks": True}}, {"link": {"loss_marks": True, "loss": LOSSY}}),
    ("mtu-above-topology", {"link_mtu": 1600}, {"link_mtu": 1500}),
    ("mtu-below-ipv6", {"link_mtu": 1279}, {"link_mtu": 1280}),
    ("mtu-below-ipv6", {"mtu": 1279}, {"mtu": 1280}),
    ("nat-hides-site", {"sites": (Site(name="a", nat=HIDDEN), Site(name="b"))}, {}),
    (
        "nat-hides-pair",
        {"sites": (Site(name="a", nat=HIDDEN), Site(name="b", nat=HIDDEN), Site(name="c"))},
        {"sites": (Site(name="a", nat=HIDDEN), Site(name="b"), Site(name="c"))},
    ),
    (
        "nat-hides-all",
        {"sites": (Site(name="a", nat=HIDDEN), Site(name="b", nat=HIDDEN))},
        {"sites": (Site(name="a", nat=HIDDEN), Site(name="b", nat=HIDDEN), Site(name="c"))},
    ),
    (
        "cross-traffic-into-nat",
        {"sites": (Site(name="a"), Site(name="b", nat=HIDDEN)), "cross_traffic": (cross(),)},
        {"sites": (Site(name="a", nat=HIDDEN), Site(name="b")), "cross_traffic": (cross(),)},
    ),
    (
        "cross-traffic-above-rate",
        {"link": {"rate_bps": MBIT}, "cross_traffic": (cross(rate_bps=600_000), cross(rate_bps=600_000))},
        {"link": {"rate_bps": MBIT}, "cross_traffic": (cross(rate_bps=600_000),)},
    ),
    (
        "cross-traffic-fills-link",
        {"link": {"rate_bps": MBIT}, "cross_traffic": (cross(rate_bps=950_000),)},
        {"link": {"rate_bps": MBIT}, "cross_traffic": (cross(rate_bps=800_000),)},
    ),
    ("cross-traffic-fragments", {"cross_traffic": (cross(packet_bytes=1600),)}, {"cross_traffic": (cross(),)}),
    ("outages-overlap", {"timeline": (outage(1, 2), outage(2, 2))}, {"timeline": (outage(1, 1), outage(2, 2))}),
    (
        "outages-overlap",
        {"timeline": (outage(10, 2, 40), outage(91, 1))},
        {"timeline": (outage(10, 2, 40), outage(93, 1))},
    ),
    (
        "outages-overlap",
        {"timeline": (outage(10, 2, 40), outage(11, 1, 80))},
        {"timeline": (outage(10, 2, 40), outage(20, 1, 80))},
    ),
    (
        "ramp-cut-short",
        {"timeline": (Ramp(links=ALL, fields={"delay_us": 5}, over_s=5, duration_s=4),)},
        {"timeline": (Ramp(links=ALL, fields={"delay_us": 5}, over_s=5, duration_s=5),)},
    ),
    (
        "ramp-too-fine",
        {"timeline": (Ramp(links=ALL, fields={"delay_us": 5}, over_s=5, step_s=0.001),)},
        {"timeline": (Ramp(links=ALL, fields={"delay_us": 5}, over_s=5, step_s=0.05),)},
    ),
    (
        "jitter-clipped",
        {"timeline": (Change(links=ALL, fields={"jitter_us": 20_000}),)},
        {"timeline": (Change(links=ALL, fields={"jitter_us": 2_000}),)},
    ),
    (
        "events-fight",
        {"timeline": (change(1, 5, delay_us=5), change(4, 5, delay_us=9))},
        {"timeline": (change(1, 5, delay_us=5), change(4, 5, jitter_us=9))},
    ),
    (
        "events-fight",
        {"timeline": (change(1, None, delay_us=5), change(400, 5, delay_us=9))},
        {"timeline": (change(1, 5, delay_us=5), change(6, 5, delay_us=9))},
    ),
    ("event-never-ends", {"timeline": (outage(1, 2, 2),)}, {"timeline": (outage(1, 2, 3),)}),
]


@pytest.mark.parametrize(("rule", "bad", "good"), CASES, ids=[f"{rule}-{n}" for n, (rule, _, _) in enumerate(CASES)])
def test_a_rule_fires_and_is_silent_on_its_neighbour(rule: str, bad: dict[str, Any], good: dict[str, Any]) -> None:
    assert rule in rules(pair(**bad))
    assert rule not in rules(pair(**good))


def test_more_sites_than_the_core_holds() -> None:
    many = Topology(name="many", sites=tuple(Site(name=f"s{n}") for n in range(VM.max_sites + 1)), links=())
    few = many.model_copy(update={"sites": many.sites[:-1]})
    assert rules(many) == {"sites-above-core"}
    assert rules(few) == set()


def test_the_sum_of_all_links_is_held_against_the_core() -> None:
    names = [f"s{n}" for n in range(16)]
    mesh = Topology(
        name="mesh",
        sites=tuple(Site(name=name) for name in names),
        links=tuple(
            Link(source=a, destination=b, impairment=Impairment(delay_us=5000, rate_bps=10 * MBIT))
            for a in names
            for b in names
            if a != b
        ),
    )
    assert rules(mesh) == {"load-above-core"}
    assert lint_topology(mesh) == ()


def test_correlated_loss_is_refused_with_the_equivalent_of_gilbert_and_elliott() -> None:
    [finding] = lint_topology(pair(link={"loss": IndependentLoss(probability=0.01, correlation=0.25)}))
    assert finding.severity == "error"
    assert LintSummary.of([finding]).refuses(strict=False)
    assert "loss: {mean: 1%, burst: 1.35 packets}" in finding.instead


@given(mean=st.floats(0.0001, 0.9), memory=st.floats(0.01, 0.95))
def test_the_equivalent_has_the_mean_and_the_memory_that_were_asked_for(mean: float, memory: float) -> None:
    model = GilbertElliottLoss(good_to_bad=(1 - memory) * mean, bad_to_good=(1 - memory) * (1 - mean))
    assert model.mean == pytest.approx(mean)
    assert model.memory == pytest.approx(memory)


def test_what_both_directions_say_alike_is_said_once() -> None:
    findings = lint_topology(pair(link={"jitter_us": 20_000}))
    assert [finding.where for finding in findings] == ["link a>b, jitter"]


def test_a_blocked_link_is_not_looked_at() -> None:
    assert rules(pair(link={"blocked": True, "jitter_us": 20_000})) == set()


@pytest.mark.parametrize("name", shipped_topologies())
@pytest.mark.parametrize("placement", sorted(ASSUMED_CORES))
def test_shipped_topologies_are_clean(name: str, placement: str) -> None:
    document = load_placed(shipped_dir("topologies") / f"{name}.yaml").document
    assert isinstance(document, Topology)
    found = lint_topology(document, ASSUMED_CORES[placement])
    assert [finding for finding in found if finding.severity != "note"] == []


@pytest.mark.parametrize("path", sorted((shipped_dir("topologies") / "profiles").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_profiles_are_clean(path: Path) -> None:
    from harness.cli.lint_report import lint_document

    assert lint_document(load_placed(path).document) == ()


chances = st.floats(0, 1)
impairments = st.builds(
    Impairment,
    delay_us=st.integers(0, 10**6),
    jitter_us=st.integers(0, 10**6),
    in_order=st.booleans(),
    loss=st.none()
    | st.builds(IndependentLoss, probability=chances, correlation=chances)
    | st.builds(GilbertElliottLoss, good_to_bad=chances, bad_to_good=chances, loss_in_bad=chances, loss_in_good=chances)
    | st.builds(FourStateLoss, p13=chances, p31=chances, p32=chances, p23=chances, p14=chances),
    loss_marks=st.booleans(),
    delay_correlation=chances,
    duplicate=st.none() | st.builds(Chance, share=chances, correlation=chances),
    reorder=st.none() | st.builds(Reordering, share=chances, correlation=chances, gap=st.integers(1, 9)),
    slots=st.none() | st.builds(Slots, delay_us=st.integers(0, 10**5), packets=st.integers(0, 99)),
    rate_bps=st.none() | st.integers(1, 10**11),
    buffer_bytes=st.none() | st.integers(1, 10**9),
    active_queue=st.none() | st.builds(ActiveQueue, discipline=st.sampled_from(["codel", "fq-codel"])),
)


@given(uplink=impairments, downlink=impairments)
def test_any_impairment_is_judged_and_every_error_says_what_to_write(uplink: Impairment, downlink: Impairment) -> None:
    for _, finding in lint_profile(uplink, downlink):
        assert finding.reason
        assert finding.instead or finding.severity == "note"


def test_findings_stand_where_the_file_says_it(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "version: 1\nname: x\nmtu: 1200\nsites: {a: , b: , c: }\n"
        "defaults: {rtt: 10 ms, rate: 10 Mbit/s}\n"
        "links:\n"
        "  - {between: [a, b], rtt: 10 ms, jitter: 1 ms}\n"
        "  - {from: a, to: c, delay: 10 ms}\n"
    )
    places = load_placed(file).places
    lines = {
        ("link", "a", "b", "jitter"): 7,
        ("link", "b", "a", "jitter"): 7,
        ("link", "a", "c", "rate"): 5,
        ("link", "a", "c", "loss"): 8,
        ("link", "c", "a", "loss"): 5,
        ("mtu",): 3,
        ("site", "c", "nat"): 4,
        ("timeline", 3, "at"): 1,
    }
    assert {subject: places.of(subject).line for subject in lines} == lines


def test_a_finding_names_its_part_in_words() -> None:
    def where(*subject: str | int) -> str:
        return LintFinding(severity="note", rule="r", subject=subject, reason="x").where

    assert where("link", "a", "b", "loss") == "link a>b, loss"
    assert where("cross_traffic", 0, "rate") == "cross traffic entry 1, rate"
    assert where("site", "a", "nat") == "site a, nat"
    assert where("mtu") == "mtu"


def test_a_trace_that_is_finer_than_it_can_be_played() -> None:
    def rules_at(step_us: int, speed: float) -> list[str]:
        course = Course(at_us=(0, step_us), delay_us=(5, 9))
        trace = Trace(name="x", duration_us=10**6, down=course)
        return [finding.rule for finding in check_playback(trace, 0, speed)]

    assert rules_at(5_000, 1) == ["trace-too-fine"]
    assert rules_at(50_000, 1) == []
    assert rules_at(50_000, 100) == ["trace-too-fine"]


@pytest.mark.parametrize("path", shipped_traces(), ids=lambda path: path.stem)
def test_shipped_traces_can_be_played(path: Path) -> None:
    assert list(check_playback(load_trace(path), 0)) == []


def test_every_rule_stands_in_the_field_reference() -> None:
    reference = (shipped_dir("topologies") / "README.md").read_text()
    sources = [path.read_text() for path in Path(lint_link.__file__).parent.glob("lint_*.py")]
    named = {rule for text in sources for rule in re.findall(r'"((?:[a-z0-9]+-)+[a-z0-9]+)"', text)}
    named -= {"gilbert-elliott", "four-state", "fq-codel"}
    assert len(named) > 35
    assert [rule for rule in sorted(named) if f"`{rule}`" not in reference] == []
