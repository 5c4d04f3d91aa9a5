"""The host's side of a lab's network, through pyroute2: management veths, namespaces, and routes that keep stray
packets on the machine. Each ``remove_`` is idempotent."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import CDLL, get_errno
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError

from harness.errors import NodeError
from harness.plan.addressing import MANAGEMENT_INTERFACE, MANAGEMENT_RANGE, WAN_RANGE, SitePlan

NETNS_DIRECTORY = Path("/run/netns")
STRAY_PREFIXES = (str(WAN_RANGE), str(MANAGEMENT_RANGE))
ROUTE_PROTOCOL = 198
"""Marks our routes (``ip route show proto 198``), so that one which the user made is never taken for ours."""

_ROUTE_METRIC = 19818
_UNREACHABLE = 7
_CLONE_NEWNET = 0x40000000
_MNT_DETACH = 2
_libc = CDLL(None, use_errno=True)


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


def connect_management(sites: tuple[SitePlan, ...], pid_of_site: dict[str, int]) -> None:
    """Wire each node to the host: a veth pair, a /31, nothing that leads further."""
    try:
        with _netlink() as host:
            for site in sites:
                peer = {"ifname": MANAGEMENT_INTERFACE, "net_ns_pid": pid_of_site[site.site]}
                host.link("add", ifname=site.management_host_interface, kind="veth", peer=peer)
                _configure(host, site.management_host_interface, site.management_host_address)
        for site in sites:
            in_namespace(site.netns, partial(_configure_node, site))
    except NetlinkError as error:
        raise NodeError(f"cannot wire the management network: {error}") from error


def _configure(kernel: Any, interface: str, address: IPv4Address) -> None:
    index = kernel.link_lookup(ifname=interface)[0]
    kernel.addr("add", index=index, address=str(address), prefixlen=31)
    kernel.link("set", index=index, state="up")


def _configure_node(site: SitePlan) -> None:
    with _netlink() as node:
        node.link("set", index=node.link_lookup(ifname="lo")[0], state="up")
        _configure(node, MANAGEMENT_INTERFACE, site.management_address)


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


def remove_link(name: str) -> None:
    """Delete an interface of the host's root namespace (and with it a veth's peer)."""
    with _netlink() as host:
        for index in host.link_lookup(ifname=name):
            with _absent_is_fine():
                host.link("del", index=index)


def add_stray_routes() -> None:
    """Make the lab ranges unreachable from this host, but for the labs' own more specific routes."""
    with _netlink() as host:
        for prefix in STRAY_PREFIXES:
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
    return {"dst": prefix, "type": _UNREACHABLE, "proto": ROUTE_PROTOCOL, "priority": _ROUTE_METRIC}


@contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code not in (errno.ENODEV, errno.ENOENT, errno.ESRCH):
            raise NodeError(f"the kernel refused an undo: {error}") from error
