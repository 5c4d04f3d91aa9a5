"""What cross traffic came to."""

from __future__ import annotations

from harness.model.base import Value


class FlowReport(Value):
    """One declared stream of cross traffic. Rates in bit/s over the time from its first packet to its last.

    ``offered`` is what its pattern asked for (TCP: what was sent), ``sent`` what its sender gave to the network, and
    ``received`` what arrived; UDP counts IP bytes, TCP payload. ``packets_out`` went over the link from its source,
    ``packets_back`` over the opposite one (TCP's acknowledgements). ``problem``: why it did not run as declared.
    """

    source: str
    destination: str
    pattern: str
    port: int
    seconds: float = 0.0
    offered_bps: float = 0.0
    sent_bps: float = 0.0
    received_bps: float = 0.0
    packets_out: int = 0
    packets_back: int = 0
    flows: int = 0
    problem: str = ""
