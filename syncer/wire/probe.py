"""The contents of PROBE records: how two movers measure one direction of their session. Pure. Big-endian:

    REQUEST   type 1 | test 8 | microseconds 8                  send me bulk for so long; 0: end that test
    BULK      type 1 | test 8 | any number of zeros             is counted and thrown away
    LAST      type 1 | test 8                                   the bulk is over
    REPORT    type 1 | test 8 | bytes 8 | microseconds 8        what arrived of that test, from its first record to LAST

The side that wants to know the way towards itself sends a REQUEST and counts; the one that wants to know the way from
itself sends bulk and is told by the REPORT. ``bytes`` are those of all records that arrived meanwhile, files included.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from syncer.errors import WireError

_head = struct.Struct(">BQ")
_request = struct.Struct(">BQQ")
_report = struct.Struct(">BQQQ")

LONGEST_TEST_US = 120_000_000
"""A REQUEST for more is refused: nobody may keep a link busy for ever with one record."""


class ProbeType(IntEnum):
    REQUEST = 1
    BULK = 2
    LAST = 3
    REPORT = 4


class Request(NamedTuple):
    test: int
    microseconds: int


class Bulk(NamedTuple):
    test: int


class Last(NamedTuple):
    test: int


class Report(NamedTuple):
    test: int
    bytes: int
    microseconds: int


Probe = Request | Bulk | Last | Report


def pack_probe(content: memoryview, probe: Probe, bulk_size: int = 0) -> int:
    """Write ``probe`` to the start of ``content``; returns its size. A Bulk takes ``bulk_size`` bytes in all."""
    match probe:
        case Request():
            _request.pack_into(content, 0, ProbeType.REQUEST, *probe)
            return _request.size
        case Bulk():
            _head.pack_into(content, 0, ProbeType.BULK, *probe)
            content[_head.size : bulk_size] = bytes(max(0, bulk_size - _head.size))
            return max(_head.size, bulk_size)
        case Last():
            _head.pack_into(content, 0, ProbeType.LAST, *probe)
            return _head.size
        case Report():
            _report.pack_into(content, 0, ProbeType.REPORT, *probe)
            return _report.size


def unpack_probe(content: memoryview) -> Probe:
    """Raises WireError for anything but one of the four."""
    try:
        type_, test = _head.unpack_from(content)
        if type_ == ProbeType.BULK:
            return Bulk(test)
        if type_ == ProbeType.LAST and len(content) == _head.size:
            return Last(test)
        if type_ == ProbeType.REQUEST:
            request = Request(*_request.unpack(content)[1:])
            if request.microseconds <= LONGEST_TEST_US:
                return request
        if type_ == ProbeType.REPORT:
            return Report(*_report.unpack(content)[1:])
    except struct.error:
        pass
    raise WireError("a malformed record of a speed test")
