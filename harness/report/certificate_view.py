"""The fidelity certificate in the words and figures of the report. Pure."""

from __future__ import annotations

from harness.model.impairment_text import describe
from harness.model.measurement import Certificate, LinkCertificate, Quantity, QuantityName
from harness.model.topology import Topology
from harness.model.units import brief_duration
from harness.model.verdict import Verdict
from harness.plan.quantities import figure, span
from harness.report.page import Cell, CertificateView, LinkRow, QuantityRow

_COLUMNS: dict[QuantityName, str] = {
    "one-way delay": "One way",
    "rtt": "RTT",
    "jitter": "Jitter",
    "delay distribution": "Distance",
    "loss": "Loss",
    "burst": "Burst",
    "reordering": "Out of order",
    "duplication": "Twice",
    "corruption": "Damaged",
    "rate": "Rate",
    "buffer": "Buffer",
}
_UNINTERESTING = ("reordering", "duplication")
"""Quantities that have a column only where one of them is not nil."""

_STRIP_WIDTH, _STRIP_HEIGHT = 132.0, 22.0
_FROM, _TO = 1, 9
"""Of ``delay_quantiles_us``: from the 1% to the 99% quantile; the extremes would squeeze the rest."""


def certificate_view(certificate: Certificate, topology: Topology) -> CertificateView:
    """What the page shows of it."""
    columns = [name for name in _COLUMNS if any(_interesting(link.quantity(name)) for link in certificate.links)]
    return CertificateView(
        summary=_summary(certificate),
        notes=tuple(_notes(certificate)),
        columns=tuple(_COLUMNS[name] for name in columns),
        links=tuple(_link_row(link, topology, columns) for link in certificate.links),
    )


def _interesting(quantity: Quantity | None) -> bool:
    if quantity is None:
        return False
    nil = not quantity.requested and not quantity.measured
    return not (quantity.name in _UNINTERESTING and nil)


def _summary(certificate: Certificate) -> str:
    good = sum(link.verdict is Verdict.PASS for link in certificate.links)
    depth = {"quick": "Quick measurement", "full": "Full calibration"}[certificate.depth]
    took = brief_duration(certificate.elapsed_s * 1e6)
    summary = f"{depth} before the tests, {took}: {good} of {len(certificate.links)} links as specified"
    if not certificate.undecided:
        return f"{summary}."
    return f"{summary}; not measured precisely enough to decide: {certificate.undecided} of all quantities."


def _notes(certificate: Certificate) -> list[str]:
    noise = certificate.noise
    notes = [certificate.note] if certificate.note else []
    if noise.loopback_median_us is not None and noise.loopback_p99_us is not None:
        notes.append(
            "the measuring's own noise: a packet from a node to itself took "
            f"{brief_duration(noise.loopback_median_us)} (99%: {brief_duration(noise.loopback_p99_us)})"
        )
    notes.append(
        f"packets left at most {brief_duration(noise.late_max_us)} late (99%: {brief_duration(noise.late_p99_us)}), "
        "which is no error of the delays: they count from when a packet left"
    )
    if not certificate.common_clock:
        notes.append("the nodes have no common clock, so that delays are known there and back alone")
    return notes


def _link_row(link: LinkCertificate, topology: Topology, columns: list[QuantityName]) -> LinkRow:
    try:
        requested = describe(topology.link(link.source, link.destination).impairment)
    except KeyError:
        requested = "not in the topology"
    return LinkRow(
        name=f"{link.source} → {link.destination}",
        requested=requested,
        cells=tuple(_cell(link.quantity(name)) for name in columns),
        delays=_delays(link),
        probes=f"{link.received:,} of {link.sent:,}",
        rounds=f"in {link.rounds} rounds" if link.rounds > 1 else "",
        verdict=link.verdict_word,
        reason=link.reason or (f"undecided: {', '.join(link.undecided)}" if link.verdict is None else ""),
        quantities=tuple(_quantity_row(quantity) for quantity in link.quantities),
    )


def _cell(quantity: Quantity | None) -> Cell:
    if quantity is None:
        return Cell("")
    tone = "bad" if quantity.verdict is Verdict.INVALID else "warn" if quantity.undecided else ""
    if quantity.measured is None:
        return Cell("nothing" if tone == "bad" else "–", "", tone)
    return Cell(figure(quantity.measured, quantity.unit), _short_span(quantity), tone)


def _short_span(quantity: Quantity) -> str:
    """The interval, with the unit once where both ends have the same."""
    if quantity.low is None and quantity.high is None:
        return ""
    ends = ["?" if end is None else figure(end, quantity.unit) for end in (quantity.low, quantity.high)]
    (low, low_unit), (high, high_unit) = (_parted(end) for end in ends)
    return f"{low}–{high}" if low_unit == high_unit or low == "0" else f"{ends[0]}–{ends[1]}"


def _parted(text: str) -> tuple[str, str]:
    number, _, unit = text.removesuffix("%").partition(" ")
    return number, unit


def _quantity_row(quantity: Quantity) -> QuantityRow:
    def told(value: float | None) -> str:
        return "" if value is None else figure(value, quantity.unit)

    known = quantity.low is not None or quantity.high is not None
    explained = "; ".join(part for part in (quantity.reason, quantity.method) if part)
    return QuantityRow(
        name=quantity.name,
        requested=told(quantity.requested),
        tolerance=f"± {told(quantity.tolerance)}" if quantity.tolerance else "",
        measured=told(quantity.measured),
        interval=span(quantity) if known else "",
        samples=f"{quantity.samples:,}" if quantity.samples else "",
        verdict="undecided" if quantity.undecided else "" if quantity.verdict is None else quantity.verdict.value,
        method=explained,
    )


def _delays(link: LinkCertificate) -> str:
    """The delays as a strip: 1% to 99% a line, the middle half a bar, the median a mark; a triangle: what was asked."""
    values = link.delay_quantiles_us
    asked = link.quantity("one-way delay")
    if not values or asked is None or asked.requested is None:
        return ""
    low, high = min(values[_FROM], asked.requested), max(values[_TO], asked.requested)
    # At least a millisecond wide, so that a steady link does not look like a wild one.
    room = max(1000.0 - (high - low), 0.1 * (high - low), 0.0) / 2
    low, high = low - room, high + room

    def x(value: float) -> float:
        return 3 + (value - low) / (high - low) * (_STRIP_WIDTH - 6)

    middle = _STRIP_HEIGHT / 2 - 2
    first, quarter, median, rest, last = (x(values[place]) for place in (_FROM, 4, 5, 6, _TO))
    wanted = x(asked.requested)
    title = (
        f"1% {brief_duration(values[_FROM])}, median {brief_duration(values[5])}, 99% {brief_duration(values[_TO])}; "
        f"asked for {brief_duration(asked.requested)}"
    )
    return (
        f'<svg class="delays" viewBox="0 0 {_STRIP_WIDTH:.0f} {_STRIP_HEIGHT:.0f}" width="{_STRIP_WIDTH:.0f}" '
        f'height="{_STRIP_HEIGHT:.0f}" role="img"><title>{title}</title>'
        f'<line class="whole" x1="{first:.1f}" y1="{middle}" x2="{last:.1f}" y2="{middle}"/>'
        f'<rect class="half" x="{quarter:.1f}" y="{middle - 5}" width="{max(1.5, rest - quarter):.1f}" height="10"/>'
        f'<line class="median" x1="{median:.1f}" y1="{middle - 7}" x2="{median:.1f}" y2="{middle + 7}"/>'
        f'<path class="asked" d="M{wanted:.1f} {middle + 6} l4 6 h-8 z"/></svg>'
    )
