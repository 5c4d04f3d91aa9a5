"""Duplicated packets: a device of its own for each link that has them.

netem's duplicates start again at the root of their device's qdiscs, so the kernel refuses (older kernels: loops over) a
netem that duplicates where there is any other. On the port towards the destination a filter hands the link's packets to
an IFB, whose only qdisc duplicates; the IFB sends them to the port again, and another filter knows them by the IFB that
they now come from, and puts them into their link's class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.errors import ShapingError
from harness.plan.qdisc_settings import NetemSettings
from harness.plan.shaping import ROOT_HANDLE
from harness.wan.kernel import Kernel
from harness.wan.netem import decode, encode
from harness.wan.tc_messages import (
    TC_H_ROOT,
    add_ifb,
    delete_filter,
    delete_link,
    get_qdisc,
    read_qdisc,
    redirect_one_interface,
    set_qdisc,
    sort_one_interface,
)

_PRIORITY = 1
_PREFIX = "dup"
_FIRST_MAJOR = 0x8000
_SITE_BITS = 7


def doubled_link(source: int, destination: int) -> int:
    """The handle of the qdisc that doubles the packets of this link (indices of sites): it names the link."""
    return (_FIRST_MAJOR | source << _SITE_BITS | destination) << 16


class Doubling:
    """The doubling devices of one core. ``ports``: its interface index by site index."""

    def __init__(self, kernel: Kernel, ports: Mapping[int, int]) -> None:
        self._kernel = kernel
        self._port = ports

    def start(self, source: int, destination: int, class_id: int, settings: NetemSettings, seed: int | None) -> None:
        """Double packets of this link from now on, or change how many. Verified. Raises ShapingError."""
        links = self._kernel.links()
        name = _name(source, destination)
        port, handle = self._port[destination], doubled_link(source, destination)
        options = encode(settings, seed)
        fresh = name not in links
        if fresh:
            self._kernel.transact([add_ifb(name)], lambda _: f"a device for duplicates ({name})")
            links = self._kernel.links()
        device = links[name]["index"]
        answers = self._kernel.transact(
            [set_qdisc(device, handle, TC_H_ROOT, "netem", options), get_qdisc(device, handle)],
            lambda _: f"duplicates on {name}",
        )
        if not answers or decode(read_qdisc(answers[0]).options)[0] != settings:
            raise ShapingError(f"{name}: the kernel did not take the duplication")
        if fresh:
            self._kernel.transact(
                [
                    sort_one_interface(port, ROOT_HANDLE, _PRIORITY, _back(source), name, class_id),
                    redirect_one_interface(
                        port, ROOT_HANDLE, _PRIORITY, _out(source), _name_of(links, self._port[source]), device
                    ),
                ],
                lambda _: f"to redirect packets to {name}",
            )

    def stop(self, source: int, destination: int) -> None:
        """Double no packet of this link any more; nothing happens when none was. Raises ShapingError."""
        device = self._kernel.links().get(_name(source, destination))
        if device is None:
            return
        port = self._port[destination]
        self._kernel.transact(
            [
                # First nothing more goes there, then the device goes.
                delete_filter(port, ROOT_HANDLE, _PRIORITY, _out(source), "flower"),
                delete_filter(port, ROOT_HANDLE, _PRIORITY, _back(source), "flower"),
                delete_link(device["index"]),
            ],
            lambda _: "to end duplicates",
        )

    def clear(self) -> None:
        """Take every doubling device away; the filters go with their ports. Raises ShapingError."""
        devices = [link["index"] for name, link in self._kernel.links().items() if _is_ours(name)]
        if devices:
            self._kernel.transact([delete_link(index) for index in devices], lambda _: "to end duplicates")


def _name(source: int, destination: int) -> str:
    return f"{_PREFIX}{source}x{destination}"


def _is_ours(name: str) -> bool:
    numbers = name.removeprefix(_PREFIX).split("x")
    return name.startswith(_PREFIX) and len(numbers) == 2 and all(number.isdigit() for number in numbers)


def _name_of(links: Mapping[str, Any], index: int) -> str:
    return next(name for name, link in links.items() if link["index"] == index)


def _out(source: int) -> int:
    """The number of the filter that hands a source's packets to the device."""
    return 2 * source + 1


def _back(source: int) -> int:
    """The number of the filter that knows them when they come back."""
    return 2 * source + 2
