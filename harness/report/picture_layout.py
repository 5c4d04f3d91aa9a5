"""Where sites, links and labels go in a picture. Pure geometry in pixels, y down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil, cos, hypot, pi, sin

SITE_RADIUS = 26.0
MOST_LABELLED_SITES = 16
_ASPECT = 1.45
_GAP = 5.0
_GROWTH = 1.15
_MOST_GROWTHS = 24
_MOST_CAREFUL_SITES = 10
_MOST_COVERED = 0.6


@dataclass(frozen=True)
class Point:
    """A place in the picture."""

    x: float
    y: float

    def towards(self, other: Point, share: float) -> Point:
        """The point that lies ``share`` of the way to ``other``."""
        return Point(self.x + (other.x - self.x) * share, self.y + (other.y - self.y) * share)


@dataclass(frozen=True)
class Box:
    """A rectangle by its left upper corner."""

    x: float
    y: float
    width: float
    height: float

    @staticmethod
    def around(centre: Point, width: float, height: float) -> Box:
        """The box of this size with this centre."""
        return Box(centre.x - width / 2, centre.y - height / 2, width, height)

    @property
    def centre(self) -> Point:
        """Its middle."""
        return Point(self.x + self.width / 2, self.y + self.height / 2)

    def overlaps(self, other: Box, gap: float = 0.0) -> bool:
        """Whether the two come closer than ``gap``."""
        return (
            self.x < other.x + other.width + gap
            and other.x < self.x + self.width + gap
            and self.y < other.y + other.height + gap
            and other.y < self.y + self.height + gap
        )


@dataclass(frozen=True)
class Size:
    """Width and height of a label."""

    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """Everything's place: sites' centres, their labels' boxes, the links' labels' boxes, and the whole."""

    sites: tuple[Point, ...]
    site_labels: tuple[Box, ...]
    link_labels: tuple[Box, ...]
    bounds: Box


def lay_out(site_labels: Sequence[Size], links: Sequence[tuple[int, int]], link_labels: Sequence[Size]) -> Layout:
    """Sites on an ellipse that grows until no label touches another label or a site.

    ``links`` are pairs of site numbers, ``link_labels`` their labels' sizes in the same order (or empty for none).
    """
    count = len(site_labels)
    radius = max(150.0, count * SITE_RADIUS * 2.6 / (pi * _ASPECT))
    for _ in range(_MOST_GROWTHS):
        sites = _on_ellipse(count, radius)
        names = tuple(_beside(site, size) for site, size in zip(sites, site_labels, strict=True))
        labels = _place(sites, names, links, link_labels)
        if labels is not None and not _touch(names, sites):
            break
        radius *= _GROWTH
    else:
        labels = tuple(
            Box.around(sites[a].towards(sites[b], 0.5), size.width, size.height)
            for (a, b), size in zip(links, link_labels, strict=bool(link_labels))
        )
    return Layout(sites, names, labels, _bounds(sites, chain(names, labels)))


def _on_ellipse(count: int, radius: float) -> tuple[Point, ...]:
    start = {2: pi, 4: -3 * pi / 4}.get(count, -pi / 2)
    angles = [start + 2 * pi * index / count for index in range(count)]
    return tuple(Point(radius * _ASPECT * cos(angle), radius * sin(angle)) for angle in angles)


def _beside(site: Point, size: Size) -> Box:
    """A site's label, on the side that looks away from the centre."""
    reach = SITE_RADIUS + 8
    distance = hypot(site.x, site.y)
    across, down = site.x / distance, site.y / distance
    if abs(across) < 0.35:
        return Box.around(Point(site.x, site.y + (1 if down > 0 else -1) * (reach + size.height / 2)), *_pair(size))
    side = 1 if across > 0 else -1
    return Box.around(Point(site.x + side * (reach + size.width / 2), site.y + down * SITE_RADIUS * 0.6), *_pair(size))


def _pair(size: Size) -> tuple[float, float]:
    return size.width, size.height


def _touch(names: Sequence[Box], sites: Sequence[Point]) -> bool:
    circles = _circles(sites)
    for index, name in enumerate(names):
        if any(name.overlaps(other, 2) for other in names[:index]):
            return True
        if any(name.overlaps(circle) for place, circle in enumerate(circles) if place != index):
            return True
    return False


def _circles(sites: Iterable[Point]) -> list[Box]:
    return [Box.around(site, 2 * SITE_RADIUS, 2 * SITE_RADIUS) for site in sites]


def _place(
    sites: Sequence[Point], names: Sequence[Box], links: Sequence[tuple[int, int]], sizes: Sequence[Size]
) -> tuple[Box, ...] | None:
    """Each label somewhere on its link, away from other links where it can be; None when one finds no place.

    The shortest links come first, since they have the least choice.
    """
    if not sizes:
        return ()
    taken = [*_circles(sites), *names]
    lines = [(sites[a], sites[b]) for a, b in links]
    careful = len(sites) <= _MOST_CAREFUL_SITES
    placed: dict[int, Box] = {}
    for index in sorted(range(len(links)), key=lambda index: _length(*lines[index])):
        a, b = lines[index]
        if _covered(a, b, sizes[index]) > _MOST_COVERED:
            return None
        boxes = (Box.around(a.towards(b, share), *_pair(sizes[index])) for share in _shares(_length(a, b)))
        free = (box for box in boxes if not any(box.overlaps(other, _GAP) for other in taken))
        # min() keeps the first of equals, and the places nearest to the middle come first.
        others = [line for place, line in enumerate(lines) if place != index] if careful else []
        best = (
            min(free, key=lambda box: sum(_crosses(line, box) for line in others), default=None)
            if careful
            else next(free, None)
        )
        if best is None:
            return None
        placed[index] = best
        taken.append(best)
    return tuple(placed[index] for index in range(len(links)))


def _length(a: Point, b: Point) -> float:
    return hypot(a.x - b.x, a.y - b.y)


def _covered(a: Point, b: Point, size: Size) -> float:
    """The share of a link's visible part that a label on it hides."""
    length = _length(a, b)
    visible = max(length - 2 * SITE_RADIUS, 1.0)
    along = [size.width * length / abs(b.x - a.x)] if abs(b.x - a.x) > 1 else []
    along += [size.height * length / abs(b.y - a.y)] if abs(b.y - a.y) > 1 else []
    return min(along, default=0.0) / visible


def _crosses(line: tuple[Point, Point], box: Box) -> bool:
    """Whether a line runs through a box (Liang and Barsky's clipping)."""
    start, end = line
    low, high = 0.0, 1.0
    for begin, step, least, most in (
        (start.x, end.x - start.x, box.x, box.x + box.width),
        (start.y, end.y - start.y, box.y, box.y + box.height),
    ):
        if step == 0:
            if not least <= begin <= most:
                return False
            continue
        enter, leave = sorted(((least - begin) / step, (most - begin) / step))
        low, high = max(low, enter), min(high, leave)
    return low <= high


def _shares(length: float) -> Iterator[float]:
    """Places along a link: the middle, then ever further out on both sides, up to the sites."""
    yield 0.5
    steps = ceil(length / 2 / 12)
    for step in range(1, steps):
        away = step / steps / 2
        yield 0.5 - away
        yield 0.5 + away


def _bounds(sites: Iterable[Point], boxes: Iterable[Box]) -> Box:
    everything = [*_circles(sites), *boxes]
    left, top = min(box.x for box in everything), min(box.y for box in everything)
    right = max(box.x + box.width for box in everything)
    bottom = max(box.y + box.height for box in everything)
    return Box(left, top, right - left, bottom - top)
