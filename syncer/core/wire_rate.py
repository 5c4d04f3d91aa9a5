"""From a cap on a link to what a transport may send: caps count every bit on the wire, headers included. Pure.

Counted as an Ethernet port counts them: 14 bytes of Ethernet header, the IP packet; no preamble, no check sequence.
"""

from __future__ import annotations

ETHERNET_HEADER = 14
IPV4_HEADER = 20
IPV6_HEADER = 40
TCP_HEADER = 20
TCP_TIMESTAMPS = 12


def tcp_payload_rate(cap_bps: int, mss: int, *, is_ipv6: bool) -> int:
    """Bytes of payload per second, at most, that keep full segments of ``mss`` bytes (the kernel's, after options)
    within ``cap_bps``; never 0."""
    headers = ETHERNET_HEADER + (IPV6_HEADER if is_ipv6 else IPV4_HEADER) + TCP_HEADER + TCP_TIMESTAMPS
    return max(1, cap_bps * mss // (8 * (mss + headers)))
