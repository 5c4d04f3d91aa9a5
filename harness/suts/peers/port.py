"""The port of a transport peer: move data from one node to another, and say what arrived when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from harness.model.base import Value
from harness.model.bench import Interval, Transport, Workload, WorkloadKind
from harness.nodes.port import Node

PATIENCE_S = 25.0
"""How long after its time a program may take to end: on a lossy path even a goodbye takes retransmissions."""


@dataclass(frozen=True)
class Ends:
    """From where to where."""

    source: Node
    destination: Node


class Job(Value):
    """One transfer. ``name`` is unique within a lab; ``port`` and the nine that follow are free at both ends.

    ``rate_bps`` is what the link carries (under a trace: its mean), and ``window_bytes`` what is under way when link
    and bottleneck are full: for peers that must be told.
    """

    name: str
    workload: Workload
    seconds: float
    rate_bps: float
    window_bytes: int
    port: int


class Received(Value):
    """What arrived at the destination. Times count from the receiver's own first byte, which came at ``first_at_s`` of
    the monotonic clock and took ``set_up_s`` from the start of the program; ``finished_s``: when all of a file workload
    was there. ``figures``: what the program says of itself, by name and unit (``retransmitted_packets``)."""

    intervals: tuple[Interval, ...]
    first_at_s: float | None = None
    set_up_s: float | None = None
    finished_s: float | None = None
    figures: Mapping[str, float] = {}
    problem: str = ""


class Peer(Protocol):
    """One program, or one of its modes."""

    name: str
    title: str
    transport: Transport
    workloads: frozenset[WorkloadKind]
    programs: tuple[str, ...]
    """What must be on PATH of the nodes."""

    def prepare(self, ends: Ends, job: Job) -> None:
        """Before a transfer, and not timed: keys, content at the source. Raises LabError."""

    def transfer(self, ends: Ends, job: Job) -> Received:
        """Move data for ``job.seconds`` (files: at most), then leave nothing running. Raises LabError when a program
        does not work at all; what merely went badly is a ``problem``."""

    def version(self, node: Node) -> str:
        """For the report."""
