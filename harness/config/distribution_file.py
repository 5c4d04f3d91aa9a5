"""Files of a delay's distribution: iproute2's tables (``.dist``), and plain lists of measured delays."""

from __future__ import annotations

import re

from harness.model.delay_shape import custom_distribution, shape_of_samples
from harness.model.impairment import DelayDistribution
from harness.model.units import quote

MOST_BYTES = 4 << 20
MOST_TABLE_VALUES = 16_384
_TABLE_SCALE = 8192
_INT16 = range(-(1 << 15), 1 << 15)
_NUMBER = re.compile(r"[-+]?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?")


def distribution_of_table(text: str) -> DelayDistribution:
    """A table as ``tc`` reads it: whole numbers in units of 1/8192 of the jitter, ``#`` begins a comment.

    Raises ValueError that names the line.
    """
    values = []
    for number, line in enumerate(text.splitlines(), start=1):
        for word in line.partition("#")[0].split():
            if not re.fullmatch(r"-?[0-9]{1,6}", word) or int(word) not in _INT16:
                raise ValueError(f"line {number}: {quote(word)} is not a whole number from -32768 to 32767")
            values.append(int(word) / _TABLE_SCALE)
    if not 2 <= len(values) <= MOST_TABLE_VALUES:
        raise ValueError(f"it has {len(values)} values; a table has 2 to {MOST_TABLE_VALUES}")
    return custom_distribution(values)


def distribution_of_samples(text: str) -> DelayDistribution:
    """One measured delay a line, all in one unit, whichever: only their shape counts. ``#`` begins a comment.

    Raises ValueError that names the line.
    """
    samples = []
    for number, line in enumerate(text.splitlines(), start=1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        if not _NUMBER.fullmatch(word):
            raise ValueError(f"line {number}: {quote(word)} is not a number")
        samples.append(float(word))
    return shape_of_samples(samples)
