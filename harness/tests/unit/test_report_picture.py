"""The picture: valid self-contained SVG, no label over another, nothing of the input unescaped."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss
from harness.model.measurement import LinkCertificate, Quantity
from harness.model.topology import Link, Outage, Site, Topology
from harness.model.verdict import Verdict
from harness.report.picture import draw
from harness.report.picture_layout import SITE_RADIUS, Box, Point, Size, lay_out

SVG = "{http://www.w3.org/2000/svg}"


def full_mesh(count: int, impairment: Impairment, **site: str) -> Topology:
    sites = tuple(Site(name=f"site-{index}", **site) for index in range(count))
    links = tuple(
        Link(source=a.name, destination=b.name, impairment=impairment) for a in sites for b in sites if a is not b
    )
    return Topology(name="mesh", sites=sites, links=links)


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def measured(verdict: Verdict, rtt_us: float | None) -> LinkCertificate:
    rtt = Quantity(name="rtt", unit="us", requested=80_000, measured=rtt_us, verdict=verdict, method="median")
    return LinkCertificate(source="site-0", destination="site-1", depth="quick", quantities=(rtt,), verdict=verdict)


@pytest.mark.parametrize("count", range(2, 17))
def test_no_label_covers_another_or_a_site(count: int) -> None:
    links = list(combinations(range(count), 2))
    layout = lay_out([Size(150, 36)] * count, links, [Size(190, 52)] * len(links))
    boxes = [*layout.site_labels, *layout.link_labels]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    for site in layout.sites:
        circle = Box.around(site, 2 * SITE_RADIUS, 2 * SITE_RADIUS)
        assert not [box for box in layout.link_labels if box.overlaps(circle)]
    assert all(layout.bounds.overlaps(box) for box in boxes)


def test_each_label_lies_on_its_link() -> None:
    links = list(combinations(range(5), 2))
    layout = lay_out([Size(80, 20)] * 5, links, [Size(120, 37)] * len(links))
    for (a, b), box in zip(links, layout.link_labels, strict=True):
        start, end, middle = layout.sites[a], layout.sites[b], box.centre
        cross = (end.x - start.x) * (middle.y - start.y) - (end.y - start.y) * (middle.x - start.x)
        assert cross == pytest.approx(0, abs=1e-6)


def test_a_link_says_its_rtt_rate_and_loss() -> None:
    impairment = Impairment(delay_us=40_250, rate_bps=10**8, loss=IndependentLoss(probability=0.01))
    assert texts(draw(full_mesh(2, impairment)))[:2] == ["80.5 ms RTT", "100 Mbit/s · 1% loss"]


def test_bursts_are_told_from_single_losses() -> None:
    impairment = Impairment(delay_us=1_000, loss=GilbertElliottLoss(good_to_bad=0.01, bad_to_good=0.125))
    assert "unlimited · 7.41% loss ×8" in texts(draw(full_mesh(2, impairment)))


def test_directions_that_differ_are_two_arrows_with_a_line_each() -> None:
    topology = full_mesh(2, Impairment(delay_us=5_000, rate_bps=10**7))
    slow = topology.links[1].model_copy(update={"impairment": Impairment(delay_us=5_000, rate_bps=10**6)})
    svg = draw(topology.model_copy(update={"links": (topology.links[0], slow)}))
    assert texts(svg)[:3] == ["10 ms RTT", "→ 10 Mbit/s", "← 1 Mbit/s"]
    assert svg.count('class="arrow"') == 2
    assert draw(topology).count('class="arrow"') == 0


def test_measurements_stand_beside_the_request() -> None:
    topology = full_mesh(2, Impairment(delay_us=40_000))
    good = draw(topology, {("site-0", "site-1"): measured(Verdict.PASS, 80_612.0)})
    assert "measured 80.6 ms" in texts(good)
    assert 'class="link bad"' not in good
    bad = draw(topology, {("site-0", "site-1"): measured(Verdict.INVALID, None)})
    assert "no answer measured" in texts(bad)
    assert 'class="link bad"' in bad


def test_outages_are_in_the_legend() -> None:
    topology = full_mesh(2, Impairment()).model_copy(
        update={"timeline": (Outage(site="site-1", at_s=10, duration_s=2, every_s=40),)}
    )
    assert "timeline: site-1 is cut off for 2 s, first at 10 s, every 40 s" in texts(draw(topology))


@pytest.mark.parametrize("count", [17, 127])
def test_many_sites_are_coloured_instead_of_labelled(count: int) -> None:
    svg = draw(full_mesh(count, Impairment(delay_us=60_000)))
    assert len(svg) < 1_000_000
    assert len(texts(svg)) == count + 1
    assert 'class="band"' in svg


def test_the_picture_needs_nothing_from_outside_and_escapes_its_input() -> None:
    svg = draw(full_mesh(3, Impairment(), title='<script>"&\x00'))
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox")
    assert not list(root.iter(f"{SVG}script"))
    assert "href" not in svg and "url(" not in svg and "@import" not in svg
    assert '<script>"&\ufffd' in texts(svg)


def test_boxes_that_touch_at_a_corner_do_not_overlap() -> None:
    box = Box.around(Point(0, 0), 10, 10)
    assert not box.overlaps(Box(5, 5, 10, 10))
    assert box.overlaps(Box(5, 5, 10, 10), gap=1)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(min_size=1, max_size=60), min_size=2, max_size=7), st.integers(0, 10**7), st.integers(1, 10**11)
)
def test_any_titles_delays_and_rates_can_be_drawn(titles: list[str], delay_us: int, rate_bps: int) -> None:
    mesh = full_mesh(len(titles), Impairment(delay_us=delay_us, rate_bps=rate_bps))
    sites = tuple(site.model_copy(update={"title": title}) for site, title in zip(mesh.sites, titles, strict=True))
    ElementTree.fromstring(draw(mesh.model_copy(update={"sites": sites})))
