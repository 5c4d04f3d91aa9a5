"""What a cap on the wire leaves for payload."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncer.core.wire_rate import tcp_payload_rate

CAPS = st.integers(64_000, 100_000_000_000)
SEGMENTS = st.integers(536, 8960)


@given(CAPS, SEGMENTS, st.booleans())
def test_full_segments_keep_the_cap_and_use_it(cap_bps: int, mss: int, is_ipv6: bool) -> None:
    payload = tcp_payload_rate(cap_bps, mss, is_ipv6=is_ipv6)
    # Ethernet, IP, TCP and the time stamp option of every segment.
    wire = (payload / mss) * (mss + 14 + (40 if is_ipv6 else 20) + 32) * 8
    assert wire <= cap_bps * (1 + 1e-9)
    assert wire >= cap_bps - 8 * 2 * (1 + 100 / mss)


def test_by_hand() -> None:
    # 1,514 bytes on the wire carry 1,448: 100 Mbit/s carry 95.64.
    assert tcp_payload_rate(100_000_000, 1448, is_ipv6=False) == 100_000_000 * 1448 // (1514 * 8)
