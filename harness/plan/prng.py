"""A small random generator whose numbers are the same on every machine and in every version of Python. Pure.

SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014). Each stream is named, so
that one more draw in one place of a generator leaves all other places as they were.
"""

from __future__ import annotations

import hashlib
import math

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


class Prng:
    """Draws in order. Not for secrets."""

    def __init__(self, seed: int, stream: str = "") -> None:
        self._seed = seed
        digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
        self._state = int.from_bytes(digest[:8], "little")

    def stream(self, name: str) -> Prng:
        """Another generator of the same seed, independent of this one's draws."""
        return Prng(self._seed, name)

    def bits(self) -> int:
        """64 random bits."""
        self._state = (self._state + _GAMMA) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """From ``low`` to ``high``, the latter excluded."""
        return low + (high - low) * (self.bits() >> 11) / (1 << 53)

    def exponential(self, mean: float) -> float:
        """Times between events that have no memory."""
        return -mean * math.log(1.0 - self.uniform())

    def normal(self, mean: float = 0.0, deviation: float = 1.0) -> float:
        """Box and Muller's transform; one value of each pair is used."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self.uniform()))
        return mean + deviation * radius * math.cos(2.0 * math.pi * self.uniform())

    def lognormal(self, median: float, sigma: float) -> float:
        """``median`` times e to a normal value of deviation ``sigma``."""
        return median * math.exp(self.normal(0.0, sigma))
