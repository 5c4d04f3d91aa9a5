"""A topology as a self-contained SVG picture: sites on an ellipse, links labelled with RTT, loss and rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import atan2, hypot, log10, pi

from harness.model.impairment import GilbertElliottLoss, Impairment
from harness.model.measurement import LinkCertificate
from harness.model.timeline import Outage, subject_of
from harness.model.topology import Site, Topology
from harness.model.units import brief_duration, brief_number, brief_rate, brief_share, format_duration
from harness.model.verdict import Verdict
from harness.report.markup import xml
from harness.report.picture_layout import MOST_LABELLED_SITES, SITE_RADIUS, Box, Layout, Point, Size, lay_out

Measurements = Mapping[tuple[str, str], LinkCertificate]

_MARGIN = 22.0
_TITLE = 15.0
_SMALL = 11.5
_LINE = 15.0
_LEGEND_ROW = 20.0
_LONGEST_TITLE = 40
_RTT_BANDS_US = (50_000, 150_000, 300_000)

_STYLE = """
svg.wan { --ink: #1c2733; --dim: #5b6b7b; --paper: #ffffff; --line: #4a6f96; --lossy: #b4600a; --bad: #c0262d;
  --site: #e9f0f7; --edge: #2f5d8a; --mobile: #fdf0dd; --mobile-edge: #b4600a;
  --band0: #2a9d8f; --band1: #4a6f96; --band2: #b4600a; --band3: #9b2c6f;
  font-family: "Inter", "Segoe UI", "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
@media screen and (prefers-color-scheme: dark) { svg.wan { --ink: #e6edf3; --dim: #9fb0c0; --paper: #10171f;
  --line: #7fb0e0; --lossy: #f0a54a; --bad: #ff6b6b; --site: #1d2a38; --edge: #7fb0e0; --mobile: #35281a;
  --mobile-edge: #f0a54a; --band0: #4fd1c1; --band1: #7fb0e0; --band2: #f0a54a; --band3: #e07fc0; } }
svg.wan .paper { fill: var(--paper); }
svg.wan text { fill: var(--ink); font-size: 11.5px; }
svg.wan .title { font-size: 15px; font-weight: 600; }
svg.wan .head { font-size: 13px; font-weight: 650; }
svg.wan .dim { fill: var(--dim); }
svg.wan .bad { fill: var(--bad); }
svg.wan .loss { fill: var(--lossy); }
svg.wan .link { fill: none; stroke: var(--line); stroke-linecap: round; }
svg.wan .link.lossy { stroke: var(--lossy); stroke-dasharray: 7 5; }
svg.wan .link.bad { stroke: var(--bad); }
svg.wan .arrow { fill: var(--line); }
svg.wan .arrow.lossy { fill: var(--lossy); }
svg.wan .arrow.bad { fill: var(--bad); }
svg.wan .label { fill: var(--paper); stroke: var(--line); stroke-opacity: .3; }
svg.wan .site { fill: var(--site); stroke: var(--edge); stroke-width: 2; }
svg.wan .icon { fill: none; stroke: var(--edge); stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
svg.wan .mobile .site { fill: var(--mobile); stroke: var(--mobile-edge); stroke-dasharray: 4 3; }
svg.wan .mobile .icon { stroke: var(--mobile-edge); }
svg.wan .band { fill: none; stroke-opacity: .45; }
""".strip()

_ICONS = {
    "data-centre": "M-11-10h22v8h-22z M-11 2h22v8h-22z M-7-6h.01 M-7 6h.01 M1-6h6 M1 6h6",
    "mobile": "M-7-13h14v26h-14z M-2 9h4",
    "office": "M-9 12v-23h11v23z M2-3h8v15 M-5-6h3 M-5-1h3 M-5 4h3 M-12 12h24",
}


@dataclass(frozen=True)
class _Pair:
    """The two directed links between two sites, as one thing to draw. ``out`` leads from site a to site b."""

    a: int
    b: int
    out: Impairment
    back: Impairment
    measured: tuple[LinkCertificate, ...]

    @property
    def rtt_us(self) -> int:
        return self.out.delay_us + self.back.delay_us

    @cached_property
    def asymmetric(self) -> bool:
        """Whether the directions differ by more than the odd microsecond of a halved RTT."""
        ignore = {"delay_us", "buffer_bytes"}
        same = self.out.model_dump(exclude=ignore) == self.back.model_dump(exclude=ignore)
        return not same or abs(self.out.delay_us - self.back.delay_us) > 1

    @property
    def classes(self) -> str:
        if any(link.verdict is Verdict.INVALID for link in self.measured):
            return " bad"
        return " lossy" if self.out.mean_loss or self.back.mean_loss else ""


def draw(topology: Topology, measurements: Measurements | None = None) -> str:
    """The SVG's text. With ``measurements`` (by source and destination) each label also says what was measured.

    Up to 16 sites no label covers another; beyond that links are coloured by RTT instead of labelled.
    """
    pairs = list(_pairs(topology, measurements or {}))
    labelled = len(topology.sites) <= MOST_LABELLED_SITES
    names = [_site_lines(site) for site in topology.sites]
    site_sizes = [
        Size(max(_width(title, _TITLE), _width(below, _SMALL)) + 4, 36 if below else 20) for title, below in names
    ]
    ends = [(pair.a, pair.b) for pair in pairs]
    first = lay_out(site_sizes, ends, []) if labelled else None
    lines = [list(_label(pair, first.sites)) for pair in pairs] if first else []
    sizes = [
        Size(max(_width(text, 13 if kind == "head" else _SMALL) for kind, text in label) + 14, len(label) * _LINE + 7)
        for label in lines
    ]
    layout = lay_out(site_sizes, ends, sizes)
    body = [*_links(pairs, layout), *_labels(lines, layout)] if labelled else list(_bands(pairs, layout))
    legend = list(_legend(topology, pairs, labelled))
    frame = _frame(topology, layout, len(legend))
    parts = [*frame, *body, *_sites(topology, names, layout), *_legend_rows(legend, layout), "</svg>", ""]
    return "\n".join(parts)


def _pairs(topology: Topology, measurements: Measurements) -> Iterator[_Pair]:
    impairments = {(link.source, link.destination): link.impairment for link in topology.links}
    for (a, first), (b, second) in combinations(enumerate(topology.site_names), 2):
        out, back = impairments.get((first, second)), impairments.get((second, first))
        if out is None and back is None:
            continue
        blocked = Impairment(blocked=True)
        found = (measurements.get((first, second)), measurements.get((second, first)))
        yield _Pair(a, b, out or blocked, back or blocked, tuple(link for link in found if link is not None))


def _site_lines(site: Site) -> tuple[str, str]:
    title = site.title or site.name
    below = [] if title.lower() == site.name else [site.name]
    below += [site.access] if site.access else []
    return title if len(title) <= _LONGEST_TITLE else f"{title[: _LONGEST_TITLE - 1]}…", " · ".join(below)


def _width(text: str, size: float) -> float:
    """Upper estimate of a text's width in a sans-serif face."""
    return sum(0.95 if ord(letter) > 0x2E7F else 0.64 for letter in text) * size


def _label(pair: _Pair, sites: tuple[Point, ...]) -> Iterator[tuple[str, str]]:
    """Lines of a link's label as (class, text)."""
    yield "head", f"{_duration(pair.rtt_us)} RTT"
    if pair.asymmetric:
        arrow, reverse = _arrows(sites[pair.a], sites[pair.b])
        yield _loss_class(pair.out), f"{arrow} {_numbers(pair.out)}"
        yield _loss_class(pair.back), f"{reverse} {_numbers(pair.back)}"
    else:
        yield _loss_class(pair.out), _numbers(pair.out)
    found = [link.quantity("rtt") for link in pair.measured]
    rtts = [rtt.measured for rtt in found if rtt is not None and rtt.measured is not None]
    if rtts:
        bad = any(link.verdict is Verdict.INVALID for link in pair.measured)
        yield ("bad" if bad else "dim"), f"measured {brief_duration(sum(rtts) / len(rtts))}"
    elif any(rtt is not None and rtt.verdict is Verdict.INVALID for rtt in found):
        yield "bad", "no answer measured"


def _duration(microseconds: int) -> str:
    """Exact where that is short: a reader compares it with the file."""
    exact = format_duration(microseconds)
    return exact if len(exact) <= len("309.6 ms") else brief_duration(microseconds)


def _loss_class(impairment: Impairment) -> str:
    return "loss" if impairment.mean_loss else "dim"


def _numbers(impairment: Impairment) -> str:
    if impairment.blocked:
        return "blocked"
    parts = [brief_rate(impairment.rate_bps) if impairment.rate_bps else "unlimited"]
    if impairment.mean_loss:
        loss = impairment.loss
        bursts = isinstance(loss, GilbertElliottLoss) and loss.bad_to_good > 0
        tail = f" ×{brief_number(1 / loss.bad_to_good)}" if isinstance(loss, GilbertElliottLoss) and bursts else ""
        parts.append(f"{brief_share(impairment.mean_loss)} loss{tail}")
    if impairment.jitter_us:
        parts.append(f"±{brief_duration(impairment.jitter_us)}")
    return " · ".join(parts)


def _arrows(a: Point, b: Point) -> tuple[str, str]:
    octant = round(atan2(b.y - a.y, b.x - a.x) / (pi / 4)) % 8
    wheel = "→↘↓↙←↖↑↗"
    return wheel[octant], wheel[(octant + 4) % 8]


def _thickness(impairment: Impairment) -> float:
    """1.2 px at 100 kbit/s and below, up to 4 px at 1 Gbit/s and without limit."""
    if impairment.rate_bps is None:
        return 4.0
    return min(4.0, max(1.2, 1.2 + 0.7 * (log10(impairment.rate_bps) - 5)))


def _frame(topology: Topology, layout: Layout, legend_rows: int) -> Iterator[str]:
    bounds = layout.bounds
    width = max(bounds.width + 2 * _MARGIN, 420.0)
    height = bounds.height + 2 * _MARGIN + 8 + legend_rows * _LEGEND_ROW
    left = bounds.centre.x - width / 2
    view = f"{left:.1f} {bounds.y - _MARGIN:.1f} {width:.1f} {height:.1f}"
    said = f"{len(topology.sites)} sites and the links between them"
    yield (
        f'<svg class="wan" xmlns="http://www.w3.org/2000/svg" viewBox="{view}" '
        f'width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="{xml(topology.name)}: {said}">'
    )
    yield f"<title>{xml(topology.name)}</title>"
    yield f"<style>{_STYLE}</style>"
    x, y, w, h = view.split()
    yield f'<rect class="paper" x="{x}" y="{y}" width="{w}" height="{h}" rx="10"/>'


def _links(pairs: list[_Pair], layout: Layout) -> Iterator[str]:
    for pair in pairs:
        a, b = layout.sites[pair.a], layout.sites[pair.b]
        if pair.asymmetric:
            yield from _directed(a, b, pair.out, pair.classes)
            yield from _directed(b, a, pair.back, pair.classes)
        else:
            width = _thickness(pair.out)
            yield (
                f'<path class="link{pair.classes}" stroke-width="{width:.1f}" '
                f'd="M{a.x:.1f} {a.y:.1f}L{b.x:.1f} {b.y:.1f}"/>'
            )


def _directed(start: Point, end: Point, impairment: Impairment, classes: str) -> Iterator[str]:
    """A line that bows to its right, with an arrowhead where it enters the site."""
    length = hypot(end.x - start.x, end.y - start.y)
    along = Point((end.x - start.x) / length, (end.y - start.y) / length)
    right = Point(-along.y, along.x)
    bow = min(26.0, length * 0.08)
    middle = start.towards(end, 0.5)
    control = Point(middle.x + right.x * bow * 2, middle.y + right.y * bow * 2)
    share = (length - SITE_RADIUS - 3) / length
    tip = _on_curve(start, control, end, share)
    before = _on_curve(start, control, end, share - 11 / length)
    dx, dy = tip.x - before.x, tip.y - before.y
    size = hypot(dx, dy) or 1.0
    nx, ny = -dy / size * 4.5, dx / size * 4.5
    # The line ends in the arrowhead's base, or its round cap would blunt the tip.
    stop = before.towards(tip, 0.3)
    inner = start.towards(control, share)
    yield (
        f'<path class="link{classes}" stroke-width="{_thickness(impairment):.1f}" '
        f'd="M{start.x:.1f} {start.y:.1f}Q{inner.x:.1f} {inner.y:.1f} {stop.x:.1f} {stop.y:.1f}"/>'
    )
    yield (
        f'<path class="arrow{classes}" d="M{tip.x:.1f} {tip.y:.1f}L{before.x + nx:.1f} {before.y + ny:.1f}'
        f'L{before.x - nx:.1f} {before.y - ny:.1f}z"/>'
    )


def _on_curve(start: Point, control: Point, end: Point, share: float) -> Point:
    return start.towards(control, share).towards(control.towards(end, share), share)


def _labels(lines: list[list[tuple[str, str]]], layout: Layout) -> Iterator[str]:
    for label, box in zip(lines, layout.link_labels, strict=True):
        yield (
            f'<rect class="label" x="{box.x:.1f}" y="{box.y:.1f}" '
            f'width="{box.width:.1f}" height="{box.height:.1f}" rx="6"/>'
        )
        for row, (kind, text) in enumerate(label):
            yield _text(kind, Point(box.centre.x, box.y + 14.5 + row * _LINE), text, "middle")


def _bands(pairs: list[_Pair], layout: Layout) -> Iterator[str]:
    """All links of a band of RTT in one path: 127 sites have 8,001 pairs."""
    width = max(0.4, 24 / len(layout.sites))
    places = [f"{site.x:.0f} {site.y:.0f}" for site in layout.sites]
    for band in range(len(_RTT_BANDS_US) + 1):
        segments = [f"M{places[pair.a]}L{places[pair.b]}" for pair in pairs if _band(pair) == band]
        if segments:
            yield f'<path class="band" stroke="var(--band{band})" stroke-width="{width:.1f}" d="{"".join(segments)}"/>'


def _band(pair: _Pair) -> int:
    return sum(pair.rtt_us > bound for bound in _RTT_BANDS_US)


def _sites(topology: Topology, names: list[tuple[str, str]], layout: Layout) -> Iterator[str]:
    for site, (title, below), at, box in zip(topology.sites, names, layout.sites, layout.site_labels, strict=True):
        yield f'<g class="{site.kind}">'
        yield f'<circle class="site" cx="{at.x:.1f}" cy="{at.y:.1f}" r="{SITE_RADIUS:.0f}"/>'
        yield f'<path class="icon" transform="translate({at.x:.1f} {at.y:.1f})" d="{_ICONS[site.kind]}"/>'
        anchor, x = _anchor(box, at)
        yield _text("title", Point(x, box.y + 15), title, anchor)
        if below:
            yield _text("dim", Point(x, box.y + 31), below, anchor)
        yield "</g>"


def _anchor(box: Box, site: Point) -> tuple[str, float]:
    if abs(box.centre.x - site.x) < 1:
        return "middle", box.centre.x
    return ("start", box.x) if box.centre.x > site.x else ("end", box.x + box.width)


def _text(kind: str, at: Point, text: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{at.x:.1f}" y="{at.y:.1f}" text-anchor="{anchor}">{xml(text)}</text>'


def _legend(topology: Topology, pairs: list[_Pair], labelled: bool) -> Iterator[str]:
    """Rows of the legend; only what the picture shows."""
    if not labelled:
        bounds = [brief_duration(bound) for bound in _RTT_BANDS_US]
        texts = [f"RTT up to {bounds[0]}", *(f"up to {bound}" for bound in bounds[1:]), "above"]
        yield " ".join(f'<tspan style="fill:var(--band{band})">━ {text} </tspan>' for band, text in enumerate(texts))
    else:
        rates = {_thickness(direction) for pair in pairs for direction in (pair.out, pair.back)}
        parts = ["thicker: faster"] if len(rates) > 1 else []
        if any(pair.out.mean_loss or pair.back.mean_loss for pair in pairs):
            parts.append("dashed: loses packets (×n: n in a row)")
        if any(pair.asymmetric for pair in pairs):
            parts.append("two arrows: the directions differ")
        if parts:
            yield xml(" · ".join(parts))
    for event in topology.timeline[:3]:
        every = f", every {brief_duration(event.every_s * 1e6)}" if event.every_s is not None else ""
        length = "" if event.duration_s is None else f" for {brief_duration(event.duration_s * 1e6)}"
        what = f"{event.site} is cut off" if isinstance(event, Outage) else f"{event.do} of {subject_of(event)}"
        yield xml(f"timeline: {what}{length}, first at {brief_duration(event.at_s * 1e6)}{every}")
    if len(topology.timeline) > 3:
        yield f"timeline: and {len(topology.timeline) - 3} more"


def _legend_rows(rows: list[str], layout: Layout) -> Iterator[str]:
    top = layout.bounds.y + layout.bounds.height + _MARGIN + 6
    for index, row in enumerate(rows):
        y = top + index * _LEGEND_ROW
        yield f'<text class="dim" x="{layout.bounds.centre.x:.1f}" y="{y:.1f}" text-anchor="middle">{row}</text>'
