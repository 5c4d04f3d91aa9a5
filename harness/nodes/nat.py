"""NAT at a site's edge: putting it up, and rebinding, as when a home router restarts or a carrier moves a customer."""

from __future__ import annotations

import re
import socket
import struct
from functools import partial
from pathlib import Path

from harness.errors import InputError, NodeError
from harness.nodes.commands import list_ruleset, run_nft
from harness.nodes.host_network import in_namespace
from harness.plan.addressing import SitePlan
from harness.plan.edge import nat_ruleset, nat_timeouts

_NETLINK_NETFILTER = 12
_DELETE_CONNECTIONS = 1 << 8 | 2
"""NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE."""

_NLM_F_REQUEST, _NLM_F_ACK = 1, 4
_HEADER = struct.Struct("=IHHII")
_NFGENMSG = struct.Struct("=BBH")
_ACKNOWLEDGEMENT = struct.Struct("=IHHIIi")
_GENERATION = re.compile(r'comment "(\d+) (\d+)"')


def start_nat(site: SitePlan) -> None:
    """Translate from now on. Raises NodeError when the kernel or the program nft cannot."""
    edge = site.edge
    assert edge is not None
    assert edge.nat is not None
    run_nft(nat_ruleset(site, 0), site.netns)
    in_namespace(site.netns, partial(_set_timeouts, nat_timeouts(edge.nat)))


def rebind(site: SitePlan, *, new_address: bool = False) -> None:
    """Forget every mapping of a site: the next packet from inside gets another external port, and with ``new_address``
    another external address; what comes in for the old ones is dropped.

    Raises InputError for a site that is not behind NAT, NodeError when the kernel refuses.
    """
    if site.edge is None or site.edge.nat is None:
        raise InputError(f"{site.site} is not behind NAT", hint="Write `nat: true` under the site.")
    found = _GENERATION.search(list_ruleset(site.netns))
    if found is None:
        raise NodeError(f"the edge of {site.site} has lost its NAT")
    generation, moved = int(found[1]) + 1, int(found[2]) + new_address
    run_nft(nat_ruleset(site, generation, moved), site.netns)
    in_namespace(site.netns, _flush_connections)


def _set_timeouts(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        path = Path("/proc/sys") / name.replace(".", "/")
        try:
            path.write_text(value)
        except OSError as error:
            raise NodeError(f"the kernel refuses {name} = {value}: {error}") from error


def _flush_connections() -> None:
    """Delete all of this namespace's tracked connections."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as kernel:
        kernel.settimeout(10.0)
        body = _NFGENMSG.pack(socket.AF_UNSPEC, 0, 0)
        size = _HEADER.size + len(body)
        kernel.send(_HEADER.pack(size, _DELETE_CONNECTIONS, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0) + body)
        *_, code = _ACKNOWLEDGEMENT.unpack_from(kernel.recv(4096))
        if code:
            raise NodeError(f"the kernel does not forget its mappings: error {-code}")
