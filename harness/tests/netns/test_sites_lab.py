"""Sites of several nodes, NAT, IPv6 and links with an MTU of their own, in one real lab.

``plain`` is a node alone, ``office`` has a LAN, ``home`` is behind NAT, ``hotel`` behind a symmetric one.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.lab.lab import Lab
from harness.model.impairment import Impairment
from harness.model.topology import Link, Nat, Site, Topology
from harness.nodes.namespace_node import NamespaceNode
from harness.nodes.nat import rebind
from harness.tests.netns.test_lab_side_by_side import longhaul

pytestmark = [pytest.mark.root, pytest.mark.vm]

DELAY_MS = 20
SMALL_MTU = 1400
UDP_TIMEOUT_S = 1
ECHO = """\
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 5000))
while True:
    data, sender = s.recvfrom(2048)
    s.sendto(repr(sender).encode(), sender)
"""
ASK = """\
import json, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 6000))
s.settimeout(5)
seen = []
for host in sys.argv[1:]:
    s.sendto(b"who am I", (host, 5000))
    seen.append(eval(s.recvfrom(2048)[0]))
print(json.dumps(seen))
"""
LISTEN_ON = """\
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 6001))
s.sendto(b"who am I", (sys.argv[1], 5000))
s.settimeout(5)
print("seen as", *eval(s.recvfrom(2048)[0]), flush=True)
s.settimeout(float(sys.argv[2]))
try:
    print("heard", s.recv(100))
except TimeoutError:
    print("silence")
