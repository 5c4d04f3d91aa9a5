"""What is sent: bytes that do not compress and that either end can make again from a seed, for next to no CPU."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

from blake3 import blake3

PERIOD = 4 * 1024 * 1024 + 4093
"""Odd, so that no buffer of a round size meets the same bytes at the same place again."""

_PIECE = 1024 * 1024


@functools.lru_cache(maxsize=4)
def _period(seed: int) -> bytes:
    return random.Random(seed).randbytes(PERIOD)


class Content:
    """One connection's endless stream: each ``flow`` begins at another place of the period."""

    def __init__(self, seed: int, flow: int) -> None:
        self._period = memoryview(_period(seed))
        self._begin = flow * 65_537 % PERIOD

    def pieces(self, size: int | None = None) -> Iterator[memoryview]:
        """The first ``size`` bytes, or without end."""
        left, at = size, self._begin
        while left is None or left > 0:
            piece = self._period[at : at + (_PIECE if left is None else min(left, _PIECE))]
            at = (at + len(piece)) % PERIOD
            if left is not None:
                left -= len(piece)
            yield piece

    def digest(self, size: int) -> str:
        """The BLAKE3 of the first ``size`` bytes."""
        hasher = blake3()
        for piece in self.pieces(size):
            hasher.update(piece)
        return hasher.hexdigest()
