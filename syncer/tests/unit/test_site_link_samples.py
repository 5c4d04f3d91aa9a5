"""What two reports of a mover say of its link."""

from __future__ import annotations

from msgspec.structs import replace

from syncer.site.link_samples import samples_between
from syncer.wire.mover_protocol import SessionStats

BEFORE = SessionStats(
    session=1,
    bytes_sent=1000,
    bytes_received=500,
    rtt_us=80_000,
    target_rate_bps=0,
    delivered_rate_bps=0,
    packets_sent=10,
    packets_lost=1,
    packets_retransmitted=1,
    held_up_us=3_000_000,
)


def test_a_sender_that_the_transport_held_up_shows_what_the_link_carries() -> None:
    after = replace(BEFORE, bytes_sent=9000, packets_sent=110, packets_lost=3, held_up_us=3_900_000, bytes_received=700)
    there, back = samples_between(BEFORE, after, 1.0, owed=False)
    assert (there.bytes, there.packets, there.lost, there.loaded) == (8000, 100, 2, True)
    assert (back.bytes, back.loaded) == (200, False)


def test_a_sender_that_had_little_to_send_shows_nothing() -> None:
    there, _ = samples_between(BEFORE, replace(BEFORE, bytes_sent=9000, held_up_us=3_100_000), 1.0, owed=False)
    assert not there.loaded


def test_what_comes_counts_only_while_content_is_owed_and_something_comes() -> None:
    after = replace(BEFORE, bytes_received=9000)
    assert samples_between(BEFORE, after, 1.0, owed=True)[1].loaded
    assert not samples_between(BEFORE, BEFORE, 1.0, owed=True)[1].loaded
