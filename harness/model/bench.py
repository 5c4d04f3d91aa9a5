"""A benchmark of transports: the conditions of a cell, who runs in it, and what came of it. Rates in bit/s, sizes in
bytes, times of a trial in seconds since the receiving end's first byte unless said otherwise."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.model.base import Value
from harness.model.units import format_duration, format_rate, format_share

Transport = Literal["udp", "tcp", "any"]
"""What a peer claims to send its data by; ``any``: it chooses by itself."""

WorkloadKind = Literal["stream", "large", "small"]
"""Bytes from memory, one large file, or many small files."""

Traffic = Literal["udp-30%", "on-off-50%", "tcp-cubic"]
"""What else the link carries the way of the data: UDP at a constant 30% of the rate, UDP at half the rate that comes
and goes each second, or one bulk transfer by TCP cubic."""


class Cell(Value):
    """The conditions of a link, the same in both directions.

    ``rate_bps`` None: the fastest that this machine's core carries. ``burst`` is the mean number of packets that are
    lost in a row. A ``trace`` replaces what it says of rate, delay and loss.
    """

    rtt_us: int = Field(ge=0)
    loss: float = Field(default=0.0, ge=0, lt=1)
    burst: float = Field(default=1.0, ge=1)
    rate_bps: int | None = Field(default=None, gt=0)
    buffer_bdp: float = Field(default=1.0, gt=0)
    trace: str | None = None
    traffic: Traffic | None = None

    @property
    def key(self) -> str:
        """What ``--cells`` is matched against, and how a table names it."""
        parts = []
        if self.trace is not None:
            parts.append(f"trace={self.trace}")
        else:
            parts += [f"rtt={_tight(format_duration(self.rtt_us))}", f"loss={format_share(self.loss)}"]
            parts += [f"burst={self.burst:g}"] if self.burst > 1 else []
            parts.append(f"rate={'fastest' if self.rate_bps is None else _tight(format_rate(self.rate_bps))}")
        parts += [f"buffer={self.buffer_bdp:g}bdp"] if self.buffer_bdp != 1 else []
        parts += [f"traffic={self.traffic}"] if self.traffic else []
        return " ".join(parts)


def _tight(text: str) -> str:
    return text.replace(" ", "").replace("bit/s", "bit")


class Workload(Value):
    """What is moved. ``stream``: as much as goes; ``large``: one file of ``bytes``; ``small``: ``files`` of ``bytes``
    each."""

    kind: WorkloadKind
    files: int = 0
    bytes: int = 0


class Trial(Value):
    """One measurement to take: who runs at once in a cell, and for how long since its beginning."""

    cell: Cell
    peers: tuple[str, ...] = Field(min_length=1)
    workload: Workload
    seconds: float = Field(gt=0)
    repeat: int = Field(default=0, ge=0)

    @property
    def key(self) -> str:
        """Names it within a run, so that a run that was interrupted can go on."""
        return f"{self.cell.key} | {self.workload.kind} | {'+'.join(self.peers)} | {self.repeat}"


class Interval(Value):
    """What the receiving end got between two times: bytes of payload, and whole files."""

    begin_s: float
    end_s: float
    bytes: int
    files: int = 0


class FlowResult(Value):
    """What one peer came to. ``goodput_bps`` counts payload after the first seconds, ``share`` is of the link's rate
    (under a trace: of what it offered in that time). ``set_up_s``: from its start to its first byte at the other end.
    ``files_per_s``: over the whole of its transfer, for workloads of files. ``figures``: what the program itself says.
    ``problem``: why there is no figure, or one that must not be believed.
    """

    peer: str
    transport: Transport
    intervals: tuple[Interval, ...] = ()
    bytes: int = 0
    goodput_bps: float | None = None
    share: float | None = None
    files_per_s: float | None = None
    set_up_s: float | None = None
    finished_s: float | None = None
    figures: dict[str, float] = Field(default_factory=dict)
    as_claimed: bool | None = None
    problem: str = ""

    @property
    def counts(self) -> bool:
        """Whether its figure may be plotted: it has one, by the transport that it claims."""
        return self.goodput_bps is not None and self.as_claimed is not False and not self.problem


class Moved(Value):
    """What counters say moved in a trial: of the nodes' own kernels (``/proc/net/snmp``), and of the core's link with
    the data. UDP datagrams may each be many packets where the kernel splits them (GSO)."""

    udp_sent: int
    udp_received: int
    tcp_segments_sent: int
    tcp_segments_received: int
    link_packets: int
    link_bytes: int
    dropped_loss: int
    dropped_queue: int

    @property
    def loss(self) -> float | None:
        """Share of the packets that the link lost as it was asked to."""
        offered = self.link_packets + self.dropped_loss
        return self.dropped_loss / offered if offered else None


class Delay(Value):
    """One-way delay of probes that go with the data, which is where queues build up: by as much grows the round trip.
    ``added``: beyond what the link is set to, after the first seconds. ``series``: time since the transfer began and
    added delay in ms, thinned."""

    idle_ms: float
    added_p50_ms: float | None = None
    added_p95_ms: float | None = None
    series: tuple[tuple[float, float], ...] = ()


class TrialResult(Value):
    """All of one trial. ``rate_bps`` is the link's (under a trace: the mean of what it offered), ``cpu_s_per_gbit`` of
    all processes of a node for each Gbit of payload, ``core_cpus`` and ``busy_share`` how many processors the core used
    and the share of the whole machine that was in use."""

    trial: Trial
    at: str
    rate_bps: float
    flows: tuple[FlowResult, ...] = ()
    moved: Moved | None = None
    delay: Delay | None = None
    source_cpu_s_per_gbit: float | None = None
    destination_cpu_s_per_gbit: float | None = None
    core_cpus: float | None = None
    busy_share: float | None = None
    traffic_bps: float | None = None
    problem: str = ""


class Ceiling(Value):
    """What the core carries one way in full packets with no more than 0.1% lost, measured in this run."""

    packets_per_s: float
    bits_per_s: float


class BenchRecord(Value):
    """A run of a benchmark: its conditions once, then every trial. ``settings``: what nodes' kernels were told."""

    kind: Literal["transport", "sync"]
    started_at: str
    host: str
    core: str
    ceiling: Ceiling | None
    fastest_bps: int
    congestion_control: str
    settings: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    repeats: int
    results: tuple[TrialResult, ...] = ()
