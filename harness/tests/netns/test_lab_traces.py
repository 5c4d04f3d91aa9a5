"""Traces and cross traffic on a real lab: order, completeness, restoration, rates."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest

from harness.config.trace_file import trace_text
from harness.errors import InputError, LabError
from harness.lab.core_process import programs_running
from harness.lab.cross_traffic import NAME, CrossTraffic
from harness.lab.fault_desk import FaultDesk, holder_of, noted
from harness.lab.lab import Lab
from harness.lab.player import Player
from harness.model.timeline import LinkChoice, Play
from harness.model.topology import CrossTraffic as Stream
from harness.model.trace import Course, Trace

pytestmark = [pytest.mark.root, pytest.mark.vm]

THERE, BACK = ("east", "west"), ("west", "east")


def _stairs(path: Path, hertz: int, seconds: float) -> Path:
    """A trace that climbs by 100 kbit/s at each step."""
    steps = round(hertz * seconds)
    course = Course(
        at_us=tuple(round(step * 1e6 / hertz) for step in range(steps)),
        rate_bps=tuple(1_000_000 + 100_000 * step for step in range(steps)),
        delay_us=tuple(20_000 + 100 * step for step in range(steps)),
    )
    path.write_text(trace_text(Trace(name="stairs", duration_us=round(seconds * 1e6), down=course)))
    return path


@pytest.mark.parametrize("hertz", [20, 50])
def test_a_trace_is_played_in_order_and_the_links_are_given_back(whole_lab: Lab, tmp_path: Path, hertz: int) -> None:
    lab = whole_lab
    before = {link: lab.in_force(*link) for link in (THERE, BACK)}
    with Player(lab) as player:
        playback = player.play(_stairs(tmp_path / "stairs.trace", hertz, 1.0), [THERE])
        report = player.wait(playback, 20)
    assert report is not None
    assert report.changes + report.skipped == hertz
    assert report.changes >= hertz / 2
    assert report.restored
    with Path(report.log).open() as log:
        rows = list(csv.DictReader(log))
    assert len(rows) == report.changes
    rates = [int(row["rate_bps"]) for row in rows]
    assert rates == sorted(set(rates))
    for row in rows:
        assert int(row["rate_bps"]) == 1_000_000 + 100_000 * round(float(row["trace_s"]) * hertz)
        assert float(row["planned_s"]) - report.began_s == pytest.approx(float(row["trace_s"]), abs=1e-3)
    assert {link: lab.in_force(*link) for link in (THERE, BACK)} == before
    assert lab.read_back()[THERE].rate_bps is None


def test_two_traces_at_once_each_keep_to_their_link_until_both_end(whole_lab: Lab, tmp_path: Path) -> None:
    lab = whole_lab
    trace = _stairs(tmp_path / "stairs.trace", 20, 0.5)
    with Player(lab) as player:
        first = player.play(trace, [THERE], loop=True)
        second = player.play(trace, [BACK], loop=True, offset_s=0.25, speed=0.5)
        assert player.wait(first, 1.2) is None
        # Another process of the lab sees what is being played.
        assert lab.in_force(*THERE).rate_bps is not None
        assert lab.in_force(*BACK).rate_bps is not None
        assert player.stop(first).rounds >= 1
        assert lab.in_force(*THERE).rate_bps is None
        assert lab.in_force(*BACK).rate_bps is not None
        assert not second.ended.is_set()
    assert second.report is not None
    assert second.report.restored
    assert lab.in_force(*BACK).rate_bps is None


def test_links_are_given_back_when_nobody_stops_the_player(whole_lab: Lab, tmp_path: Path) -> None:
    lab = whole_lab
    player = Player(lab)
    playback = player.play(_stairs(tmp_path / "stairs.trace", 20, 0.5), [THERE], loop=True)
    process = player._process
    assert process is not None
    assert process.stdin is not None
    # As the kernel does when this process is killed.
    process.stdin.close()
    assert playback.ended.wait(20)
    assert process.wait(20) == 0
    assert lab.in_force(*THERE).rate_bps is None
    player.close()


def test_a_heal_from_elsewhere_ends_what_plays(whole_lab: Lab, tmp_path: Path) -> None:
    lab = whole_lab
    trace = _stairs(tmp_path / "stairs.trace", 20, 0.5)
    event = Play(links=LinkChoice(pairs=(THERE,)), trace=str(trace))
    other = Lab.open(lab.lab_id, state_root=lab.paths.state_root)
    try:
        with Player(lab) as player, noted(lab, event, "longhaul play") as fault:
            playback = player.play(trace, [THERE], loop=True, holder=holder_of(fault))
            assert player.wait(playback, 0.3) is None
            healed = FaultDesk(other, origin="command").heal_everything()
            report = player.wait(playback, 20)
        assert [one.problem for one in healed] == [None, None]
        assert report is not None
        assert report.taken_off
        assert other.link_states() == {link: lab.initial_state(link) for link in (THERE, BACK)}
        assert lab.read_back()[THERE].rate_bps is None
    finally:
        other.close()


def test_links_are_given_back_when_the_playing_process_is_killed(whole_lab: Lab, tmp_path: Path) -> None:
    lab = whole_lab
    player = Player(lab)
    playback = player.play(_stairs(tmp_path / "stairs.trace", 20, 0.5), [THERE], loop=True)
    assert player.wait(playback, 0.3) is None
    assert lab.in_force(*THERE).rate_bps is not None
    process = player._process
    assert process is not None
    process.kill()
    with pytest.raises(LabError, match="before its time"):
        player.wait(playback, 20)
    assert lab.link_states()[THERE] == lab.initial_state(THERE)
    assert lab.read_back()[THERE].rate_bps is None
    with pytest.raises(LabError):
        player.close()


def test_a_trace_that_does_not_fit_changes_nothing(whole_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("time_s,rate_kbps\n0,x\n")
    with Player(whole_lab) as player:
        with pytest.raises(InputError, match="no link"):
            player.play("lte-driving", [("east", "nowhere")])
        with pytest.raises(InputError, match=r"bad\.csv:2:1"):
            player.play(tmp_path / "bad.csv", [THERE])
        with pytest.raises(InputError, match="ends before 900 s"):
            player.play("lte-driving", [THERE], offset_s=900.0)
        with pytest.raises(InputError, match="no site"):
            player.play_access("lte-driving", "nowhere")
    assert whole_lab.in_force(*THERE).rate_bps is None


def test_cross_traffic_sends_as_declared_and_counts_what_it_sends(whole_lab: Lab) -> None:
    lab = whole_lab
    streams = [
        Stream(source="east", destination="west", pattern="poisson", rate_bps=2_000_000),
        Stream(source="west", destination="east", pattern="on-off", rate_bps=2_000_000, on_s=0.2, off_s=0.2),
        Stream(source="east", destination="west", pattern="tcp", rate_bps=3_000_000, flows=2),
        Stream(source="east", destination="west", pattern="constant", rate_bps=1_000_000, duration_s=0.5),
    ]
    before = {(link.source, link.destination): link.packets for link in lab.counters()}
    traffic = CrossTraffic(lab, streams, seed=5)
    traffic.start()
    with Player(lab) as player:
        # Something to wait for that ends by itself.
        player.wait(player.play("lte-driving", [("east", "west")], for_s=1.5), 20)
    running = traffic.sent_packets()
    reports = traffic.stop()
    after = {(link.source, link.destination): link.packets for link in lab.counters()}
    assert [report.problem for report in reports] == ["", "", "", ""]
    poisson, on_off, tcp, constant = reports
    assert 1_000_000 < poisson.sent_bps < 3_000_000
    assert 400_000 < on_off.sent_bps < 1_700_000
    assert tcp.flows == 2
    assert 0 < tcp.received_bps < 6_000_000
    assert 0.4 < constant.seconds < 0.6
    assert constant.packets_out == pytest.approx(0.5 * 1_000_000 / 8 / 1_200, abs=3)
    for link in (THERE, BACK):
        assert running[link] > 50
        sent = sum(report.packets_out for report in reports if (report.source, report.destination) == link)
        assert after[link] - before[link] >= 0.5 * sent
    with pytest.raises(InputError, match="no TCP congestion control 'nosuch'"):
        CrossTraffic(
            lab, [Stream(source="east", destination="west", pattern="tcp", congestion_control="nosuch")]
        ).start()


def test_what_a_killed_run_left_sending_is_told_and_ends_with_the_next_one(whole_lab: Lab) -> None:
    lab = whole_lab
    streams = [Stream(source="east", destination="west", pattern="constant", rate_bps=100_000)]
    left = CrossTraffic(lab, streams)
    left.start()
    inits = {name: node.state.pid for name, node in lab.nodes.items()}
    # A program that was just started bears its name from its exec on.
    deadline = time.monotonic() + 5
    while sorted((before := programs_running(NAME, inits)).values()) != ["east", "west"]:
        assert time.monotonic() < deadline, before
    again = CrossTraffic(lab, streams)
    again.start()
    assert not set(programs_running(NAME, inits)) & set(before)
    (report,) = again.stop()
    assert report.problem == ""
    assert programs_running(NAME, inits) == {}


def test_what_waits_leaves_at_the_new_rate(whole_lab: Lab, tmp_path: Path) -> None:
    """Half of the time 8 Mbit/s, half 400 kbit/s, and always more than that to send: the mean must come through. With
    departure times that are fixed as packets come, as netem's own rate has them, it is a quarter of it."""
    lab = whole_lab
    trace = Trace(
        name="square",
        duration_us=800_000,
        down=Course(at_us=(0, 400_000), rate_bps=(8_000_000, 400_000), buffer_bytes=100_000),
    )
    (tmp_path / "square.trace").write_text(trace_text(trace))
    traffic = CrossTraffic(lab, [Stream(source="east", destination="west", pattern="constant", rate_bps=9_000_000)])
    with Player(lab) as player:
        playback = player.play(tmp_path / "square.trace", [THERE], loop=True)
        traffic.start()
        assert player.wait(playback, 2.5) is None
        (flow,) = traffic.stop()
    assert 2_900_000 < flow.received_bps < 5_200_000
