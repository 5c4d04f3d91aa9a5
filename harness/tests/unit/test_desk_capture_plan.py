"""Where a capture listens."""

from __future__ import annotations

import pytest

from harness.model.impairment import Impairment
from harness.model.topology import Link, Nat, Site, Topology
from harness.plan.addressing import plan_lab
from harness.plan.capture import tap_link, tap_site

SITES = (Site(name="a"), Site(name="b", more_nodes=("db",)), Site(name="c", nat=Nat()))
TOPOLOGY = Topology(
    name="three",
    sites=SITES,
    links=tuple(
        Link(source=x.name, destination=y.name, impairment=Impairment()) for x in SITES for y in SITES if x != y
    ),
)
PLAN = plan_lab(TOPOLOGY, "lab1", 1)


def test_a_site_is_heard_on_its_line_to_the_core() -> None:
    assert [(tap_site(PLAN, name).netns, tap_site(PLAN, name).interface) for name in "abc"] == [
        ("lh-lab1-a", "wan0"),
        ("lhedge-lab1-b", "wan0"),
        ("lhedge-lab1-c", "wan0"),
    ]


def test_a_further_node_is_heard_on_its_lan() -> None:
    tap = tap_site(PLAN, "b.db")
    assert (tap.netns, tap.interface, tap.expression) == ("lh-lab1-b.db", "lan0", "")


def test_a_link_is_heard_at_its_end_by_its_source_or_at_its_begin_by_its_destination() -> None:
    after, before = tap_link(PLAN, "a", "b"), tap_link(PLAN, "a", "b", "before")
    a, b = PLAN.site("a"), PLAN.site("b")
    assert b.edge is not None
    assert after.netns == b.netns
    assert after.expression == f"src net {a.network} or src net {a.wan_network6}"
    assert before.netns == a.netns
    assert before.expression == (f"dst net {b.network} or dst net {b.wan_network6} or dst net {b.edge.lan_network6}")


def test_the_users_filter_narrows() -> None:
    tap = tap_link(PLAN, "a", "c")
    assert tap.narrowed("udp or tcp") == f"({tap.expression}) and (udp or tcp)"
    assert tap_site(PLAN, "a").narrowed("udp") == "(udp)"
    assert tap_site(PLAN, "a").narrowed("") == ""


def test_no_such_site() -> None:
    with pytest.raises(KeyError):
        tap_site(PLAN, "d")
    with pytest.raises(KeyError):
        tap_link(PLAN, "a", "d")
