"""What the measuring program sends and computes, apart from any network."""

from __future__ import annotations

import pytest
from blake3 import blake3

from syncer.errors import InputError
from syncer.udt.perf.content import PERIOD, Content
from syncer.udt.perf.flows import Received, shares
from syncer.udt.perf.messages import Arrival, Departure, Request
from syncer.udt.perf.port import Statistics
from syncer.udt.perf.quantities import rate_bps, shown_rate, shown_size, size_bytes
from syncer.udt.perf.result import concluded, told, told_by_second


def request(**changes: object) -> Request:
    base: dict[str, object] = {
        "implementation": "one",
        "reverse": False,
        "connections": 3,
        "seed": 1,
        "verify": False,
    }
    return Request(**(base | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, 1_000_000, PERIOD - 1, PERIOD, 2 * PERIOD + 12_345])
def test_content_has_the_size_and_the_digest(size: int) -> None:
    pieces = b"".join(Content(7, 3).pieces(size))
    assert len(pieces) == size
    assert blake3(pieces).hexdigest() == Content(7, 3).digest(size)


def test_content_differs_by_seed_and_by_connection_and_repeats() -> None:
    size = PERIOD + 1000
    assert len({Content(seed, flow).digest(size) for seed in (1, 2) for flow in (0, 1, 2)}) == 6
    whole = b"".join(Content(1, 5).pieces(size))
    assert whole[:1000] == whole[PERIOD:]
    endless = Content(1, 5).pieces()
    assert b"".join(next(endless) for _ in range(6))[:size] == whole


def test_intervals_hold_what_came_in_them() -> None:
    received = Received()
    for since_s, size in ((0.0, 5), (0.05, 1), (0.1, 2), (0.5, 3)):
        received.count(since_s, size)
    assert received.intervals == [6, 2, 0, 0, 0, 3]
    assert (received.total, received.last_s) == (11, 0.5)


def test_bytes_are_shared_without_a_rest() -> None:
    assert shares(request(bytes=10)) == [4, 3, 3]
    assert shares(request(seconds=1.0)) == [None, None, None]


def test_the_first_three_seconds_count_apart() -> None:
    intervals = [0] * 10 + [100] * 20 + [1000] * 20
    arrival = Arrival(bytes=sum(intervals), seconds=5.0, intervals=intervals, cpu_s=1.0)
    departure = Departure([Statistics(0.1, 10, 1, 2), Statistics(0.3, 20, 3, 4)], 2.0)
    result = concluded(request(seconds=5.0), "other", "bbr", arrival, departure)
    assert result.goodput_bps == 22_000 * 8 / 5
    assert result.goodput_after_3s_bps == 20_000 * 8 / 2
    assert (result.sender.packets_sent, result.sender.retransmissions, result.sender.losses) == (30, 4, 6)
    assert result.sender.rtt_s == pytest.approx(0.2)
    assert "80.00 kbit/s after the first 3 s" in told(result)
    assert len(told_by_second(result).splitlines()) == 5


def test_what_is_over_too_soon_has_no_settled_goodput() -> None:
    arrival = Arrival(bytes=100, seconds=3.5, intervals=[100] + [0] * 34, cpu_s=0.0, verified=False)
    result = concluded(request(seconds=3.5), "other", "bbr", arrival, Departure([], 0.0))
    assert result.goodput_after_3s_bps is None
    assert "ARRIVED CHANGED" in told(result)


@pytest.mark.parametrize(
    ("text", "bps"), [("100Mbit/s", 100e6), ("1.5Gbit", 1.5e9), ("300 kbps", 300e3), ("8bit/s", 8.0), ("1kbit/s", 1e3)]
)
def test_rates_are_read(text: str, bps: float) -> None:
    assert rate_bps(text) == bps


@pytest.mark.parametrize("text", ["", "100", "0Mbit/s", "-1Mbit/s", "1MB/s", "fast", "1Tbit/s"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(InputError, match="is no rate"):
        rate_bps(text)


@pytest.mark.parametrize(("text", "size"), [("1000000", 10**6), ("300MB", 3 * 10**8), ("64MiB", 2**26), ("1.5k", 1500)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "-5", "1Mbit", "many", "0.5"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="is no size"):
        size_bytes(text)


def test_quantities_are_shown_in_round_units() -> None:
    assert [shown_rate(bps) for bps in (12, 1500, 2.5e6, 3e9)] == [
        "12 bit/s",
        "1.50 kbit/s",
        "2.50 Mbit/s",
        "3.00 Gbit/s",
    ]
    assert [shown_size(size) for size in (12, 1500, 2_500_000)] == ["12 bytes", "1.50 kB", "2.50 MB"]
