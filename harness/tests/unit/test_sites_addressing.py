"""Where sites and nodes are put: nothing overlaps, every name fits, and NAT always moves on."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, collapse_addresses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.mesh import mesh as mesh_command
from harness.config.topology_file import parse_topology
from harness.model.impairment import Impairment
from harness.model.topology import MAX_NODES_OF_A_SITE, MAX_SITES, Link, Nat, Site, Topology
from harness.plan.addressing import (
    LAB_SLOTS,
    MANAGEMENT_RANGE,
    NAT_RANGE,
    WAN_RANGE,
    WAN_RANGE6,
    LabPlan,
    management_slot,
    plan_lab,
)
from harness.plan.edge import lan_commands, nat_ruleset, node_commands
from harness.plan.mesh import mesh

LONGEST_INTERFACE_NAME = 15


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Sites of any shape. Links don't matter to addresses."""
    shapes = draw(st.lists(st.tuples(st.integers(0, MAX_NODES_OF_A_SITE - 1), st.booleans()), min_size=1, max_size=12))
    sites = tuple(
        Site(name=f"s{index}", more_nodes=tuple(f"n{node}" for node in range(more)), nat=Nat() if nat else None)
        for index, (more, nat) in enumerate(shapes)
    )
    return Topology(name="any", sites=sites, links=())


def fullest() -> Topology:
    more = tuple(f"n{node}" for node in range(MAX_NODES_OF_A_SITE - 1))
    sites = tuple(
        Site(name=f"s{index}", more_nodes=more, nat=Nat() if index % 2 else None) for index in range(MAX_SITES)
    )
    return Topology(name="full", sites=sites, links=())


def check(plan: LabPlan) -> None:
    nodes = plan.nodes
    management = [address for node in nodes for address in (node.management_host_address, node.management_address)]
    assert len(set(management)) == len(management)
    assert all(address in MANAGEMENT_RANGE and management_slot(address) == plan.slot for address in management)
    interfaces = [node.management_host_interface for node in nodes]
    assert len(set(interfaces)) == len(interfaces)
    assert max(map(len, interfaces)) <= LONGEST_INTERFACE_NAME
    namespaces = {site.netns for site in plan.sites} | {node.netns for node in nodes}
    assert len(namespaces) == len(nodes) + sum(site.edge is not None for site in plan.sites)
    macs = [mac for site in plan.sites for mac in (site.gateway_mac, site.wan_mac)]
    macs += [mac for site in plan.sites if site.edge for mac in (site.edge.lan_mac, *(n.mac for n in site.nodes))]
    assert len(set(macs)) == len(macs)
    own = [(node.site if node.address in NAT_RANGE else "", node.address) for node in nodes]
    assert len(set(own)) == len(own)
    assert len({node.address6 for node in nodes}) == len(nodes)
    assert len(list(collapse_addresses(site.network for site in plan.sites))) <= len(plan.sites)
    for one, other in zip(plan.sites, plan.sites[1:], strict=False):
        assert not one.network.overlaps(other.network)
    for site in plan.sites:
        assert site.network.subnet_of(WAN_RANGE)
        assert site.wan_network.subnet_of(site.network)
        assert {site.wan_address, site.wan_gateway} < set(site.wan_network.hosts())
        assert site.wan_network6 is not None
        assert site.wan_network6.subnet_of(WAN_RANGE6)
        for node in site.nodes:
            assert node.public_address in site.network
            if site.edge is None:
                assert (node.address, node.address6, node.netns) == (site.wan_address, site.wan_address6, site.netns)
                continue
            assert node.address in site.edge.lan_network
            assert node.address != site.edge.lan_address
            assert site.edge.lan_network6 is not None
            assert node.address6 in site.edge.lan_network6
            assert site.edge.lan_network6 != site.wan_network6
            assert not site.edge.lan_network.overlaps(site.wan_network)


@given(topologies(), st.integers(0, LAB_SLOTS - 1))
@settings(max_examples=50, deadline=None)
def test_nothing_in_a_lab_overlaps(topology: Topology, slot: int) -> None:
    check(plan_lab(topology, "abcdef", slot))


@pytest.mark.parametrize("slot", [0, LAB_SLOTS - 1])
def test_the_fullest_lab_fits(slot: int) -> None:
    check(plan_lab(fullest(), "abcdef", slot))


def test_labs_of_different_slots_share_no_address() -> None:
    seen: set[object] = set()
    for slot in range(LAB_SLOTS):
        plan = plan_lab(fullest(), "abcdef", slot)
        mine = {site.network for site in plan.sites} | {site.wan_network6 for site in plan.sites}
        mine |= {site.edge.lan_network6 for site in plan.sites if site.edge is not None}
        mine |= {node.management_address for node in plan.nodes}
        assert not seen & mine
        seen |= mine


def test_too_many_are_refused() -> None:
    site = Site(name="a", more_nodes=tuple(f"n{number}" for number in range(MAX_NODES_OF_A_SITE)))
    with pytest.raises(ValueError, match="a has 14 nodes; a site holds at most 13"):
        plan_lab(Topology(name="x", sites=(site,), links=()), "l", 0)
    with pytest.raises(ValueError, match="129 sites"):
        plan_lab(mesh(MAX_SITES + 1), "l", 0)


