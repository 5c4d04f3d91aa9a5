"""What a cell's words mean for a link, and what a link's trace offers. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.bench import Cell, Workload
from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss, Loss
from harness.model.topology import CrossTraffic, Link, Site, Topology
from harness.model.trace import Trace
from harness.plan.bench_figures import offered_bits

SOURCE, DESTINATION = "left", "right"
FORWARD, BACKWARD = (SOURCE, DESTINATION), (DESTINATION, SOURCE)
SMALLEST_BUFFER = 15_000
"""Ten packets: a tenth of a short, slow link's product would hold none."""

MOST_FILE_BYTES = 3_000_000_000
_SPARE_S = 4.0


def topology_of(cell: Cell, fastest_bps: int) -> Topology:
    """Two sites, the same both ways."""
    impairment = impairment_of(cell, fastest_bps)
    return Topology(
        name="two-sites",
        sites=(Site(name=SOURCE), Site(name=DESTINATION)),
        links=tuple(Link(source=a, destination=b, impairment=impairment) for a, b in (FORWARD, BACKWARD)),
    )


def impairment_of(cell: Cell, fastest_bps: int) -> Impairment:
    """What either direction does. Under a trace: nothing but the delay, until it plays; the buffer is the trace's."""
    if cell.trace is not None:
        return Impairment(delay_us=cell.rtt_us // 2)
    rate = cell.rate_bps or fastest_bps
    product = rate * cell.rtt_us // 8_000_000
    return Impairment(
        delay_us=cell.rtt_us // 2,
        rate_bps=rate,
        buffer_bytes=max(SMALLEST_BUFFER, round(product * cell.buffer_bdp)),
        loss=loss_of(cell.loss, cell.burst),
    )


def loss_of(mean: float, burst: float) -> Loss | None:
    """Independent, or in bursts of that mean length: Gilbert's model, in whose bad state everything is lost."""
    if not mean:
        return None
    if burst <= 1:
        return IndependentLoss(probability=mean)
    bad_to_good = 1 / burst
    return GilbertElliottLoss(good_to_bad=mean * bad_to_good / (1 - mean), bad_to_good=bad_to_good)


def traffic_of(cell: Cell, fastest_bps: int) -> CrossTraffic | None:
    """What else goes the way of the data."""
    rate = cell.rate_bps or fastest_bps
    match cell.traffic:
        case None:
            return None
        case "udp-30%":
            return CrossTraffic(source=SOURCE, destination=DESTINATION, pattern="constant", rate_bps=rate * 3 // 10)
        case "on-off-50%":
            return CrossTraffic(source=SOURCE, destination=DESTINATION, pattern="on-off", rate_bps=rate // 2)
        case "tcp-cubic":
            return CrossTraffic(source=SOURCE, destination=DESTINATION, pattern="tcp", congestion_control="cubic")


def large_file(workload: Workload, rate_bps: float, seconds: float) -> Workload:
    """The file grown to what the link could carry in the time, and some seconds more, so that it never ends early."""
    if workload.kind != "large" or workload.bytes:
        return workload
    size = round(rate_bps / 8 * (seconds + _SPARE_S))
    return workload.model_copy(update={"files": 1, "bytes": min(MOST_FILE_BYTES, -(-size // 1_000_000) * 1_000_000)})


def offered_bps(trace: Trace, begin_s: float, end_s: float) -> float:
    """The mean rate that a trace lets through towards the subscriber between two times of its playing."""
    return offered_bits(trace.course("down"), trace.duration_us, begin_s, end_s) / (end_s - begin_s)


def delay_us_at(cell: Cell, trace: Trace | None, played_s: float) -> float:
    """The one-way delay that the data's link is set to, so long after the beginning of its trace."""
    own = cell.rtt_us / 2
    if trace is None or played_s < 0:
        return own
    course = trace.course("down")
    point = course.point(course.index_at(played_s * 1e6 % trace.duration_us))
    return own if point.delay_us is None else point.delay_us


def thinned(series: Sequence[tuple[float, float]], most: int = 300) -> tuple[tuple[float, float], ...]:
    """At most so many points, evenly chosen, rounded for a file."""
    step = max(1, -(-len(series) // most))
    return tuple((round(at, 3), round(value, 3)) for at, value in series[::step])
