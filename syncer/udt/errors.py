"""What a UDT socket fails with.

UdtError (OSError)
├── Misuse (ValueError)                           a call that makes no sense now, or an argument out of range
├── NotConnected                                  not connected yet
├── Closed                                        the socket, or its writing end, was closed at this end
├── WouldBlock (BlockingIOError)                  a call that may not wait would have to
├── TimedOut (TimeoutError)                       the deadline passed; the socket is as it was
├── MessageTooLarge                               larger than the send buffer, or empty
├── AddressInUse                                  another socket is bound there
├── ConnectionRefused (ConnectionRefusedError)    nobody listens there, or the listener said no
└── ConnectionLost (ConnectionError)
    ├── Broken (ConnectionResetError)             the peer closed before all had arrived
    └── PeerSilent                                nothing was heard of the peer for ``dead_after_s``

The end of a stream is no error: ``recv`` returns ``b""`` once all that the peer sent has been read.
"""

from syncer.native._udt import (
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

__all__ = [
    "AddressInUse",
    "Broken",
    "Closed",
    "ConnectionLost",
    "ConnectionRefused",
    "MessageTooLarge",
    "Misuse",
    "NotConnected",
    "PeerSilent",
    "TimedOut",
    "UdtError",
    "WouldBlock",
]
