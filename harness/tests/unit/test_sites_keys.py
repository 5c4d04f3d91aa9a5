"""The keys of a site and a link that say what stands there, from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.topology_file import parse_topology
from harness.errors import InputError
from harness.model.topology import Nat, Topology

FRAME = """\
version: 1
name: t
sites:
  a: {}
  b: SITE
defaults: {rtt: 10 ms}
links:
  - {from: a, to: b, delay: 5 ms LINK}
"""


def parse(site: str = "{}", link: str = "") -> Topology:
    return parse_topology(FRAME.replace("SITE", site).replace(" LINK", link).encode(), Path("t.yaml"))


@pytest.mark.parametrize(
    ("written", "nat"),
    [
        ("{}", None),
        ("{nat: false}", None),
        ("{nat: true}", Nat()),
        ("{nat: {}}", Nat()),
        ("{nat: {kind: symmetric, udp_timeout: 5 s}}", Nat(kind="symmetric", udp_timeout_s=5)),
    ],
)
def test_nat(written: str, nat: Nat | None) -> None:
    assert parse(written).site("b").nat == nat


def test_nodes_are_named_after_their_site() -> None:
    assert parse("{more_nodes: [db, cache]}").site("b").node_names == ("b", "b.db", "b.cache")


def test_mtu_is_the_links_own() -> None:
    topology = parse(link=", mtu: 1300")
    assert (topology.link("a", "b").mtu, topology.link("b", "a").mtu) == (1300, None)


@pytest.mark.parametrize(
    ("site", "link", "said"),
    [
        ("{nat: 3}", "", "t.yaml:5:12: expected true, or a mapping"),
        ("{nat: {udp_timeout: 500 ms}}", "", "whole seconds"),
        ("{nat: {kind: odd}}", "", "port-preserving"),
        ("{more_nodes: [x, x]}", "", "'x' is there twice"),
        ("{more_nodes: [X]}", "", "not a site's name"),
        (f"{{more_nodes: [{', '.join(f'n{number}' for number in range(13))}]}}", "", "12"),
        ("{}", ", mtu: 1501", "t.yaml:8:40: mtu 1501 is above the topology's 1500"),
        ("{}", ", mtu: 500", "576"),
    ],
)
def test_mistakes_are_told_with_their_place(site: str, link: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(site, link)
    assert said in refused.value.message
