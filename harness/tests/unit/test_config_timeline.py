"""The timeline of a topology file: what it means, and where its mistakes are."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from harness.config.json_schema import topology_schema
from harness.config.problems import DocumentError
from harness.config.timeline_events import event_of_keys
from harness.config.topology_file import parse_topology
from harness.errors import InputError
from harness.model import timeline as model
from harness.model.timeline import LinkChoice

HEAD = """version: 1
name: x
sites: {a: {disk: 64 MB, more_nodes: [db]}, b: , c: {nat: true}}
defaults: {rtt: 20 ms, rate: 10 Mbit/s}
timeline:
"""


def parsed(*events: str) -> tuple[model.TimelineEvent, ...]:
    text = HEAD + "".join(f"  - {{{event}}}\n" for event in events)
    return parse_topology(text.encode(), Path("x.yaml")).timeline


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("do: blackout, site: a, at: 1 s, for: 2 s", model.Outage(site="a", at_s=1, duration_s=2)),
        (
            "do: change, between: [a, b], at: 0 s, rtt: 80 ms, without: [loss]",
            model.Change(links=LinkChoice(pairs=(("a", "b"), ("b", "a"))), fields={"delay_us": 40_000, "loss": None}),
        ),
        (
            "do: change, from: a, to: b, at: 0 s, rate: 1 Mbit/s, buffer: 100 ms",
            model.Change(
                links=LinkChoice(pairs=(("a", "b"),)),
                fields={"rate_bps": 10**6, "buffer_bytes": 12_500, "buffer_packets": None},
            ),
        ),
        (
            "do: flap, links: [a>b, b > c], at: 0 s, down: 1 s, up: 2 s, flaps: 3, every: 10 s",
            model.Flap(links=LinkChoice(pairs=(("a", "b"), ("b", "c"))), down_s=1, up_s=2, flaps=3, every_s=10),
        ),
        ("do: nat-rebind, site: c, at: 3 s", model.NatRebind(site="c", at_s=3)),
        ("do: disk-full, node: a.db, at: 0 s, free: 1 MB", model.DiskFull(node="a.db", free_bytes=10**6)),
        ("do: clock-jump, node: b, at: 0 s, offset: -1.5 s", model.ClockJump(node="b", offset_s=-1.5)),
        ("do: clock-skew, node: b, at: 0 s, gains: -0.5%", model.ClockSkew(node="b", rate=-0.005)),
    ],
)
def test_what_is_written_is_meant(written: str, meant: model.TimelineEvent) -> None:
    assert parsed(written) == (meant,)


@pytest.mark.parametrize(
    ("written", "column", "said"),
    [
        ("do: explode, at: 1 s", 5, "accepted after `do:` are outage, change"),
        ("do: outage, site: a, at: 1 s", 5, "the key 'for' is missing"),
        ("do: outage, site: d, at: 1 s, for: 1 s", 24, "there is no site 'd'"),
        ("do: outage, site: a, at: 1 s, for: 2 s, every: 2 s", 5, "`every` must be longer"),
        ("do: pause, node: a.web, at: 1 s", 23, "there is no node 'a.web'; nodes: a, a.db, b, c"),
        ("do: black-hole, at: 1 s", 5, "say which links in one way"),
        ("do: black-hole, all: true, site: a, at: 1 s", 5, "found site and all"),
        ("do: black-hole, links: [a-b], at: 1 s", 30, "SITE>SITE"),
        ("do: black-hole, links: [a>d], at: 1 s", 30, "there is no site 'd'"),
        ("do: change, all: true, at: 1 s", 5, "nothing changes"),
        ("do: change, all: true, at: 1 s, los: 1%", 38, "did you mean 'loss'?"),
        ("do: change, all: true, at: 1 s, buffer: 100 ms", 5, "buffer needs a rate"),
        ("do: flap, all: true, at: 1 s, down: 1 s, up: 1 s", 5, "state how often"),
        ("do: ramp, all: true, at: 1 s, over: 10000 s, step: 1 ms, loss: 1%", 5, "more than 10000 steps"),
        ("do: partition, groups: [[a, b], [b]], at: 1 s", 5, "'b' stands twice"),
        ("do: kill, node: a, at: 1 s", 5, "`role` or `command`"),
        ("do: kill, node: a, command: 'x(', at: 1 s", 34, "no regular expression"),
        ("do: disk-full, node: b, at: 1 s", 27, "write `disk: 1 GB` under the site 'b'"),
        ("do: nat-rebind, site: a, at: 1 s", 28, "'a' is not behind NAT"),
        ("do: play, all: true, trace: never-made, at: 1 s", 34, "there is no trace 'never-made'"),
        ("do: play, all: true, trace: lte-driving, offset: 9000 s, loop: false, at: 1 s", 55, "ends before 9000 s"),
        ("do: change, links: [a>b, a>a], loss: 1%, at: 1 s", 31, "a link from 'a' to itself"),
        ("do: clock-jump, node: a, offset: --5 s, at: 1 s", 39, "is not a duration"),
    ],
)
def test_a_mistake_has_its_place(written: str, column: int, said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parsed(written)
    first = caught.value.problems[0]
    assert (first.line, first.column) == (6, column), str(first)
    assert said in first.message


def test_the_schema_knows_each_kind() -> None:
    schema = json.loads(topology_schema())
    document = {"version": 1, "name": "x", "sites": {"a": {}, "b": None}, "defaults": {"rtt": "1 ms"}}
    good = {"do": "partition", "groups": [["a"], ["b"]], "at": "0 s"}
    jsonschema.validate({**document, "timeline": [good]}, schema)
    for bad in ({**good, "group": []}, {"do": "partition", "at": "0 s"}, {"do": "explode", "at": "0 s"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**document, "timeline": [bad]}, schema)


def test_one_event_from_keys_is_checked_as_in_a_file() -> None:
    topology = parse_topology(HEAD.replace("timeline:\n", "").encode(), Path("x.yaml"))
    assert event_of_keys({"do": "pause", "node": "b", "for": "2 s"}, topology) == model.Pause(node="b", duration_s=2)
    for keys, said in (
        ({"do": "pause", "node": "d"}, "no node 'd'"),
        ({"do": "disk-full", "node": "c"}, "disk: 1 GB"),
        ({"do": "pause", "node": "b", "for": "2"}, "has no unit"),
    ):
        with pytest.raises(InputError, match=said):
            event_of_keys(keys, topology)


def test_a_trace_that_cannot_be_read_is_told_before_a_lab_is_built(tmp_path: Path) -> None:
    (tmp_path / "bad.trace").write_text("12\nabc\n")
    topology = HEAD + 2 * "  - {do: play, all: true, trace: bad.trace, at: 1 s}\n"
    with pytest.raises(DocumentError, match=r"bad\.trace:2:1") as caught:
        parse_topology(topology.encode(), tmp_path / "x.yaml")
    assert len(caught.value.problems) == 1
