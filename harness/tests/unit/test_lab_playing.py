"""A trace that is played while another process takes it off its links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config.trace_file import trace_text
from harness.errors import FidelityError
from harness.lab.links import LinkState, Overlay, OverlayGone, with_overlay, with_overlay_again, without_overlay
from harness.lab.playback_process import Play, Playing
from harness.lab.scenery import Scenery
from harness.model.impairment import Impairment
from harness.model.playback import PlaybackReport
from harness.model.trace import Course, Trace
from harness.plan.playback import onto_links
from harness.tests.lab_topologies import two_sites

LINK = ("east", "west")
BASE = Impairment(delay_us=5_000)


class _Lab:
    """One link."""

    epoch_s = 0.0

    def __init__(self) -> None:
        self.state = LinkState(base=BASE)

    def impairment(self, *_: str) -> Impairment:
        return self.state.base

    def overlay(self, links: Any, holder: str, *_: object, durable: bool, again: bool) -> list[Any]:
        lay = with_overlay_again if again else with_overlay
        (fields,) = links.values()
        self.state = lay(Overlay.of(holder, fields))(self.state)
        return []

    def lift(self, _links: object, holder: str, _reason: str) -> None:
        self.state = without_overlay(holder)(self.state)


def _playing(lab: Any, directory: Path) -> Playing:
    course = Course(at_us=(0, 100_000, 200_000), rate_bps=(1_000_000, 2_000_000, 3_000_000))
    file = directory / "steps.trace"
    file.write_text(trace_text(Trace(name="steps", duration_us=300_000, down=course)))
    targets = onto_links([LINK])
    play = Play(id=1, file=str(file), holder="trace f1: play", targets=targets, loop=True, log=str(directory / "log"))
    return Playing(lab, play, "normal")


def test_who_takes_a_trace_off_ends_it(tmp_path: Path) -> None:
    lab = _Lab()
    playing = _playing(lab, tmp_path)
    playing.step(playing.begin_s)
    assert lab.state.in_force.rate_bps == 1_000_000
    playing.step(playing.begin_s + 0.1)
    assert lab.state.in_force.rate_bps == 2_000_000
    lab.state = LinkState(base=BASE)
    playing.step(playing.begin_s + 0.2)
    assert playing.due_s is None
    report, failure = playing.finish()
    assert failure is None
    assert report.taken_off
    assert report.changes == 2
    assert lab.state == LinkState(base=BASE)


def test_what_was_lifted_is_not_laid_again() -> None:
    lay = with_overlay_again(Overlay.of("trace a", {"rate_bps": 1_000}))
    with pytest.raises(OverlayGone, match="trace a was taken off"):
        lay(with_overlay(Overlay.of("other", {"rate_bps": 1_000}))(LinkState(base=BASE)))


def test_a_run_whose_trace_was_taken_off_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lab: Any = None
    scenery = Scenery(lab, two_sites())
    report = PlaybackReport(trace="lte", holder="trace x", links=(), began_s=0, ended_s=1, taken_off=True)
    monkeypatch.setattr(scenery._player, "close", lambda: (report,))
    with pytest.raises(FidelityError, match="taken off its links before its end: the trace lte"):
        scenery.stop()
