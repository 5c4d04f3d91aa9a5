"""How a site's edge and the nodes behind it are set up, as input for ``ip -batch`` and ``nft -f``. Pure.

The LAN is a bridge in the edge's own namespace. Rules of netfilter belong to a namespace, so what a host's firewall
does to bridged packets (Docker's drops them) never touches it.

IPv4 behind NAT is translated; IPv6 keeps its own addresses, and a stateful filter lets nothing in unasked (as RFC 6092
recommends for home routers).
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.topology import Nat
from harness.plan.addressing import (
    LAN_INTERFACE,
    PROBE_PORT,
    WAN_INTERFACE,
    WAN_RANGE,
    WAN_RANGE6,
    EdgePlan,
    NodePlan,
    SitePlan,
)

_SLICE = 8192
_SLICES = 7


def edge_settings(ipv6: bool) -> dict[str, str]:
    """The sysctls of an edge: it forwards, and its bridge asks no filter."""
    settings = {
        "net.ipv4.ip_forward": "1",
        "net.ipv4.conf.all.rp_filter": "0",
        "net.ipv4.conf.default.rp_filter": "0",
        "net.bridge.bridge-nf-call-iptables": "0",
        "net.bridge.bridge-nf-call-ip6tables": "0",
    }
    if ipv6:
        settings |= {
            "net.ipv6.conf.all.disable_ipv6": "0",
            "net.ipv6.conf.default.disable_ipv6": "0",
            "net.ipv6.conf.default.accept_dad": "0",
            "net.ipv6.conf.all.forwarding": "1",
            "net.ipv6.conf.default.forwarding": "1",
        }
    return settings


def nat_timeouts(nat: Nat) -> dict[str, str]:
    """The sysctls that end mappings; they exist once the kernel tracks connections."""
    return {
        "net.netfilter.nf_conntrack_udp_timeout": str(nat.udp_timeout_s),
        "net.netfilter.nf_conntrack_udp_timeout_stream": str(nat.udp_stream_timeout_s),
        "net.netfilter.nf_conntrack_tcp_timeout_established": str(nat.tcp_timeout_s),
    }


def lan_commands(site: SitePlan, mtu: int) -> list[str]:
    """What ``ip -batch`` does in the edge: the LAN, and a cable to every node's namespace by its name."""
    edge = _edge(site)
    commands = [
        "link set dev lo up",
        f"link add name {LAN_INTERFACE} address {edge.lan_mac} type bridge mcast_snooping 0",
        f"address add {edge.lan_address}/{edge.lan_network.prefixlen} dev {LAN_INTERFACE}",
        f"link set dev {LAN_INTERFACE} mtu {mtu} up",
    ]
    if edge.lan_network6 is not None:
        commands.append(f"address add {edge.lan_address6}/64 dev {LAN_INTERFACE} nodad")
    for number, node in enumerate(site.nodes):
        peer = f"peer name {LAN_INTERFACE} address {node.mac} mtu {mtu} netns {node.netns}"
        commands += [
            f"link add name node{number} mtu {mtu} type veth {peer}",
            f"link set dev node{number} master {LAN_INTERFACE} up",
        ]
    return commands


def node_commands(site: SitePlan, node: NodePlan) -> list[str]:
    """What ``ip -batch`` does on a node behind an edge: its address, and routes to the WAN alone."""
    edge = _edge(site)
    commands = [
        f"address add {node.address}/{edge.lan_network.prefixlen} dev {LAN_INTERFACE}",
        f"link set dev {LAN_INTERFACE} up",
        f"route add {WAN_RANGE} via {edge.lan_address} dev {LAN_INTERFACE}",
    ]
    if node.address6 is not None:
        commands += [
            f"address add {node.address6}/64 dev {LAN_INTERFACE} nodad",
            f"route add {WAN_RANGE6} via {edge.lan_address6} dev {LAN_INTERFACE}",
        ]
    return commands


def nat_ruleset(site: SitePlan, generation: int, moved: int = 0) -> str:
    """What ``nft -f`` reads, in one transaction, again for each rebinding.

    Generation 0 keeps each port that is free. Every further one maps all ports to others than the one before did, and
    with ``moved`` the site appears at another of its addresses.
    """
    edge = _edge(site)
    nat = edge.nat
    if nat is None:
        raise ValueError(f"{site.site} is not behind NAT")
    outside = (site.wan_address, *edge.extra_addresses)[moved % (1 + len(edge.extra_addresses))]
    inside = site.nodes[0]
    lines = [
        "table ip longhaul",
        "delete table ip longhaul",
        "table ip longhaul {",
        "  chain inward {",
        "    type nat hook prerouting priority -100; policy accept;",
        f'    iifname "{WAN_INTERFACE}" tcp dport {PROBE_PORT} dnat to {inside.address}',
        f'    iifname "{WAN_INTERFACE}" udp dport {PROBE_PORT} dnat to {inside.address}',
        "  }",
        "  chain outward {",
        "    type nat hook postrouting priority 100; policy accept;",
        *(
            f'    oifname "{WAN_INTERFACE}" ip saddr {edge.lan_network} {rule} comment "{generation} {moved}"'
            for rule in _translations(nat, str(outside), generation)
        ),
        "  }",
        "}",
        "table inet longhaul_filter",
        "delete table inet longhaul_filter",
        "table inet longhaul_filter {",
        "  chain through {",
        "    type filter hook forward priority 0; policy accept;",
        f'    iifname "{WAN_INTERFACE}" ct state established,related accept',
        f'    iifname "{WAN_INTERFACE}" ct status dnat accept',
        *_probes_let_in(inside),
        f'    iifname "{WAN_INTERFACE}" drop',
        "  }",
        "  chain here {",
        "    type filter hook input priority 0; policy accept;",
        f'    iifname "{WAN_INTERFACE}" ct state established,related accept',
        f'    iifname "{WAN_INTERFACE}" drop',
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _translations(nat: Nat, outside: str, generation: int) -> Iterator[str]:
    if nat.kind == "symmetric":
        for protocol in ("tcp", "udp"):
            yield f"meta l4proto {protocol} snat to {outside}:1024-65535 fully-random"
    elif generation > 0:
        # A port that lies in the slice itself would be kept, so it goes to a slice beside it.
        own, beside = _slice(2 * generation), _slice(2 * generation + 1)
        for protocol in ("tcp", "udp"):
            yield f"{protocol} sport {own} snat to {outside}:{beside}"
            yield f"meta l4proto {protocol} snat to {outside}:{own}"
    yield f"snat to {outside}"


def _slice(number: int) -> str:
    """One of seven ranges of ports above 8191. Steps of one, two and three lead from each to another."""
    first = _SLICE * (1 + number % _SLICES)
    return f"{first}-{first + _SLICE - 1}"


def _probes_let_in(inside: NodePlan) -> Iterator[str]:
    if inside.address6 is not None:
        for protocol in ("tcp", "udp"):
            yield f'    iifname "{WAN_INTERFACE}" ip6 daddr {inside.address6} {protocol} dport {PROBE_PORT} accept'


def _edge(site: SitePlan) -> EdgePlan:
    if site.edge is None:
        raise ValueError(f"{site.site} has no edge")
    return site.edge