"""
# The echo holds port 5000, so the late datagram is made by hand.
SEND_LATE = """\
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
s.sendto(struct.pack("!HHHH", 5000, int(sys.argv[2]), 12, 0) + b"late", (sys.argv[1], 0))
"""


def topology() -> Topology:
    sites = (
        Site(name="plain"),
        Site(name="office", more_nodes=("db", "cache")),
        Site(name="home", nat=Nat(udp_timeout_s=UDP_TIMEOUT_S, udp_stream_timeout_s=UDP_TIMEOUT_S)),
        Site(name="hotel", nat=Nat(kind="symmetric")),
    )
    impairment = Impairment(delay_us=DELAY_MS * 1000)
    names = [site.name for site in sites]
    small = {("plain", "office"): SMALL_MTU}
    links = tuple(
        Link(source=a, destination=b, impairment=impairment, mtu=small.get((a, b)))
        for a in names
        for b in names
        if a != b
    )
    return Topology(name="shapes", sites=sites, links=links)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root: Path = tmp_path_factory.mktemp("state")
    lab = Lab.up(topology(), lab_id="t" + secrets.token_hex(2), state_root=root)
    try:
        for site in ("plain", "office"):
            lab.nodes[site].remote.start("echo", ["python3", "-c", ECHO])
        yield lab
    finally:
        lab.down()
    left = [path.name for path in Path("/run/netns").glob(f"*-{lab.lab_id}-*")]
    assert left == []


def ping(node: NamespaceNode, target: str, *options: str) -> tuple[int, str]:
    done = node.remote.run(["ping", "-c", "1", "-W", "1", *options, target], check=False)
    return done.exit_code, done.stdout + done.stderr


def round_trip_ms(node: NamespaceNode, target: str, *options: str) -> float:
    code, said = ping(node, target, *options)
    assert code == 0, said
    found = re.search(r"time=([\d.]+) ms", said)
    assert found
    return float(found[1])


def wait_for_line(node: NamespaceNode, process: str, pattern: str) -> str:
    """The line with this pattern in the log of a process, as soon as it is there."""
    log = f"{node.log_dir}/{process}.log"
    node.remote.run(["timeout", "15", "sh", "-c", f"until grep -qE '{pattern}' {log}; do sleep 0.02; done"])
    return node.remote.run(["grep", "-E", pattern, log]).stdout.strip()


def external_ports(lab: Lab, *targets: str, of: str = "home") -> list[tuple[str, int]]:
    """The address and port as which each target sees the same socket of a node."""
    answer = lab.nodes[of].remote.run(["python3", "-c", ASK, *targets]).stdout
    return [(address, port) for address, port in json.loads(answer)]


@pytest.mark.parametrize("family", ["-4", "-6"])
@pytest.mark.parametrize(
    ("source", "target"),
    [("plain", "office"), ("plain", "office.cache"), ("office.db", "plain"), ("home", "office.db"), ("home", "plain")],
)
def test_every_node_is_reached_by_name_over_the_impaired_wan(
    shapes: Lab, family: str, source: str, target: str
) -> None:
    assert round_trip_ms(shapes.nodes[source], target, family) >= 2 * DELAY_MS


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_a_lan_is_not_impaired(shapes: Lab, family: str) -> None:
    # The slowest of several would still be far below: another machine's load must not fail this.
    fastest = min(round_trip_ms(shapes.nodes["office.db"], "office.cache", family) for _ in range(3))
    assert fastest < DELAY_MS


def test_nodes_are_hosts_of_their_own(shapes: Lab) -> None:
    assert list(shapes.nodes) == ["plain", "office", "office.db", "office.cache", "home", "hotel"]
    names = [node.remote.run(["hostname"]).stdout.strip() for node in shapes.nodes.values()]
    assert names == list(shapes.nodes)
    node = shapes.nodes["office.db"]
    assert node.site == "office"
    assert node.remote.run(["sh", "-c", "echo $LONGHAUL_SITE $LONGHAUL_NODE"]).stdout == "office office.db\n"
    assert not Path(shapes.nodes["office"].data_dir, "x").exists()
    assert "default" not in node.remote.run(["ip", "route"]).stdout


def test_commands_take_and_show_nodes(shapes: Lab) -> None:
    root = shapes.paths.state_root
    assert longhaul(root, "exec", "office.db", "--", "hostname").stdout == "office.db\n"
    wrong = longhaul(root, "exec", "office.web", "--", "hostname")
    assert (wrong.returncode, "office.cache" in wrong.stderr) == (2, True)
    (lab,) = json.loads(longhaul(root, "status", "--json").stdout)["labs"]
    assert [node["node"] for node in lab["nodes"]] == list(shapes.nodes)
    home = lab["nodes"][-2]
    assert home["wan_address"].startswith("192.168.77.")
    assert home["public_address"] == str(shapes.plan.site("home").wan_address)


@pytest.mark.parametrize(("family", "overhead"), [("-4", 28), ("-6", 48)])
def test_a_small_link_says_how_large_a_packet_may_be(shapes: Lab, family: str, overhead: int) -> None:
    plain, office = shapes.nodes["plain"], shapes.nodes["office.db"]
    fits = str(SMALL_MTU - overhead)
    round_trip_ms(plain, "office.db", family, "-M", "do", "-s", fits)
    code, said = ping(plain, "office.db", family, "-M", "do", "-s", str(SMALL_MTU - overhead + 1))
    assert code != 0
    assert re.search(rf"mtu ?[=:]? ?{SMALL_MTU}", said), said
    # Only that direction is small.
    code, said = ping(office, "home", family, "-M", "do", "-s", str(1500 - overhead))
    assert "mtu" not in said.lower()
    assert round_trip_ms(shapes.nodes["home"], "office", family, "-M", "do", "-s", str(1500 - overhead))


def test_tcp_finds_a_small_links_mtu_by_itself(shapes: Lab) -> None:
    count = "c, _ = s.accept(); print('got', sum(map(len, iter(lambda: c.recv(65536), b''))))"
    sink = f"import socket; s = socket.create_server(('', 7000)); print('ready', flush=True); {count}"
    send = "import socket; s = socket.create_connection(('office', 7000), 10); s.sendall(bytes(300_000))"
    shapes.nodes["office"].remote.start("sink", ["python3", "-c", sink])
    wait_for_line(shapes.nodes["office"], "sink", "ready")
    shapes.nodes["plain"].remote.run(["python3", "-c", send])
    assert wait_for_line(shapes.nodes["office"], "sink", "got") == "got 300000"


@pytest.mark.parametrize("source", ["office.db", "home"])
def test_behind_an_edge_a_packet_on_the_wan_is_one_mtu(shapes: Lab, source: str) -> None:
    """A node's LAN has segmentation offload; what leaves the edge must not."""

    def carried() -> tuple[int, int]:
        site = shapes.nodes[source].site
        (found,) = (one for one in shapes.counters() if (one.source, one.destination) == (site, "plain"))
        return found.packets, found.bytes

    port = 7001 + ["office.db", "home"].index(source)
    sink = f"import socket; s = socket.create_server(('', {port})); print('ready', flush=True); c, _ = s.accept()"
    count = "print('got', sum(map(len, iter(lambda: c.recv(65536), b''))))"
    send = f"import socket; s = socket.create_connection(('plain', {port}), 10); s.sendall(bytes(600_000))"
    plain = shapes.nodes["plain"]
    plain.remote.start(f"sink-{source}", ["python3", "-c", f"{sink}; {count}"])
    wait_for_line(plain, f"sink-{source}", "ready")
    packets, octets = carried()
    shapes.nodes[source].remote.run(["python3", "-c", send])
    assert wait_for_line(plain, f"sink-{source}", "got") == "got 600000"
    after = carried()
    assert after[0] - packets >= 600_000 / 1460
    assert (after[1] - octets) / (after[0] - packets) <= 1514


