"""What a node has to itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.lab.lab import Lab
from harness.nodes.network_settings import DEFAULT_CONGESTION_CONTROL

pytestmark = [pytest.mark.root, pytest.mark.vm]


def test_each_node_has_its_own_hostname(lab: Lab) -> None:
    names = [node.remote.run(["hostname"]).stdout.strip() for node in lab.nodes.values()]
    assert names == ["east", "west"]


def test_a_node_sees_only_its_own_processes(lab: Lab) -> None:
    process = lab.nodes["east"].remote.start("mark", ["sleep", "321.5"])
    try:
        assert "sleep 321.5" in lab.nodes["east"].remote.run(["ps", "ax", "-o", "args"]).stdout
        assert "sleep 321.5" not in lab.nodes["west"].remote.run(["ps", "ax", "-o", "args"]).stdout
        assert lab.nodes["east"].remote.run(["cat", "/proc/1/comm"]).stdout.startswith("python")
    finally:
        assert lab.nodes["east"].remote.signal(process.pid, "KILL")


@pytest.mark.parametrize("directory", ["/tmp", "/run", "/var/log", "/dev/shm"])
def test_directories_of_a_host_are_private(lab: Lab, directory: str) -> None:
    path = f"{directory}/longhaul-test-mark"
    lab.nodes["east"].remote.run(["touch", path])
    assert lab.nodes["west"].remote.run(["test", "-e", path], check=False).exit_code == 1
    assert not Path(path).exists()
    lab.nodes["east"].remote.run(["rm", path])


def test_two_nodes_can_bind_the_same_socket_path(lab: Lab) -> None:
    listen = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('/run/same.sock'); print('bound')"
    for node in lab.nodes.values():
        assert node.remote.run(["python3", "-c", listen]).stdout == "bound\n"
        node.remote.run(["rm", "/run/same.sock"])


def test_sessions_start_in_the_data_directory_with_the_engine_on_their_path(lab: Lab) -> None:
    node = lab.nodes["east"]
    script = "import os, shutil, sys, json; print(json.dumps([os.getcwd(), os.environ['HOME'], sys.prefix]))"
    where, home, prefix = json.loads(node.remote.run(["python3", "-c", script]).stdout)
    assert (where, home) == (node.data_dir, node.data_dir)
    assert prefix == __import__("sys").prefix
    assert node.remote.run(["sh", "-c", "echo ~"]).stdout.strip() == node.data_dir


def test_the_wan_is_the_only_way_to_another_site(lab: Lab) -> None:
    east, west = lab.nodes["east"], lab.nodes["west"]
    routes = east.remote.run(["ip", "-o", "route"]).stdout
    assert "default" not in routes
    refused = east.remote.run(["ping", "-c", "1", "-W", "1", west.management_address], check=False)
    assert refused.exit_code != 0
    east.remote.run(["ping", "-c", "1", "-W", "5", "west"])


def test_network_settings_are_the_nodes_own_and_recorded(lab: Lab) -> None:
    node = lab.nodes["east"]
    said = node.remote.run(["sysctl", "-n", "net.ipv4.tcp_congestion_control"]).stdout.strip()
    assert said == node.state.sysctls["net.ipv4.tcp_congestion_control"] == DEFAULT_CONGESTION_CONTROL
    assert node.state.sysctls["net.ipv4.tcp_no_metrics_save"] == "1"
    assert "net.core.rmem_max" in node.state.sysctls


def test_orphans_are_reaped(lab: Lab) -> None:
    remote = lab.nodes["east"].remote
    # The inner shell ends at once, so that its child is left to the node's first process, and then ends too.
    remote.run(["sh", "-c", "(sh -c 'true & exec true' &) ; wait"])
    remote.run(["sh", "-c", "test $(ps ax -o stat= | grep -c ^Z) -eq 0"])
