"""The desk on a real lab: what a link loses is found again by captures and a fit, and live views see the traffic."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.main import build_app
from harness.config.path_log import read_path_logs
from harness.lab.lab import Lab
from harness.lab.live import look
from harness.model.impairment import GilbertElliottLoss, Impairment
from harness.model.run_record import WanChange
from harness.nodes.capture import Capture
from harness.plan.capture import tap_link
from harness.plan.fit import fit_path
from harness.plan.live import compare
from harness.run.health import HostWatch, TrafficWatch

pytestmark = [pytest.mark.root, pytest.mark.vm]

LOSSY = Impairment(
    delay_us=30_000, jitter_us=1_000, loss=GilbertElliottLoss(good_to_bad=0.02, bad_to_good=0.25), rate_bps=20_000_000
)
SEND = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
due = time.monotonic()
for number in range(2000):
    due += 0.002
    time.sleep(max(0, due - time.monotonic()))
    s.sendto(number.to_bytes(8, "big"), (sys.argv[1], 40999))
"""


def test_a_fit_of_two_captures_finds_what_the_link_does(whole_lab: Lab, tmp_path: Path) -> None:
    whole_lab.change({("east", "west"): LOSSY}, "a test")
    files = [tmp_path / "before.pcap", tmp_path / "after.pcap"]
    taps = [tap_link(whole_lab.plan, "east", "west", where) for where in ("before", "after")]
    begin = look(whole_lab)
    with files[0].open("wb") as first, files[1].open("wb") as second:
        before = Capture(taps[0].netns, taps[0].interface, taps[0].narrowed("udp port 40999"), output=first)
        after = Capture(taps[1].netns, taps[1].interface, taps[1].narrowed("udp port 40999"), output=second)
        with before, after:
            before.await_listening()
            after.await_listening()
            west = str(whole_lab.plan.site("west").wan_address)
            whole_lab.nodes["east"].remote.run(["python3", "-c", SEND, west], timeout_s=60)
            mid = look(whole_lab)
            assert after.wait(1.0).dropped == 0
            assert before.stop().captured == 2000
    seen = {(link.source, link.destination): link for link in compare(begin, mid, _in_force(whole_lab)).links}
    assert seen["east", "west"].packets_per_s > 50
    assert seen["east", "west"].lost_per_s > 0
    sample = read_path_logs(files)
    fitted = fit_path(sample).uplink
    assert fitted.loss is not None
    assert fitted.delay is not None
    # The loss process starts anew for each packet: four standard errors, and what a busy core adds to delays.
    assert fitted.loss.kind == "gilbert"
    assert fitted.loss.mean.value == pytest.approx(LOSSY.mean_loss, abs=0.05)
    assert fitted.loss.mean_burst == pytest.approx(4, rel=0.5)
    assert fitted.delay.median_us == pytest.approx(30_000, abs=4_000)
    # Packets that keep their order wait for one another, which takes some of the jitter off at this pace.
    assert 200 < fitted.jitter_us < 5_000
    assert fitted.reordered == 0


def test_status_and_top_speak_json(whole_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGHAUL_STATE", str(whole_lab.paths.state_root))
    whole_lab.hold([("west", "east")], "a test", "cut")
    found = json.loads(call("status", "--json"))["labs"][0]
    assert (found["lab"], found["kernel"]) == (whole_lab.lab_id, whole_lab.core.kernel_release)
    assert found["age_s"] > 0
    assert [link["link"] for link in found["changed_links"]] == ["west>east"]
    live = json.loads(call("top", "--once", "--json", "--interval", "200ms"))
    assert {(link["source"], link["blocked"], link["rtt_us"]) for link in live["links"]} == {
        ("east", False, None),
        ("west", True, None),
    }
    whole_lab.let_go([("west", "east")], "a test", "open")
    live = json.loads(call("top", "--once", "--json", "--interval", "200ms"))
    assert [link["rtt_us"] for link in live["links"]] == [20_000, 20_000]
    assert set(live["node_cpu"]) == {"east", "west"}


def test_a_test_whose_cut_met_no_packet_is_vacuous_and_one_that_did_is_not(whole_lab: Lab) -> None:
    changes: list[WanChange] = []
    whole_lab.on_change = changes.append
    watch = TrafficWatch(whole_lab, whole_lab.topology)
    try:
        watch.begin()
        whole_lab.hold([("east", "west")], "a test", "cut")
        whole_lab.let_go([("east", "west")], "a test", "open again")
        assert "no packet came to any of the 1 links" in watch.reason(changes)
        changes.clear()
        watch.begin()
        whole_lab.hold([("east", "west")], "a test", "cut")
        west = str(whole_lab.plan.site("west").wan_address)
        whole_lab.nodes["east"].remote.run(["ping", "-c", "2", "-i", "0.05", "-W", "0.2", west], check=False)
        whole_lab.let_go([("east", "west")], "a test", "open again")
        assert watch.reason(changes) == ""
    finally:
        whole_lab.on_change = None


def test_the_host_is_watched_by_a_process_that_ends(whole_lab: Lab, tmp_path: Path) -> None:
    watch = HostWatch(whole_lab, tmp_path / "host.jsonl")
    watch.start()
    west = str(whole_lab.plan.site("west").wan_address)
    whole_lab.nodes["east"].remote.run(["ping", "-c", "12", "-i", "0.1", west])
    health = watch.finish()
    assert health.host is not None
    assert health.host.timer_samples > 20
    assert 0 < health.host.busy <= 1
    assert health.host.ports == ()
    assert watch.finish().host is None


def test_captures_leave_no_process(whole_lab: Lab) -> None:
    running = subprocess.run(
        ["pgrep", "-f", f"tcpdump.*{whole_lab.lab_id}"], capture_output=True, text=True, check=False
    )
    assert running.stdout == ""


def call(*arguments: str) -> str:
    result = CliRunner().invoke(build_app(), list(arguments), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def _in_force(lab: Lab) -> dict[tuple[str, str], Impairment]:
    return {link: state.in_force for link, state in lab.link_states().items()}