def test_nat_keeps_one_port_towards_all_and_lets_nobody_in_unasked(shapes: Lab) -> None:
    outside = str(shapes.plan.site("home").wan_address)
    towards = external_ports(shapes, "plain", "office")
    assert towards[0] == towards[1]
    assert towards[0][0] == outside
    for family in ("-4", "-6"):
        code, said = ping(shapes.nodes["plain"], "home", family)
        assert code != 0, said
    refused = shapes.nodes["plain"].remote.run(
        ["python3", "-c", f"import socket; socket.create_connection(('{outside}', 22), 1)"], check=False
    )
    assert "timed out" in refused.stderr


def test_a_symmetric_nat_shows_every_destination_another_port(shapes: Lab) -> None:
    plain, office = external_ports(shapes, "plain", "office", of="hotel")
    assert plain[0] == office[0] == str(shapes.plan.site("hotel").wan_address)
    assert plain[1] != office[1]


def test_a_rebinding_moves_every_mapping(shapes: Lab) -> None:
    site = shapes.plan.site("home")
    before = external_ports(shapes, "plain", "office")
    rebind(site)
    after = external_ports(shapes, "plain", "office")
    assert after[0] == after[1]
    assert after[0][0] == before[0][0]
    assert after[0][1] != before[0][1]
    rebind(site, new_address=True)
    moved = external_ports(shapes, "plain")
    assert moved[0][0] not in (before[0][0], after[0][0])
    assert moved[0][1] != after[0][1]
    with pytest.raises(InputError, match="plain is not behind NAT"):
        rebind(shapes.plan.site("plain"))


@pytest.mark.parametrize(("silence_s", "end"), [(0.0, "heard b'late'"), (UDP_TIMEOUT_S + 1.5, "silence")])
def test_a_mapping_ends_after_its_timeout(shapes: Lab, silence_s: float, end: str) -> None:
    """A datagram to the mapping's port arrives while it lives, and is dropped after so much silence."""
    home, plain = shapes.nodes["home"], shapes.nodes["plain"]
    name = f"listen-{silence_s:g}"
    home.remote.start(name, ["python3", "-c", LISTEN_ON, "plain", str(silence_s + 1.5)])
    seen = wait_for_line(home, name, "seen as")
    time.sleep(silence_s)
    _, _, address, port = seen.split()
    plain.remote.run(["python3", "-c", SEND_LATE, address, port])
    assert wait_for_line(home, name, "heard|silence") == end


def test_a_quiet_wan_stays_quiet(shapes: Lab) -> None:
    """No packet crosses a line that nobody uses: no ARP, no DAD, no MLD, no router solicitation."""
    script = "cat /sys/class/net/wan0/statistics/rx_packets /sys/class/net/wan0/statistics/tx_packets"
    node = shapes.nodes["plain"]
    before = node.remote.run(["sh", "-c", script]).stdout
    time.sleep(1.0)
    assert node.remote.run(["sh", "-c", script]).stdout == before


def test_filters_of_bridges_do_not_touch_a_lan(shapes: Lab) -> None:
    """A host may pass bridged packets to its firewall (Docker asks for it); an edge does not, whatever its rules."""
    site = shapes.plan.site("office")
    done = subprocess.run(
        [
            "ip",
            "netns",
            "exec",
            site.netns,
            "sh",
            "-c",
            "cat /proc/sys/net/bridge/bridge-nf-call-ip*tables 2>/dev/null",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(done.stdout.split()) <= {"0"}