@pytest.mark.parametrize(("mtu", "host", "expected"), [(1280, True, True), (1279, True, False), (1500, False, False)])
def test_a_lab_is_dual_stack_where_it_can_be(mtu: int, host: bool, expected: bool) -> None:
    plan = plan_lab(mesh(2, mtu=mtu), "l", 0, ipv6=host)
    assert plan.ipv6 is expected
    assert (plan.nodes[0].address6 is not None) is expected


def test_a_lone_node_needs_no_edge() -> None:
    plain, nat, two = plan_lab(
        Topology(
            name="x", sites=(Site(name="a"), Site(name="b", nat=Nat()), Site(name="c", more_nodes=("db",))), links=()
        ),
        "lab1",
        0,
    ).sites
    assert plain.edge is None
    assert nat.edge is not None
    assert two.edge is not None
    assert [node.name for node in two.nodes] == ["c", "c.db"]
    assert nat.nodes[0].public_address == nat.wan_address != nat.nodes[0].address
    with pytest.raises(ValueError, match="a has no edge"):
        lan_commands(plain, 1500)
    with pytest.raises(ValueError, match="c is not behind NAT"):
        nat_ruleset(two, 0)


def test_without_ipv6_no_command_speaks_of_it() -> None:
    topology = Topology(name="x", sites=(Site(name="b", more_nodes=("db",), nat=Nat()),), links=())
    (site,) = plan_lab(topology, "lab1", 0, ipv6=False).sites
    text = "\n".join([*lan_commands(site, 1500), *node_commands(site, site.nodes[1]), nat_ruleset(site, 0)])
    assert not re.search(r"ip6|2001:|nodad", text)


def _external_ports(rules: str, port: int) -> range:
    """Where a ruleset puts a UDP port from inside."""
    for line in rules.splitlines():
        rule = re.search(r"(?:udp sport (\d+)-(\d+)|meta l4proto udp) snat to [\d.]+:(\d+)-(\d+)", line)
        if rule and (rule[1] is None or int(rule[1]) <= port <= int(rule[2])):
            return range(int(rule[3]), int(rule[4]) + 1)
    return range(port, port + 1)


@given(st.integers(1, 65535), st.integers(0, 50))
def test_each_rebinding_gives_every_port_another_one(port: int, generation: int) -> None:
    (site,) = plan_lab(Topology(name="x", sites=(Site(name="b", nat=Nat()),), links=()), "lab1", 0).sites
    before = _external_ports(nat_ruleset(site, generation), port)
    after = _external_ports(nat_ruleset(site, generation + 1), port)
    assert not set(before) & set(after)
    # The kernel keeps a port that the range has; it must not be in it.
    assert port not in after


def test_a_rebinding_may_move_to_another_address() -> None:
    (site,) = plan_lab(Topology(name="x", sites=(Site(name="b", nat=Nat()),), links=()), "lab1", 0).sites
    found = [re.findall(r"snat to ([\d.]+)", nat_ruleset(site, moved, moved)) for moved in range(6)]
    assert all(len(set(addresses)) == 1 for addresses in found)
    moves = [IPv4Address(addresses[0]) for addresses in found]
    assert moves[0] == site.wan_address == moves[5]
    assert len(set(moves)) == 5
    assert set(moves) <= set(site.wan_network.hosts()) - {site.wan_gateway}


@given(st.integers(2, 20), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_mesh_joins_all_and_keeps_the_triangle_inequality(count: int, seed: int) -> None:
    topology = mesh(count, seed=seed)
    names = topology.site_names
    assert [(link.source, link.destination) for link in topology.links] == [
        (a, b) for a in names for b in names if a != b
    ]
    delay = {(link.source, link.destination): link.impairment.delay_us for link in topology.links}
    assert all(delay[a, b] == delay[b, a] for a, b in delay)
    assert all(
        delay[a, c] <= delay[a, b] + delay[b, c] for a in names for b in names for c in names if len({a, b, c}) == 3
    )
    assert topology == mesh(count, seed=seed)


def test_a_copy_of_a_topology_finds_its_own_links() -> None:
    topology = mesh(2)
    assert topology.link("s1", "s2").impairment.delay_us > 0
    changed = Link(source="s1", destination="s2", impairment=Impairment(delay_us=7))
    copy = topology.model_copy(update={"links": (changed,)})
    assert copy.link("s1", "s2") is changed
    assert topology.link("s2", "s1").source == "s2"
    with pytest.raises(KeyError, match="s2>s1"):
        copy.link("s2", "s1")


def test_a_mesh_as_a_file_is_the_mesh(capsys: pytest.CaptureFixture[str]) -> None:
    assert mesh_command(7, seed=3) == 0
    read = parse_topology(capsys.readouterr().out.encode(), Path("mesh.yaml"))
    wanted = mesh(7, seed=3)
    assert read.site_names == wanted.site_names
    for link in wanted.links:
        assert read.link(link.source, link.destination).impairment == link.impairment
