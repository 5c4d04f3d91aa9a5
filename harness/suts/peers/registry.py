"""The peers of the benchmarks by name. A new one is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.errors import InputError
from harness.suts.peers.engine import Engine
from harness.suts.peers.file_tools import Lftp, Rsync, Uftp
from harness.suts.peers.iperf3 import Iperf3
from harness.suts.peers.plain_udp import PlainUdp
from harness.suts.peers.port import Peer
from harness.suts.peers.staging import WanSsh
from harness.suts.peers.udt_perf import UdtPerf
from harness.suts.registry import FACTORIES as SUTS

STREAM_PEERS: Mapping[str, Callable[[], Peer]] = {
    "longhaul": lambda: UdtPerf("longhaul", "longhaul", "bbr"),
    "longhaul-fixed": lambda: UdtPerf("longhaul-fixed", "longhaul", "fixed"),
    "longhaul-native": lambda: UdtPerf("longhaul-native", "longhaul", "native"),
    "longhaul-background": lambda: UdtPerf("longhaul-background", "longhaul", "background"),
    "libudt": lambda: UdtPerf("libudt", "libudt", "native"),
    "libudt-fixed": lambda: UdtPerf("libudt-fixed", "libudt", "fixed"),
    "cubic": lambda: Iperf3("cubic"),
    "bbr": lambda: Iperf3("bbr"),
    "udp": PlainUdp,
}
FILE_PEERS: Mapping[str, Callable[[WanSsh], Peer]] = {"rsync": Rsync, "lftp": Lftp, "uftp": lambda _: Uftp()}
ENGINE_PEERS: Mapping[str, Callable[[], Peer]] = {
    "syncer": lambda: Engine("syncer", "syncer (the engine)", "any", SUTS["syncer"]),
    "syncthing": lambda: Engine("syncthing", "Syncthing", "tcp", SUTS["syncthing"]),
}
TRANSPORT_PEERS = (*STREAM_PEERS, *FILE_PEERS)
SYNC_PEERS = (*ENGINE_PEERS, *FILE_PEERS)


def create_peers(names: Sequence[str]) -> dict[str, Peer]:
    """One of each. Raises InputError that lists the names there are."""
    ssh = WanSsh()
    found: dict[str, Peer] = {}
    for name in names:
        if name in STREAM_PEERS:
            found[name] = STREAM_PEERS[name]()
        elif name in FILE_PEERS:
            found[name] = FILE_PEERS[name](ssh)
        elif name in ENGINE_PEERS:
            found[name] = ENGINE_PEERS[name]()
        else:
            known = ", ".join((*TRANSPORT_PEERS, *ENGINE_PEERS))
            raise InputError(f"no peer is called {name!r}", hint=f"accepted: {known}")
    return found
