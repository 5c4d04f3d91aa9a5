"""Much data between our UDT and libudt, one way at a time, where packets are lost in both directions; by hash.

CI carries a few MB. ``LONGHAUL_INTEROP_BYTES=1GB pytest -m slow ...`` takes about a minute for each case.
"""

from __future__ import annotations

import os

import pytest

from syncer.tests.contract.perf_program import measured, serving
from syncer.tests.contract.udp_relay import Direction, Impairment, UdpRelay
from syncer.udt.perf.quantities import size_bytes

BYTES = size_bytes(os.environ.get("LONGHAUL_INTEROP_BYTES", "8MB"))
SLOWEST_BPS = 4e6
DEADLINE_S = 60.0 + BYTES * 8 / SLOWEST_BPS
LIBUDT_RATE = ("--control", "fixed", "--rate", "100Mbit/s")
"""What libudt finds by itself where packets are lost is some 2 Mbit/s."""

pytestmark = [pytest.mark.timeout(2 * DEADLINE_S), pytest.mark.slow]


@pytest.mark.parametrize("loss", [0.01, 0.05], ids=["1%", "5%"])
@pytest.mark.parametrize("sender", ["client", "server"])
@pytest.mark.parametrize(("server", "client"), [("longhaul", "libudt"), ("libudt", "longhaul")])
def test_much_arrives_unchanged(server: str, client: str, sender: str, loss: float) -> None:
    sends = client if sender == "client" else server
    options = LIBUDT_RATE if sends == "libudt" else ()
    reverse = ("--reverse",) if sender == "server" else ()
    impairments = dict.fromkeys(Direction, Impairment(loss=loss))
    with serving(server) as end, UdpRelay(end.address, impairments) as relay:
        done = measured(
            relay.address, "-i", client, "--bytes", str(BYTES), "--verify", *options, *reverse, timeout_s=DEADLINE_S
        )
    assert done.exit_code == 0, done.errors
    assert done.result["bytes"] == BYTES
    assert done.result["verified"] is True
    assert relay.counts[Direction.TO_SERVER].lost > 0
    assert relay.counts[Direction.TO_CLIENT].lost > 0
