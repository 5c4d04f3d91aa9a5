"""Two hosts and a router that shapes nothing, in namespaces without names: what forwarding costs by itself.

The namespaces are held by this process's open files alone, so that nothing remains of them however it ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

from harness.wan.kernel import Kernel
from harness.wan.load import Flow
from harness.wan.local_transport import LocalTransport, enter_new_netns
from harness.wan.offloads import switch_off

_HOSTS = ("192.0.2.1", "192.0.2.5")
_GATEWAYS = ("192.0.2.2", "192.0.2.6")
"""TEST-NET-1 (RFC 5737), two networks of four addresses."""
_PREFIX = 30


@contextmanager
def plain_router(mtu: int = 1500) -> Iterator[tuple[Flow, Flow]]:
    """The flows there and back while it stands: veth pairs with offloads off, as sites of a lab have them."""
    with ExitStack() as stack:
        router, *hosts = (stack.enter_context(_new_netns()) for _ in range(3))
        with closing(Kernel(LocalTransport(router))) as kernel:
            for number, host in enumerate(hosts):
                _cable(kernel, router, host, number, mtu)
            kernel.transport.write_sysctl("net/ipv4/ip_forward", "1")
        yield Flow(hosts[0], hosts[1], _HOSTS[1]), Flow(hosts[1], hosts[0], _HOSTS[0])


def _cable(router: Kernel, router_path: str, host_path: str, number: int, mtu: int) -> None:
    name = f"port{number}"
    there = os.open(host_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with router.batch() as batch:
            batch.link("add", ifname=name, kind="veth", peer={"ifname": "wan0", "net_ns_fd": there})
    finally:
        os.close(there)
    with closing(Kernel(LocalTransport(host_path))) as host:
        for kernel, interface, address in ((router, name, _GATEWAYS[number]), (host, "wan0", _HOSTS[number])):
            index = kernel.links()[interface]["index"]
            with kernel.batch() as batch:
                batch.link("set", index=index, mtu=mtu)
                batch.addr("add", index=index, address=address, prefixlen=_PREFIX)
                batch.link("set", index=index, state="up")
            switch_off(kernel.transport, interface)
        with host.batch() as batch:
            batch.route("add", dst="default", gateway=_GATEWAYS[number])


@contextmanager
def _new_netns() -> Iterator[str]:
    """The path of a new namespace."""

    def make() -> int:
        enter_new_netns()
        return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    # A thread of its own, which ends here: it has left this process's namespace.
    with ThreadPoolExecutor(max_workers=1) as apart:
        descriptor = apart.submit(make).result()
    try:
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)
