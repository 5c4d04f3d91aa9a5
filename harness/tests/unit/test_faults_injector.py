"""What a timeline made ready goes with it, also when nothing of it had begun yet."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.lab.injector import Injector
from harness.model.timeline import LinkChoice, Play
from harness.tests.lab_topologies import two_sites


def test_a_player_that_has_not_played_yet_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab: Any = SimpleNamespace(state_dir=tmp_path, topology=two_sites(), epoch_s=0.0, broken=None)
    told: list[str] = []
    player = SimpleNamespace(start=lambda: told.append("started"), close=lambda: told.append("closed"))
    monkeypatch.setattr("harness.lab.player.Player", lambda _: player)
    injector = Injector(lab, timeline=[Play(links=LinkChoice(all=True), trace="lte-driving", at_s=1000.0)])
    injector.start()
    injector.stop()
    assert told == ["started", "closed"]
    injector.stop()
    assert told == ["started", "closed"]
