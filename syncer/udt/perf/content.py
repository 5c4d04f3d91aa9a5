"""What is sent: bytes that do not compress and that either end can make again from a seed, for next to no CPU."""

from __future__ import annotations

import random
from collections.abc import Iterator

from blake3 import blake3

PERIOD = 4 * 1024 * 1024 + 4093
"""Odd, so that no buffer of a round size meets the same bytes at the same place again."""

_PIECE = 1024 * 1024


class Content:
    """One connection's endless stream: each ``flow`` begins at another place of the period."""

    def __init__(self, seed: int, flow: int) -> None:
        period = random.Random(seed).randbytes(PERIOD)
        begin = flow * 65_537 % PERIOD
        self._period = memoryview(period[begin:] + period[:begin])

    def pieces(self, size: int | None = None) -> Iterator[memoryview]:
        """The first ``size`` bytes, or without end."""
        left = size
        while left is None or left > 0:
            for at in range(0, PERIOD, _PIECE):
                piece = self._period[at : at + _PIECE]
                if left is not None:
                    piece = piece[:left]
                    left -= len(piece)
                if piece:
                    yield piece

    def digest(self, size: int) -> str:
        """The BLAKE3 of the first ``size`` bytes."""
        hasher = blake3()
        for piece in self.pieces(size):
            hasher.update(piece)
        return hasher.hexdigest()
