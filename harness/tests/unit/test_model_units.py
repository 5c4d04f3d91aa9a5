"""Units: what people write becomes exactly one value, and what is not exact or not clear is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model import units

whole = st.integers(min_value=0, max_value=10**18)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("80 ms", 80_000), ("80ms", 80_000), ("80.5 ms", 80_500), ("250 us", 250), ("250 µs", 250), ("1.5 s", 1_500_000)],
)
def test_durations_are_whole_microseconds(text: str, microseconds: int) -> None:
    assert units.parse_duration(text) == microseconds


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100 Mbit/s", 10**8),
        ("780 kbit/s", 780_000),
        ("1.5 Gbit/s", 1_500_000_000),
        ("5 mbit", 5_000_000),
        ("9 bit/s", 9),
    ],
)
def test_rates_are_bits_per_second(text: str, rate: int) -> None:
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "size"), [("64 KiB", 65_536), ("250 kB", 250_000), ("1 MiB", 1 << 20), ("1.5 MB", 1_500_000)]
)
def test_sizes_tell_decimal_from_binary(text: str, size: int) -> None:
    assert units.parse_size(text) == size


def test_shares_are_percentages() -> None:
    assert units.parse_share("1%") == 0.01
    assert units.parse_share("0.1 %") == 0.001
    assert units.parse_packets("2.5 packets") == 2.5


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (units.parse_duration, "80", "80 has no unit; accepted units: us, ms, s"),
        (units.parse_duration, "80 msec", "unknown unit 'msec'; accepted units: us, ms, s"),
        (units.parse_duration, "0.5 us", "not a whole number of microseconds"),
        (units.parse_duration, "-1 ms", "is not a duration"),
        (units.parse_duration, "1e3 ms", "is not a duration"),
        (units.parse_rate, "100 MB/s", "unknown unit 'MB/s'; accepted units: bit/s, kbit/s, Mbit/s, Gbit/s"),
        (units.parse_size, "250 KB", "unknown unit 'KB'"),
        (units.parse_share, "0.01", "0.01 has no unit; accepted units: %"),
        (units.parse_share, "101%", "more than 100%"),
        (units.parse_packets, "8", "accepted units: packets"),
        (units.parse_size, "9" * 5000 + " B", "too long"),
        (units.parse_packets, "9" * 350 + " packets", "is not a number of packets"),
    ],
)
def test_what_is_not_clear_is_refused_with_what_is_accepted(parse: object, text: str, said: str) -> None:
    assert callable(parse)
    with pytest.raises(ValueError) as refused:
        parse(text)
    assert said in str(refused.value)


@settings(deadline=None)
@given(whole)
def test_formats_are_exact(value: int) -> None:
    assert units.parse_duration(units.format_duration(value)) == value
    assert units.parse_rate(units.format_rate(value)) == value
    assert units.parse_size(units.format_size(value)) == value


@settings(deadline=None)
@given(st.floats(min_value=0, max_value=1))
def test_a_share_survives_its_text(share: float) -> None:
    assert units.parse_share(units.format_share(share)) == share


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for parse in (
        units.parse_duration,
        units.parse_rate,
        units.parse_size,
        units.parse_share,
        units.parse_packets,
    ):
        try:
            assert parse(text) >= 0
        except ValueError as refused:
            assert str(refused).isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.format_duration(80_500), "80.5 ms"),
        (units.format_duration(1_000_000), "1 s"),
        (units.format_duration(0), "0 ms"),
        (units.format_rate(100_000_000), "100 Mbit/s"),
        (units.format_rate(128_000), "128 kbit/s"),
        (units.format_size(65_536), "64 KiB"),
        (units.format_size(250_000), "250 kB"),
        (units.brief_duration(80_612.4), "80.6 ms"),
        (units.brief_duration(999.7), "1 ms"),
        (units.brief_duration(0.25), "0.25 us"),
        (units.brief_size(1_006_250), "1.01 MB"),
        (units.brief_rate(94_123_456), "94.1 Mbit/s"),
        (units.brief_share(0.0123456), "1.23%"),
        (units.brief_number(1234.4), "1234"),
    ],
)
def test_texts_read_well(text: str, expected: str) -> None:
    assert text == expected


def test_quoted_values_cannot_drive_a_terminal() -> None:
    assert units.quote("a\x1b[2Jb\n\u202e") == "'a\\x1b[2Jb\\n\\u202e'"
    assert len(units.quote("x" * 500)) == 60
