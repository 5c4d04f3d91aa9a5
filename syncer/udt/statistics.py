"""What a connection counted and measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from syncer.native import _udt


@dataclass(frozen=True)
class Statistics:
    """Since the connection was made. ``bytes`` are payload; rates are bits a second on the wire, with all headers."""

    age_s: float
    packets_sent: int
    """With retransmissions."""
    packets_retransmitted: int
    packets_lost: int
    """Transmissions that were declared lost."""
    packets_spurious: int
    """Of those, the ones that had arrived after all."""
    packets_delivered: int
    """Distinct ones that are known to have arrived."""
    packets_received: int
    """Distinct ones that came."""
    packets_duplicate: int
    packets_missing: int
    """Holes in what came, not yet filled."""
    bytes_sent: int
    """Without retransmissions."""
    bytes_delivered: int
    bytes_received: int
    probes: int
    """Packets sent to provoke an answer, since none came."""
    timeouts: int
    acknowledgements_sent: int
    acknowledgements_received: int
    loss_reports_sent: int
    """NAKs: to plain UDT4 peers only; others are told of losses in acknowledgements."""
    loss_reports_received: int
    rtt_s: float
    """Smoothed."""
    rtt_variance_s: float
    min_rtt_s: float
    """Of the last half minute."""
    target_bps: float
    """What the congestion control lets out."""
    delivered_bps: float
    """What arrived over the last second or so."""
    window_packets: float
    in_flight_packets: int
    unsent_packets: int
    """In the send buffer, never sent."""
    send_buffer_packets: int
    receive_buffer_packets: int
    last_heard_ago_s: float
    extended_peer: bool
    """The peer speaks our extensions."""
    control: str
    control_state: str
    mss_bytes: int
    """As both ends agreed."""
    socket_id: int
    """The number of this end in the packets."""
    peer_window_packets: int
    """The peer's receive buffer as it said when the connection was made."""
    kernel_drops: int
    """Datagrams for which the UDP port's receive buffer had no room; of all its connections together."""
    udp_receive_buffer_bytes: int
    udp_send_buffer_bytes: int
    sends_segmented: bool
    """The kernel splits what is sent (UDP GSO)."""
    receives_merged: bool
    """The kernel merges what comes (UDP GRO)."""

    @property
    def loss(self) -> float:
        """Share of the transmissions that were lost, 0 to 1."""
        return (self.packets_lost - self.packets_spurious) / self.packets_sent if self.packets_sent else 0.0

    def as_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)


def read(native: _udt.Socket) -> Statistics:
    """Raises UdtError where there is no connection."""
    return Statistics(**native.statistics())
