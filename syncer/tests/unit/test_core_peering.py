"""What is told of an index at once: little enough for a slow link, and always something."""

from __future__ import annotations

from syncer.core.peering import DELTA_ENTRIES, bounded
from syncer.core.records import Content, Entry, Kind
from syncer.wire import control
from syncer.wire.control import Frame, IndexDelta

DIGEST = bytes(32)
SLOW_LINK_BYTES = 200_000
"""What TCP carries in the 5 s of silence that end a connection, at 300 ms and 2 % of loss."""


def entry(number: int, *, name: int, blocks: int) -> Entry:
    path = b"%d" % number + b"n" * name
    content = Content(blocks << 17, DIGEST, 1 << 17, DIGEST * blocks)
    vector = tuple((f"site-{actor}.0badcafe", 3) for actor in range(4))
    return Entry(path=path, kind=Kind.FILE, mode=0o644, content=content, vector=vector, origin="site-0", dot=vector[0])


def test_a_delta_fits_a_slow_link_whatever_is_in_it() -> None:
    for name, blocks in ((20, 1), (3800, 1), (20, 2000), (200, 60)):
        entries = [(number, entry(number, name=name, blocks=blocks)) for number in range(1, DELTA_ENTRIES + 1)]
        taken = bounded(entries)
        assert 1 <= len(taken) <= DELTA_ENTRIES
        assert taken == entries[: len(taken)]
        delta = IndexDelta(entries=taken, upto=taken[-1][0], last=False)
        assert len(control.encode(Frame(1, 0, 0, [delta]))) < SLOW_LINK_BYTES
