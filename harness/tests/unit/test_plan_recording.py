"""A recording, written to a file and read back, does the same again at the same times."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.shipped import find_topology
from harness.config.topology_file import load_topology, parse_topology
from harness.config.written_keys import topology_text
from harness.lab.links import LinkState, Overlay, with_overlay, without_overlay
from harness.model import impairment as wan
from harness.model import timeline as model
from harness.model.impairment import Impairment
from harness.model.topology import CrossTraffic
from harness.plan.recording import BaseChange, FaultDone, recorded_events
from harness.plan.timeline import links_touched, steps
from harness.tests.lab_topologies import two_sites

LINKS = (("east", "west"), ("west", "east"))
END_S = 100.0

shares = st.integers(1, 99).map(lambda percent: percent / 100)
impairments = st.builds(
    lambda values, rated: Impairment(**values, **(rated or {})),
    st.fixed_dictionaries(
        {"delay_us": st.integers(1, 10**6)},
        optional={
            "jitter_us": st.integers(0, 10),
            "loss": st.none()
            | st.builds(wan.IndependentLoss, probability=shares)
            | st.builds(wan.GilbertElliottLoss, good_to_bad=shares, bad_to_good=shares, loss_in_bad=shares),
            "duplicate": st.none() | st.builds(wan.Chance, share=shares, correlation=shares),
            "corrupt": st.none() | st.builds(wan.Chance, share=shares),
            "reorder": st.none() | st.builds(wan.Reordering, share=shares, gap=st.integers(1, 9)),
            "in_order": st.booleans(),
            "distribution": st.sampled_from(["uniform", "normal", "pareto"]).map(
                lambda kind: wan.DelayDistribution(kind=kind)
            ),
        },
    ),
    st.none()
    | st.fixed_dictionaries(
        {"rate_bps": st.integers(1, 10**6).map(lambda kbit: kbit * 1000)},
        optional={
            "buffer_bytes": st.integers(1500, 10**6),
            "active_queue": st.none() | st.builds(wan.ActiveQueue, discipline=st.sampled_from(["codel", "fq-codel"])),
        },
    ),
)
moments = st.integers(0, 99_000).map(lambda milliseconds: milliseconds / 1000)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(moments, st.sampled_from(LINKS), impairments), max_size=6, unique_by=lambda one: one[0]))
def test_links_changed_by_hand_change_again(made: list[tuple[float, tuple[str, str], Impairment]]) -> None:
    topology = two_sites()
    wanted = {(link.source, link.destination): link.impairment for link in topology.links}
    now, changes = dict(wanted), []
    for at_s, link, after in sorted(made, key=lambda one: one[0]):
        changes.append(BaseChange(link=link, at_s=1000 + at_s, before=now[link], after=after))
        now[link] = after
    events = recorded_events(wanted, changes, [], 1000.0, 1000 + END_S)
    read = parse_topology(topology_text(topology, events, "recorded").encode(), Path("recorded.yaml"))
    assert read.timeline == events
    assert {(link.source, link.destination): link.impairment for link in read.links} == wanted
    states = {link: LinkState(base=base) for link, base in wanted.items()}
    timeline = list(steps(read.timeline))
    for at_s, link, after in sorted(made, key=lambda one: one[0]):
        while timeline and timeline[0].at_s <= at_s + 1e-7:
            step = timeline.pop(0)
            event = read.timeline[step.event]
            for touched in links_touched(read, event):
                overlay = with_overlay(Overlay.of(str(step.event), event.fields))
                states[touched] = (without_overlay(str(step.event)) if step.do == "end" else overlay)(states[touched])
        assert states[link].in_force == after


EVENTS = [
    model.Outage(site="east", at_s=1, duration_s=2, every_s=5, count=3),
    model.Partition(groups=(("east",), ("west",)), one_way=True, at_s=1),
    model.BlackHole(links=model.LinkChoice(pairs=(("east", "west"),)), at_s=0.5, duration_s=1),
    model.Flap(links=model.LinkChoice(all=True), down_s=0.25, up_s=1, flaps=3),
    model.Ramp(links=model.LinkChoice(site="west"), fields={"rate_bps": 64_000}, over_s=3, duration_s=9),
    model.Pause(node="east", at_s=3, duration_s=1.5),
    model.Kill(node="east", target=model.Target(role="coordinator")),
    model.Restart(node="east", target=model.Target(command="a: [b] {c}, #d 'e' \"f\""), duration_s=1),
    model.Reboot(node="west", duration_s=2),
    model.DiskSlow(node="west", bytes_per_s=125_000),
    model.ClockSkew(node="west", rate=-0.005),
    model.ClockJump(node="west", offset_s=-90.5),
    model.CorruptFile(node="west", path="run1/folder/**", bytes=3, seed=9),
    model.Descriptors(node="west", target=model.Target(command="x"), spare=2, duration_s=1),
]


def test_every_kind_of_event_is_read_as_it_is_written() -> None:
    topology = two_sites()
    read = parse_topology(topology_text(topology, EVENTS, "every kind").encode(), Path("every.yaml"))
    assert list(read.timeline) == EVENTS


def test_faults_keep_their_times_and_what_was_under_way_begins_with_the_recording() -> None:
    faults = [
        FaultDone(event=model.Outage(site="east", duration_s=99), begin_s=990, end_s=1003),
        FaultDone(event=model.Pause(node="east"), begin_s=1001.25, end_s=None),
        FaultDone(event=model.Kill(node="west", target=model.Target(role="x")), begin_s=1002, end_s=1002),
        FaultDone(event=model.Reboot(node="west"), begin_s=990, end_s=995),
    ]
    events = recorded_events({}, [], faults, 1000, 1010)
    assert [(event.do, event.at_s, event.duration_s) for event in events] == [
        ("outage", 0, 3),
        ("pause", 1.25, 8.75),
        ("kill", 2, None),
    ]


def test_a_recorded_file_keeps_traces_and_cross_traffic() -> None:
    drive = load_topology(find_topology("four-sites-drive"))
    streams = [
        *drive.cross_traffic,
        CrossTraffic(source="tokyo", destination="ireland", pattern="tcp", flows=3, start_s=1, duration_s=2),
        CrossTraffic(source="tokyo", destination="ireland", pattern="constant", rate_bps=8_000, packet_bytes=100),
    ]
    drive = drive.model_copy(update={"cross_traffic": tuple(streams)})
    read = parse_topology(topology_text(drive, (), "recorded").encode(), Path("recorded.yaml"))
    assert read.cross_traffic == drive.cross_traffic
    (trace,), (event,) = drive.traces, read.timeline
    assert isinstance(event, model.Play)
    assert (event.links.site, event.loop, event.speed) == (trace.site, trace.loop, trace.speed)
    assert Path(event.trace).samefile(trace.file)
