"""The host's side of a lab's network, through pyroute2: management veths, namespaces, and routes that keep stray
packets on the machine. Each ``remove_`` is idempotent."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ctypes import CDLL, get_errno
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError

from harness.errors import NodeError
from harness.nodes.commands import run_ip
from harness.plan.addressing import MANAGEMENT_INTERFACE, MANAGEMENT_RANGE, WAN_RANGE, WAN_RANGE6, NodePlan, SitePlan
from harness.plan.edge import lan_commands, node_commands

NETNS_DIRECTORY = Path("/run/netns")
ROUTE_PROTOCOL = 198
"""Marks our routes (``ip route show proto 198``), so that one which the user made is never taken for ours."""

_ROUTE_METRIC = 19818
_UNREACHABLE = 7
_CLONE_NEWNET = 0x40000000
_MNT_DETACH = 2
_NET_CLASS = Path("/sys/class/net")
_IPV6 = Path("/proc/sys/net/ipv6")
_LARGEST_GROUP = 0x7FFFFFFF
_libc = CDLL(None, use_errno=True)


def has_ipv6() -> bool:
    """Whether this host's kernel knows IPv6 at all; a namespace can have it even where the host itself does not."""
    return _IPV6.exists()


def stray_prefixes() -> tuple[str, ...]:
    """The ranges of all labs that must not leave this host by its default route."""
    prefixes = (str(WAN_RANGE), str(MANAGEMENT_RANGE))
    return (*prefixes, str(WAN_RANGE6)) if has_ipv6() else prefixes


@contextmanager
def _netlink() -> Iterator[Any]:
    with IPRoute() as kernel:
        yield kernel


def management_addresses() -> dict[str, IPv4Address]:
    """The host's interfaces that have a management address, of whichever lab and whoever built it."""
    with _netlink() as kernel:
        found = {
            str(address.get("IFA_LABEL")): IPv4Address(address.get("IFA_LOCAL"))
            for address in kernel.get_addr(family=socket.AF_INET)
            if address.get("IFA_LOCAL") is not None
        }
    return {interface: address for interface, address in found.items() if address in MANAGEMENT_RANGE}


def name_namespace(name: str, pid: int) -> None:
    """Give the network namespace of a process a name under /run/netns, as ``ip netns attach`` does."""
    try:
        netns.attach(name, pid)
    except OSError as error:
        raise NodeError(f"cannot name network namespace {name}: {error}") from error


def remove_namespace(name: str) -> None:
    """Take the name away; the namespace goes with its last process."""
    path = NETNS_DIRECTORY / name
    if not path.exists():
        return
    _libc.umount2(os.fsencode(path), _MNT_DETACH)
    path.unlink(missing_ok=True)


def is_mount_point(path: Path) -> bool:
    """True for bind mounts of files too."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    escaped = str(path).replace(" ", "\\040")
    return any(line.split()[4] == escaped for line in mounts)


def remove_mount(path: Path) -> None:
    """Unmount whatever is mounted on ``path``. The shared /run/netns stays while any namespace has a name there."""
    if not is_mount_point(path):
        return
    if path == NETNS_DIRECTORY and any(path.iterdir()):
        return
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
        number = get_errno()
        raise NodeError(f"cannot unmount {path}: {os.strerror(number)}")
    if path == NETNS_DIRECTORY:
        with suppress(OSError):
            path.rmdir()


def connect_management(nodes: Sequence[NodePlan]) -> None:
    """Wire each node's namespace to the host: a veth pair, a /31, nothing that leads further.

    The node's first process sets up its own end. Without link-local addresses the pair stays silent.
    """
    quiet = " addrgenmode none" if has_ipv6() else ""
    commands = []
    for node in nodes:
        host = node.management_host_interface
        commands += [
            f"link add name {host} type veth peer name {MANAGEMENT_INTERFACE} netns {node.netns}",
            f"address add {node.management_host_address}/31 dev {host}",
            f"link set dev {host}{quiet} up",
        ]
    run_ip(commands)


def connect_lan(site: SitePlan, mtu: int) -> None:
    """Make the LAN of a site with an edge, and wire its nodes to it."""
    run_ip(lan_commands(site, mtu), site.netns)
    for node in site.nodes:
        run_ip(node_commands(site, node), node.netns)


def in_namespace(name: str, act: Callable[[], None]) -> None:
    """Call ``act`` in a thread that has entered the named network namespace; its exception is raised here."""
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            descriptor = os.open(NETNS_DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                    number = get_errno()
                    raise NodeError(f"cannot enter network namespace {name}: {os.strerror(number)}")
            finally:
                os.close(descriptor)
            act()
        except BaseException as error:
            failures.append(error)

    # A thread of its own: the namespace is a property of the thread and dies with it.
    thread = threading.Thread(target=enter, name=f"netns-{name}")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def remove_links(names: Sequence[str]) -> None:
    """Delete interfaces of the host's root namespace (and with each veth its peer).

    They go as a group: the kernel waits for its other processors once for a group, else once for each interface.
    """
    there = [name for name in names if (_NET_CLASS / name).exists()]
    if not there:
        return
    group = _LARGEST_GROUP - os.getpid()
    run_ip([*(f"link set dev {name} group {group}" for name in there), f"link delete group {group}"], go_on=True)
    left = [name for name in there if (_NET_CLASS / name).exists()]
    if left:
        raise NodeError(f"the kernel keeps {', '.join(left)}")


def add_stray_routes() -> None:
    """Make the lab ranges unreachable from this host, but for the labs' own more specific routes."""
    with _netlink() as host:
        for prefix in stray_prefixes():
            try:
                host.route("add", **_stray_route(prefix))
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise NodeError(f"cannot add the unreachable route for {prefix}: {error}") from error


def remove_stray_route(prefix: str) -> None:
    """Take one of them away."""
    with _netlink() as host, _absent_is_fine():
        host.route("del", **_stray_route(prefix))


def _stray_route(prefix: str) -> dict[str, Any]:
    family = socket.AF_INET6 if ":" in prefix else socket.AF_INET
    return {"family": family, "dst": prefix, "type": _UNREACHABLE, "proto": ROUTE_PROTOCOL, "priority": _ROUTE_METRIC}


@contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code not in (errno.ENODEV, errno.ENOENT, errno.ESRCH):
            raise NodeError(f"the kernel refused an undo: {error}") from error
