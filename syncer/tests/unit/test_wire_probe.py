"""The contents of a speed test's records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import WireError
from syncer.wire.probe import LONGEST_TEST_US, Bulk, Last, Probe, Report, Request, pack_probe, unpack_probe

NUMBER = st.integers(0, (1 << 64) - 1)
PROBES: st.SearchStrategy[Probe] = st.one_of(
    st.builds(Request, NUMBER, st.integers(0, LONGEST_TEST_US)),
    st.builds(Bulk, NUMBER),
    st.builds(Last, NUMBER),
    st.builds(Report, NUMBER, NUMBER, NUMBER),
)


@given(PROBES, st.integers(0, 300))
def test_what_is_packed_is_unpacked(probe: Probe, bulk: int) -> None:
    content = memoryview(bytearray(b"\xff" * 400))
    size = pack_probe(content, probe, bulk)
    assert unpack_probe(content[:size]) == probe
    if isinstance(probe, Bulk):
        assert size == max(9, bulk)
        assert not any(content[9:size])


@given(st.binary(max_size=40))
def test_anything_else_is_refused_and_nothing_crashes(data: bytes) -> None:
    try:
        probe = unpack_probe(memoryview(data))
    except WireError:
        return
    content = memoryview(bytearray(64))
    assert pack_probe(content, probe) <= len(data)


def test_a_request_for_an_endless_test_is_refused() -> None:
    content = memoryview(bytearray(64))
    size = pack_probe(content, Request(1, LONGEST_TEST_US + 1))
    with pytest.raises(WireError):
        unpack_probe(content[:size])
