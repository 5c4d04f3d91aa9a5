"""Cables between the sites of a lab and a micro-VM: a TAP for each site, or trunks that the sites share.

A TAP for each site carries more packets, but a machine has PCI slots for a few only. On a trunk every site has a
macvlan device on either end, which tells packets apart by their MACs alone: nothing is added to a packet, so MTUs and
rates are as they would be with a TAP. Devices of one trunk do not reach each other (mode private), only through the
core. All ends that belong to no site are in QEMU's own network namespace, and vanish with it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from harness.errors import CoreError, ShapingError
from harness.plan.addressing import WAN_INTERFACE
from harness.wan.kernel import Kernel
from harness.wan.local_transport import LocalTransport, netns_path
from harness.wan.machine import Machine
from harness.wan.offloads import switch_off
from harness.wan.qemu_command import TRUNKS
from harness.wan.router import port_name

TRUNK_MTU = 9216
"""Room for the largest packet of a link (9000)."""
_TRUNK_QUEUE = 16_384
"""Packets. All sites share it, and it must not lose what the links let through."""
_TAP_QUEUE = 4096
_PORT_GROUP = 0x4C48
"""Marks the guest's ends of a trunk's cables, so that one message takes them all away."""
_AT_A_TIME = 32


class Cables(Protocol):
    """How sites are joined to one machine. ``kernel`` is the guest's."""

    def prepare(self, kernel: Kernel) -> None:
        """Once for each start of QEMU: name the guest's devices."""

    def connect(self, kernel: Kernel, netns_of_index: Mapping[int, str]) -> None:
        """Afterwards each namespace has ``wan0`` and the guest ``port<index>``, both down and without addresses."""

    def disconnect(self, kernel: Kernel, netns_of_index: Mapping[int, str], ports: Sequence[int]) -> None:
        """Take the cables away, and all that the lab set in the guest (``ports`` are interfaces there)."""


def cables_of(machine: Machine) -> Cables:
    """The kind that the machine was started with."""
    return TrunkCables(machine) if machine.wiring == "trunk" else TapCables(machine)


