"""UDT: fast, reliable streams and messages over UDP, for paths that are long, fast and lossy.

Wire-compatible with UDT4. Between two of our own ends it recovers losses faster and tells how a stream ended.

    from syncer import udt

    with udt.create_server(("0.0.0.0", 4000)) as server:
        connection, peer = server.accept()
        with connection:
            while data := connection.recv(1 << 20):
                ...

    with udt.create_connection(("198.18.0.2", 4000), ceiling_bps=200e6) as connection:
        connection.sendall(data)
        print(connection.statistics().rtt_s)

`syncer.udt.streams` has the same for asyncio, `syncer.udt4` the names of pyudt4, and ``python -m syncer.udt.perf``
measures a path. Sockets are served by a thread for each UDP port. They do not survive a fork; use spawn.
"""

from syncer.udt.errors import (
    AddressInUse,
    Broken,
    Closed,
    ConnectionLost,
    ConnectionRefused,
    MessageTooLarge,
    Misuse,
    NotConnected,
    PeerSilent,
    TimedOut,
    UdtError,
    WouldBlock,
)
from syncer.udt.settings import Control, UdtSettings
from syncer.udt.socket import Kind, State, UdtSocket, create_connection, create_server
from syncer.udt.statistics import Statistics

__all__ = [
    "AddressInUse",
    "Broken",
    "Closed",
    "ConnectionLost",
    "ConnectionRefused",
    "Control",
    "Kind",
    "MessageTooLarge",
    "Misuse",
    "NotConnected",
    "PeerSilent",
    "State",
    "Statistics",
    "TimedOut",
    "UdtError",
    "UdtSettings",
    "UdtSocket",
    "WouldBlock",
    "create_connection",
    "create_server",
]
