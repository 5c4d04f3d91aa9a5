"""From two reports of a mover to what its session carried meanwhile, in each direction."""

from __future__ import annotations

from syncer.core.transport_choice import Sample
from syncer.wire.mover_protocol import SessionStats

LOADED_SHARE = 0.5
"""Of the time, in which the sender was held up by the transport: only then does its rate tell of the link."""


def samples_between(before: SessionStats, after: SessionStats, seconds: float, *, owed: bool) -> tuple[Sample, Sample]:
    """There and back. ``owed``: all the while there was content that the other site was asked for, so that what came
    is what the way from it (or its disk) carries."""
    held_up_s = (after.held_up_us - before.held_up_us) / 1e6
    received = after.bytes_received - before.bytes_received
    return (
        Sample(
            direction="there",
            seconds=seconds,
            bytes=after.bytes_sent - before.bytes_sent,
            loaded=held_up_s > LOADED_SHARE * seconds,
            rtt_us=after.rtt_us,
            packets=after.packets_sent - before.packets_sent,
            lost=after.packets_lost - before.packets_lost,
        ),
        Sample(direction="back", seconds=seconds, bytes=received, loaded=owed and received > 0, rtt_us=after.rtt_us),
    )