class TapCables:
    """A TAP stays attached to QEMU when it moves to another namespace."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def prepare(self, kernel: Kernel) -> None:
        """See Cables."""
        _rename(kernel, self._machine, [port_name(index) for index in range(self._machine.ports)])

    def connect(self, kernel: Kernel, netns_of_index: Mapping[int, str]) -> None:
        """See Cables."""
        with closing(Kernel(LocalTransport(self._machine.netns))) as home:
            links = home.links()
            with ExitStack() as opened, home.batch() as batch:
                for index, netns in netns_of_index.items():
                    tap = links.get(self._machine.tap(index))
                    if tap is None:
                        raise CoreError(f"the WAN core's interface {self._machine.tap(index)} is missing")
                    there = opened.enter_context(_opened(netns_path(netns)))
                    batch.link("set", index=tap["index"], txqlen=_TAP_QUEUE)
                    batch.link("set", index=tap["index"], net_ns_fd=there, ifname=WAN_INTERFACE)

    def disconnect(self, kernel: Kernel, netns_of_index: Mapping[int, str], ports: Sequence[int]) -> None:
        """See Cables: taking an interface down removes its routes and neighbours."""
        with kernel.batch() as batch:
            for port in ports:
                for address, length in kernel.addresses(port):
                    batch.addr("del", index=port, address=address, prefixlen=length)
                batch.link("set", index=port, state="down")
                batch.tc("del", index=port, parent=0xFFFFFFFF, handle=0x0001_0000)
        for port in ports:
            if kernel.neighbours(port):
                raise ShapingError("the core keeps neighbours of the lab")
        for index, netns in netns_of_index.items():
            self._pull_back(netns, self._machine.tap(index))

    def _pull_back(self, netns: str, tap: str) -> None:
        """Bring a TAP home. Raises CoreError or ShapingError when it went with its namespace."""
        with closing(Kernel(LocalTransport(netns))) as site, _opened(Path(self._machine.netns)) as home:
            index = _wan_interface(site, netns)
            with site.batch() as batch:
                batch.link("set", index=index, state="down")
                batch.link("set", index=index, net_ns_fd=home, ifname=tap)


class TrunkCables:
    """Site ``i`` is on trunk ``i % TRUNKS``."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def prepare(self, kernel: Kernel) -> None:
        """See Cables. The trunks are up from now on; neither end has an address or says anything of its own."""
        names = [_trunk(number) for number in range(TRUNKS)]
        _rename(kernel, self._machine, names)
        with closing(Kernel(LocalTransport(self._machine.netns))) as home:
            with suppress(FileNotFoundError):
                home.transport.write_sysctl("net/ipv6/conf/default/disable_ipv6", "1")
                home.transport.write_sysctl("net/ipv6/conf/all/disable_ipv6", "1")
            for end, name in [(kernel, name) for name in names] + [(home, self._machine.tap(n)) for n in range(TRUNKS)]:
                switch_off(end.transport, name)
                index = end.links()[name]["index"]
                with end.batch() as batch:
                    batch.link("set", index=index, mtu=TRUNK_MTU, txqlen=_TRUNK_QUEUE, state="up")

    def connect(self, kernel: Kernel, netns_of_index: Mapping[int, str]) -> None:
        """See Cables."""
        indices = list(netns_of_index)
        trunks = _numbers(kernel, [_trunk(number) for number in range(TRUNKS)])
        with kernel.batch() as batch:
            for index in indices:
                _add_macvlan(batch, trunks[index % TRUNKS], ifname=port_name(index), group=_PORT_GROUP)
        with closing(Kernel(LocalTransport(self._machine.netns))) as home:
            taps = _numbers(home, [self._machine.tap(number) for number in range(TRUNKS)])
            for first in range(0, len(indices), _AT_A_TIME):
                with ExitStack() as opened, home.batch() as batch:
                    for index in indices[first : first + _AT_A_TIME]:
                        there = opened.enter_context(_opened(netns_path(netns_of_index[index])))
                        _add_macvlan(batch, taps[index % TRUNKS], ifname=WAN_INTERFACE, net_ns_fd=there)

    def disconnect(self, kernel: Kernel, netns_of_index: Mapping[int, str], ports: Sequence[int]) -> None:
        """See Cables: all that the lab set in the guest was on devices that go."""
        with kernel.batch() as batch:
            batch.link("del", group=_PORT_GROUP)
        left = sorted(set(kernel.links()) & {port_name(index) for index in netns_of_index})
        if left:
            raise ShapingError(f"the core keeps {', '.join(left)}")
        # The kernel lets go of a device only when every processor has; that is waited for side by side.
        with ThreadPoolExecutor(max_workers=_AT_A_TIME) as pool:
            for done in [pool.submit(_delete_wan, netns) for netns in netns_of_index.values()]:
                done.result()


def _trunk(number: int) -> str:
    return f"trunk{number}"


def _add_macvlan(batch: Any, lower: int, **attributes: Any) -> None:
    # With one segment at most, the kernel cuts a packet into packets of the MTU before it comes to the device.
    batch.link("add", kind="macvlan", link=lower, macvlan_mode="private", gso_max_segs=1, **attributes)


def _rename(kernel: Kernel, machine: Machine, names: Sequence[str]) -> None:
    """Name the guest's devices, which are known by the MACs that QEMU gave them."""
    by_mac = {link.get_attr("IFLA_ADDRESS"): link for link in kernel.links().values()}
    with kernel.batch() as batch:
        for index, name in enumerate(names):
            link = by_mac.get(machine.mac(index))
            if link is None:
                raise CoreError(f"the WAN core's kernel does not see device {index} of {len(names)}")
            if link.get_attr("IFLA_IFNAME") != name:
                batch.link("set", index=link["index"], ifname=name)


def _numbers(kernel: Kernel, names: Sequence[str]) -> list[int]:
    links = kernel.links()
    missing = [name for name in names if name not in links]
    if missing:
        raise CoreError(f"the WAN core lacks {', '.join(missing)}")
    return [links[name]["index"] for name in names]


def _delete_wan(netns: str) -> None:
    with closing(Kernel(LocalTransport(netns))) as site:
        index = _wan_interface(site, netns)
        with site.batch() as batch:
            batch.link("del", index=index)


def _wan_interface(site: Kernel, netns: str) -> int:
    link = site.links().get(WAN_INTERFACE)
    if link is None:
        raise CoreError(f"{netns} has no {WAN_INTERFACE}")
    return int(link["index"])


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESRCH):
            raise
        raise CoreError(f"there is no {path}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
