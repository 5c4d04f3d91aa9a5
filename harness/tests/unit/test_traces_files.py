"""Trace files in every form: what they say, and where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.problems import DocumentError
from harness.config.trace_file import TraceNotFound, find_trace, load_trace, parse_trace, trace_text
from harness.config.trace_import import PACKET_BITS, import_mahimahi, looks_like
from harness.model.trace import SLOWEST_BPS, Course, Trace
from harness.model.trace_facts import facts

GOLDEN = Path(__file__).parents[1] / "golden" / "traces"


def test_mahimahi_keeps_the_amount_the_best_second_and_the_gap() -> None:
    trace = load_trace(GOLDEN / "gap.down")
    found = facts(trace.down, trace.duration_us)
    assert trace.duration_us == 2_000_000
    assert found.mean_rate_bps == pytest.approx(1_600 * PACKET_BITS / 2, rel=1e-6)
    assert found.best_second_bps == pytest.approx(12e6, rel=1e-3)
    assert found.longest_gap_us == pytest.approx(700_000, abs=1_000)
    assert trace.up is None


def test_mahimahi_repeats_the_shorter_direction() -> None:
    both = import_mahimahi(
        (GOLDEN / "gap.down").read_text(), "gap.down", name="gap", up=((GOLDEN / "steady.up").read_text(), "steady.up")
    )
    assert both.up is not None
    assert both.up.at_us[0] == 0
    assert facts(both.up, both.duration_us).mean_rate_bps == pytest.approx(3e6, rel=1e-6)


@given(
    st.lists(st.integers(0, 3_000), min_size=1, max_size=300).map(sorted).filter(lambda times: times[-1] > 0),
    st.integers(1, 400),
)
def test_mahimahi_never_invents_or_loses_packets(times: list[int], window_ms: int) -> None:
    trace = import_mahimahi("\n".join(map(str, times)), "f", name="f", window_ms=window_ms)
    spans = zip(trace.down.at_us, (*trace.down.at_us[1:], trace.duration_us), trace.down.rate_bps, strict=True)
    bits = sum((end - begin) * rate / 1e6 for begin, end, rate in spans)
    assert bits == pytest.approx(len(times) * PACKET_BITS, abs=5 + len(times))
    assert min(trace.down.rate_bps) >= SLOWEST_BPS


def test_csv_takes_units_comments_holds_and_a_time_of_day() -> None:
    down = load_trace(GOLDEN / "modem.csv").down
    assert down == Course(
        at_us=(0, 1_000_000, 2_000_000, 4_000_000),
        rate_bps=(8_000_000, 8_000_000, SLOWEST_BPS, 12_500_500),
        delay_us=(40_000, 45_500, 45_500, 45_500),
        loss=(0.0, 0.007, 0.007, 1.0),
    )


def test_json_has_a_course_for_each_direction() -> None:
    trace = load_trace(GOLDEN / "modem.json")
    assert (trace.name, trace.source_note, trace.duration_us) == ("modem", "own recording", 6_000_000)
    assert trace.down == Course(at_us=(0, 2_500_000), rate_bps=(8_000_000, 500_000), delay_us=(40_000, 40_000))
    assert trace.up == Course(at_us=(0, 5_000_000), blocked=(False, True))


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("1\nx\n3\n", "2:1", "whole number of milliseconds, found 'x'"),
        ("1\n5\n3\n", "3:1", "times must not descend"),
        ("0\n0\n", "2:1", "above 0"),
        ("time_s,rat_kbps\n0,1\n", "1:1", "did you mean 'rate_kbps'?"),
        ("time_s,rate\n0,1\n", "1:1", "accepted: rate_bps, rate_kbps, rate_mbps, rate_gbps"),
        ("time_s,rate_kbps,rate_mbps\n0,1,1\n", "1:1", "both say the rate of down"),
        ("time_s,up_rate_kbps\n0,1\n", "1:1", "for up alone"),
        ("time_s,rate_kbps\n0,1\n0,2\n", "3:1", "not after that of the row before"),
        ("time_s,rate_kbps\n\n0,1\n1,nan\n", "4:1", "expected a number, found 'nan'"),
        ("time_s,rate_kbps\n0,1\n1,2,3\n", "3:1", "3 values, but 2 columns"),
        ("time_s,loss_pct\n0,101\n", "2:1", "accepted: 0 to 100"),
        ("time_s,blocked\n0,2\n", "2:1", "accepted: 0, 1"),
        ("time_s,rate_kbps\n0,\n", "2:1", "has no value"),
        ("time_s,rate_kbps\n", "1:1", "no row"),
        ('[{"time_s": 0, "delay_ms": 1},\n\n {"time_s": 1, "delay_ms": -1}]', "3:1", "accepted: 0 to 60000"),
        ('{"points": [],\n "x": 1}', "2:1", "unknown key 'x'"),
        ('{"points": [\n', "2:1", "not valid JSON"),
        ("version: 1\nname: x\nduration: 1 s\n", "3:1", "no line ---"),
        ("version: 1\nname: x\nduration: 1\n---\ntime_s,delay_ms\n0,1\n", "3:11", "1 has no unit"),
        ("version: 1\nname: x\nduration: 1 s\n---\ntime_s,delay_ms\n0,1\n1,2\n", "3:11", "not within the duration"),
        ("version: 1\nname: x\nduration: 1 s\n---\ntime_s,delay_ms\n0.5,1\n", "6:1", "must be 0"),
    ],
)
def test_a_mistake_has_its_line(text: str, place: str, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_trace(text.encode(), Path("bad"))
    assert str(caught.value).startswith(f"bad:{place}: ")
    assert words in str(caught.value)


def test_bytes_that_are_no_text_have_their_line() -> None:
    with pytest.raises(DocumentError, match=r"bad:2:1: .*UTF-8"):
        parse_trace(b"1\n\xff\n", Path("bad"))


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(TraceNotFound, match="did you mean 'lte-driving'") as caught:
        find_trace("lte-drivin")
    assert "train-tunnels" in (caught.value.hint or "")


def test_a_trace_beside_a_topology_comes_first(tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "lte-driving.trace").touch()
    assert find_trace("lte-driving", beside=tmp_path / "wan.yaml") == tmp_path / "traces" / "lte-driving.trace"


@pytest.mark.parametrize(
    ("text", "form"),
    [("5\n6\n", "mahimahi"), (" [1]", "json"), ("time_s,rate_bps\n", "csv"), ("version: 1\n", "native")],
)
def test_forms_are_told_apart(text: str, form: str) -> None:
    assert looks_like(text) == form


def _courses() -> st.SearchStrategy[Course]:
    times = st.sets(st.integers(1, 9_999_999), max_size=6).map(lambda some: (0, *sorted(some)))

    def fill(at_us: tuple[int, ...]) -> st.SearchStrategy[Course]:
        def column(values: st.SearchStrategy[object], needed: bool = False) -> st.SearchStrategy[tuple[object, ...]]:
            whole = st.lists(values, min_size=len(at_us), max_size=len(at_us)).map(tuple)
            return whole if needed else st.one_of(st.just(()), whole)

        return st.builds(
            Course,
            at_us=st.just(at_us),
            rate_bps=column(st.integers(SLOWEST_BPS, 10**10), needed=True),
            delay_us=column(st.integers(0, 60_000_000)),
            loss=column(st.integers(0, 10_000).map(lambda share: share / 10_000)),
            blocked=column(st.booleans()),
            buffer_bytes=st.one_of(st.none(), st.integers(1, 10**6)),
        ).map(Course.compacted)

    return times.flatmap(fill)


@given(_courses(), st.one_of(st.none(), _courses()))
def test_what_is_written_reads_back_equal(down: Course, up: Course | None) -> None:
    trace = Trace(name="a", title='say "hi" \\', source_note="ä: #", duration_us=10_000_000, down=down, up=up)
    assert parse_trace(trace_text(trace).encode(), Path("a.trace")) == trace
