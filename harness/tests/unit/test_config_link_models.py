"""The keys of every model of a link: what they mean, what is refused and where, lines in series, and keys as text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.link_text import FIELDS_OF_KEY, parse_impairment_fields
from harness.config.problems import DocumentError
from harness.config.series import NotInSeries, in_series
from harness.config.topology_file import parse_topology
from harness.errors import InputError
from harness.model.impairment import (
    ActiveQueue,
    Chance,
    DelayDistribution,
    FourStateLoss,
    Framing,
    GilbertElliottLoss,
    Impairment,
    IndependentLoss,
    Reordering,
    Slots,
)

HEAD = "version: 1\nname: t\nsites: {a: , b: }\nlinks:\n  - between: [a, b]\n"


def link(keys: str, folder: Path = Path()) -> Impairment:
    text = HEAD + "".join(f"    {line}\n" for line in keys.splitlines())
    return parse_topology(text.encode(), folder / "t.yaml").link("a", "b").impairment


@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        ("distribution: pareto", {"distribution": DelayDistribution(kind="pareto")}),
        ("in_order: false", {"in_order": False}),
        ("delay_correlation: 25%", {"delay_correlation": 0.25}),
        ("loss: {p13: 1%, p31: 20%, p14: 0.1%}", {"loss": FourStateLoss(p13=0.01, p31=0.2, p14=0.001)}),
        ("loss: {share: 1%, correlation: 25%}", {"loss": IndependentLoss(probability=0.01, correlation=0.25)}),
        ("loss: 1%\necn_marks: true", {"loss": IndependentLoss(probability=0.01), "loss_marks": True}),
        ("duplicate: 0.5%", {"duplicate": Chance(share=0.005)}),
        ("corrupt: {share: 1%, correlation: 2%}", {"corrupt": Chance(share=0.01, correlation=0.02)}),
        ("reorder: {share: 10%, gap: 5 packets}", {"reorder": Reordering(share=0.1, gap=5)}),
        ("slots: {min: 2 ms, packets: 9 packets}", {"slots": Slots(min_delay_us=2000, max_delay_us=2000, packets=9)}),
        (
            "slots: {delay: 9 ms, jitter: 1 ms, distribution: pareto, bytes: 64 kB}",
            {
                "slots": Slots(
                    delay_us=9000, jitter_us=1000, bytes=64_000, distribution=DelayDistribution(kind="pareto")
                )
            },
        ),
        ("down: true", {"blocked": True}),
    ],
)
def test_a_key_and_what_it_means(keys: str, fields: dict[str, object]) -> None:
    base = Impairment(delay_us=20_000, jitter_us=5_000)
    assert link(f"delay: 20 ms\njitter: 5 ms\n{keys}") == base.model_copy(update=fields)


@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        ("buffer: 100 packets", {"buffer_packets": 100}),
        ("buffer: 100 ms", {"buffer_bytes": 100_000}),
        ("queue: codel", {"active_queue": ActiveQueue(discipline="codel")}),
        (
            "queue: {fq_codel: {target: 7 ms, ecn: true}}\nbuffer: 90 kB",
            {"active_queue": ActiveQueue(discipline="fq-codel", target_us=7000, ecn=True), "buffer_bytes": 90_000},
        ),
        ("queue: drop-tail\nbuffer: 90 kB", {"buffer_bytes": 90_000}),
        ("framing: adsl-pppoe", {"framing": Framing(overhead=40, cell=48, cell_overhead=5), "buffer_bytes": 65_536}),
        ("framing: {overhead: 8 B}", {"framing": Framing(overhead=8), "buffer_bytes": 65_536}),
    ],
)
def test_a_key_of_the_bottleneck_and_what_it_means(keys: str, fields: dict[str, object]) -> None:
    assert link(f"delay: 20 ms\nrate: 8 Mbit/s\n{keys}") == Impairment(delay_us=20_000, rate_bps=8_000_000, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "where", "said"),
    [
        ("distribution: gauss", "7:19", "'gauss' is not a distribution; accepted: uniform, normal, pareto"),
        ("distribution: gone.dist", "7:19", "there is no file"),
        ("distribution: {samples: gone.txt}", "7:19", "there is no file"),
        ("in_order: maybe", "7:15", "expected true or false, found 'maybe'"),
        ("loss: {p13: 60%, p14: 50%, p31: 1%}", "7:11", "together they must not be above 100%"),
        ("loss: {p13: 60%, p31: 0%}", "7:11", "a burst would never end"),
        ("duplicate: 1", "7:16", "1 has no unit"),
        ("reorder: {share: 1%, gap: 0 packets}", "7:31", "out of range"),
        ("slots: {packets: 3 packets}", "7:12", "slots need either min (and max), or delay and jitter"),
        ("slots: {min: 4 ms, max: 2 ms, packets: 3 packets}", "7:12", "max must not be below min"),
        ("rate: 1 Mbit/s\n    queue: red", "8:12", "accepted: drop-tail, codel, fq_codel"),
        ("rate: 1 Mbit/s\n    framing: atm", "8:14", "accepted: ethernet, docsis, vdsl-pppoe"),
        ("rate: 1 Mbit/s\n    framing: {cell_overhead: 5 B}", "8:14", "cell_overhead needs a cell"),
        ("queue: codel", "7:12", "an active queue needs a rate"),
        ("framing: ethernet", "7:14", "framing needs a rate"),
        ("buffer: 9 packets", "7:13", "a buffer needs a rate"),
        ("distribution: normal", "7:19", "distribution needs a jitter"),
        ("ecn_marks: true", "7:16", "marks need a loss"),
        ("rate: 1 Mbit/s\n    buffer: 1.5 packets", "8:13", "not a whole number of packets"),
    ],
)
def test_a_mistake_is_named_where_it_stands(keys: str, where: str, said: str) -> None:
    with pytest.raises(DocumentError) as refused:
        link(f"delay: 20 ms\n{keys.replace('    ', '')}")
    assert f"t.yaml:{where}" in str(refused.value.problems[0].where)
    assert said in refused.value.problems[0].message


def test_distributions_are_read_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.dist").write_text("-8192 0 8192\n")
    (tmp_path / "delays.txt").write_text("\n".join(str(10 + n % 5) for n in range(50)))
    keys = "delay: 20 ms\njitter: 5 ms\ndistribution: "
    assert link(keys + "mine.dist", tmp_path).distribution.quantiles == (-1.0, 0.0, 1.0)
    assert link(keys + "{samples: delays.txt}", tmp_path).distribution.kind == "custom"
    (tmp_path / "bad.txt").write_text("1\nfast\n")
    with pytest.raises(DocumentError, match="line 2: 'fast' is not a number"):
        link(keys + "{samples: bad.txt}", tmp_path)


def test_two_lines_in_series() -> None:
    first = Impairment(
        delay_us=1000,
        jitter_us=500,
        distribution=DelayDistribution(kind="normal"),
        in_order=False,
        duplicate=Chance(share=0.5),
        rate_bps=1_000_000,
        framing=Framing(overhead=40),
        buffer_packets=9,
        reorder=Reordering(share=0.5, gap=3),
    )
    second = Impairment(
        delay_us=2000,
        jitter_us=100,
        duplicate=Chance(share=0.5, correlation=0.1),
        rate_bps=9_000_000,
        active_queue=ActiveQueue(discipline="codel"),
        reorder=Reordering(share=0.1),
        blocked=True,
    )
    both = in_series(first, second)
    assert (both.delay_us, both.jitter_us, both.distribution.kind, both.in_order) == (3000, 600, "normal", False)
    assert (both.rate_bps, both.framing, both.buffer_packets, both.active_queue) == (1_000_000, first.framing, 9, None)
    assert both.duplicate is not None and both.duplicate.share == 0.75
    assert both.reorder == Reordering(share=0.55, gap=1)
    assert both.blocked
    bursts = Impairment(loss=GilbertElliottLoss(good_to_bad=0.1, bad_to_good=0.2))
    with pytest.raises(NotInSeries, match="burst loss meets burst loss"):
        in_series(bursts, bursts)


@given(st.integers(0, 10**6), st.sampled_from([None, 10**6, 10**7]))
def test_a_line_that_does_nothing_changes_nothing_in_series(delay_us: int, rate_bps: int | None) -> None:
    line = Impairment(delay_us=delay_us, rate_bps=rate_bps, loss=IndependentLoss(probability=0.01))
    assert in_series(line, Impairment()) == in_series(Impairment(), line) == line


def test_keys_as_text_are_fields_of_an_impairment() -> None:
    assert parse_impairment_fields({"loss": "{mean: 1%, burst: 8 packets}", "delay": "80ms"}) == {
        "delay_us": 80_000,
        "loss": GilbertElliottLoss(good_to_bad=0.01 / 8 / 0.99, bad_to_good=0.125),
    }
    now = Impairment(rate_bps=8_000_000, buffer_bytes=1, active_queue=ActiveQueue(discipline="codel"))
    assert parse_impairment_fields({"buffer": "100 ms"}, now) == {"buffer_bytes": 100_000, "buffer_packets": None}
    unlimited = parse_impairment_fields({"rate": "unlimited"}, now)
    assert unlimited == dict.fromkeys(("rate_bps", "buffer_bytes", "buffer_packets", "framing", "active_queue"))
    assert parse_impairment_fields({"loss": "none", "in_order": "false"}) == {"loss": None, "in_order": False}
    assert set().union(*FIELDS_OF_KEY.values()) == set(Impairment.model_fields), "each field has its key"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"los": "1%"}, "did you mean 'loss'"),
        ({"loss": "7"}, "loss: 7 has no unit"),
        ({"rate": "{"}, "rate: not valid YAML"),
        ({"buffer": "1 kB"}, "buffer needs a rate"),
        ({"queue": "codel"}, "queue needs a rate"),
        ({"reorder": "1%"}, "reorder needs a delay"),
        ({"delay": ""}, "delay: "),
    ],
)
def test_text_that_is_not_accepted_names_its_key(texts: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_impairment_fields(texts)
