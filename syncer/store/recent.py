"""What the index was asked or told lately, so that the same rows are not read and decoded again and again.

A file on its way through the engine is looked up some ten times within seconds (when it is announced, wanted, served,
installed, told on), each time by its path, and then told to every peer in the order of sequence numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from syncer.core.records import Entry, Fingerprint

TAIL_ROWS = 16_384
TAIL_BYTES = 16 << 20
"""Of paths and block lists in the tail; the rest of a row is some 500 bytes."""

READ_ROWS = 16_384


class Row(Protocol):
    """A stored entry."""

    @property
    def seq(self) -> int: ...
    @property
    def entry(self) -> Entry: ...


R = TypeVar("R", bound=Row)


class Recent(Generic[R]):
    """The last rows that were committed (all of them, from some sequence number on), and rows read since.

    Bounded in rows and in bytes. Its owner tells it of every commit; then what it holds is what the database holds.
    """

    def __init__(self, refresh: Callable[[R, Fingerprint | None], R]) -> None:
        """``refresh`` makes a row with another fingerprint."""
        self._refresh = refresh
        self._tail: deque[R] = deque()
        self._tail_bytes = 0
        self._current: dict[bytes, R] = {}
        self._read: dict[bytes, R | None] = {}

    def committed(self, rows: Iterable[R]) -> None:
        """These rows were written, in the order of their sequence numbers, which follow on from those before."""
        for row in rows:
            path = row.entry.path
            self._read.pop(path, None)
            self._tail.append(row)
            self._tail_bytes += _weight(row)
            self._current[path] = row
        while len(self._tail) > TAIL_ROWS or (self._tail_bytes > TAIL_BYTES and self._tail):
            gone = self._tail.popleft()
            self._tail_bytes -= _weight(gone)
            if self._current.get(gone.entry.path) is gone:
                del self._current[gone.entry.path]

    def read(self, path: bytes, row: R | None) -> None:
        """The database has this row at ``path``; None: it has none."""
        if len(self._read) >= READ_ROWS:
            self._read.clear()
        self._read[path] = row

    def refreshed(self, path: bytes, fingerprint: Fingerprint | None) -> None:
        """The row at ``path`` has this fingerprint now, under the same sequence number."""
        self._read.pop(path, None)
        old = self._current.get(path)
        if old is not None:
            row = self._refresh(old, fingerprint)
            self._tail[row.seq - self._tail[0].seq] = self._current[path] = row

    def find(self, path: bytes, missing: R | None) -> R | None:
        """The row at ``path``; None when there is none, ``missing`` when that is not known here."""
        row = self._current.get(path)
        if row is not None:
            return row
        return self._read.get(path, missing)

    def since(self, seq: int, limit: int) -> list[R] | None:
        """Up to ``limit`` rows above ``seq`` that still stand, in order; None when that is not known here."""
        if not self._tail or seq + 1 < self._tail[0].seq:
            return None
        found: list[R] = []
        for index in range(seq + 1 - self._tail[0].seq, len(self._tail)):
            row = self._tail[index]
            if self._current[row.entry.path] is row:
                found.append(row)
                if len(found) == limit:
                    break
        return found


def _weight(row: Row) -> int:
    entry = row.entry
    return len(entry.path) + (len(entry.content.blocks) if entry.content is not None else 0)
