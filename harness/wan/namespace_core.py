"""The WAN core in a namespace of this host's own kernel: veth pairs as cables."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from harness.errors import CoreError
from harness.model.resource import Recorder, Resource
from harness.plan.addressing import WAN_INTERFACE
from harness.wan.kernel import Kernel
from harness.wan.local_transport import LocalTransport, netns_path
from harness.wan.router import RouterCore, port_name


class VethCabling:
    """Cables a lab to a namespace. ``recorder`` is told when the namespace is gone; None: nobody is."""

    placement: Literal["netns", "vm"] = "netns"

    def __init__(self, netns: str, recorder: Recorder | None) -> None:
        self._netns = netns
        self._recorder = recorder
        self.detail = f"namespace {netns}"

    def connect(self, netns_of_index: Mapping[int, str]) -> None:
        """See Cabling: both ends are made where they belong; no interface is ever in the host's own namespace."""
        with contextlib.closing(Kernel(LocalTransport(self._netns))) as core:
            for index, netns in netns_of_index.items():
                with _opened(netns) as there, core.batch() as batch:
                    peer = {"ifname": WAN_INTERFACE, "net_ns_fd": there}
                    batch.link("add", ifname=port_name(index), kind="veth", peer=peer)

    def release(self, netns_of_index: Mapping[int, str], kernel: Kernel, ports: Sequence[int]) -> None:
        """See Cabling: the namespace goes, and every cable with it."""
        kernel.close()
        _ip("netns", "delete", self._netns)
        if self._recorder is not None:
            self._recorder.forget(resource_of(self._netns))

    def state(self) -> dict[str, Any]:
        """See Cabling."""
        return {"core_netns": self._netns}


def place_namespace_core(recorder: Recorder, seed: int | None) -> RouterCore:
    """A fresh namespace, recorded before it is made. Raises CoreError."""
    netns = f"lhcore-{secrets.token_hex(3)}"
    recorder.record(resource_of(netns))
    _ip("netns", "add", netns)
    return RouterCore(Kernel(LocalTransport(netns)), VethCabling(netns, recorder), seed)


def open_namespace_core(state: dict[str, Any], recorder: Recorder | None) -> RouterCore:
    """The core of a lab that is up. Raises CoreError when its namespace is gone."""
    netns = state["core_netns"]
    return RouterCore(Kernel(LocalTransport(netns)), VethCabling(netns, recorder), state["seed"], state)


def resource_of(netns: str) -> Resource:
    """What such a core is on this host."""
    return Resource(kind="netns", name=netns, note="WAN core")


def _ip(*arguments: str) -> None:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        raise CoreError("the program ip is not installed", hint="apt-get install iproute2") from None
    if done.returncode != 0:
        raise CoreError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@contextmanager
def _opened(netns: str) -> Iterator[int]:
    try:
        descriptor = os.open(netns_path(netns), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CoreError(f"there is no network namespace {netns}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
