"""Mistakes at the desk: exit code 2, a sentence on standard error, and nothing changed at the lab."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli import fault as fault_command
from harness.cli import fault_making
from harness.cli import heal as heal_command
from harness.cli import record as record_command
from harness.cli.main import build_app, run_guarded
from harness.errors import ExitCode
from harness.tests.lab_topologies import two_sites


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A lab that can be looked at; whoever would change it finds no method for that."""
    directory = tmp_path / "state"
    directory.mkdir()
    topology = two_sites()
    fake = SimpleNamespace(
        lab_id="desk",
        topology=topology,
        state_dir=directory,
        epoch_s=0.0,
        nodes={name: SimpleNamespace(site=name) for name in topology.site_names},
        link_states=dict,
        changes=tuple,
        close=lambda: None,
    )
    for module in (fault_command, fault_making, heal_command, record_command):
        monkeypatch.setattr(module, "open_lab", lambda _: fake)
    return fake


@cache
def commands() -> Any:
    return build_app()


def call(*arguments: str) -> int:
    app = commands()
    return run_guarded(lambda: app(list(arguments), standalone_mode=False))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("outage nowhere", "there is no site 'nowhere'; sites: east, west"),
        ("outage nowhere --for 5s", "there is no site 'nowhere'"),
        ("outage east --for soon", "'soon' is not a duration"),
        ("outage east --for 5", "no unit"),
        ("partition east", "at least 2"),
        ("partition east west,east", "stands twice"),
        ("partition east nowhere", "there is no site 'nowhere'"),
        ("black-hole", "say which links"),
        ("black-hole east", "a link has two ends"),
        ("black-hole east west --all", "a link has two ends"),
        ("black-hole east east", "to itself"),
        ("flap east west", "how often .* or how long"),
        ("flap east west --flaps 0", "greater than or equal to 1"),
        ("flap east west --flaps 2 --down never", "'never' is not a duration"),
        ("ramp east west", "nothing changes"),
        ("ramp east west --rate fast", "'fast'"),
        ("nat-rebind east", "not behind NAT"),
        ("kill east", "say which processes"),
        ("kill nowhere --role coordinator", "there is no node 'nowhere'"),
        ("kill east --command [", "no regular expression"),
        ("pause east --role a --command b", "exclude each other"),
        ("reboot nowhere", "there is no node 'nowhere'"),
        ("disk-full east", "disk: 1 GB"),
        ("disk-slow east --rate slow", "'slow'"),
        ("clock-skew east --gains -100%", "stands still"),
        ("clock-jump east --offset later", "'later'"),
        ("corrupt-file east x --bytes 0", "greater than or equal to 1"),
        ("descriptors east", "say which processes"),
        ("explode east", "No such command"),
        ("end f1", "no fault f1 is in force"),
    ],
)
def test_a_fault_that_cannot_be_is_not_begun(
    lab: Any, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    assert call("fault", *words.split()) == ExitCode.BAD_INPUT
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert list(lab.state_dir.iterdir()) == []


def test_what_is_not_recorded_cannot_be_stopped(lab: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("record", "stop", "-o", str(tmp_path / "x.yaml")) == ExitCode.BAD_INPUT
    assert "is not being recorded" in capsys.readouterr().err
    assert call("record") == ExitCode.BAD_INPUT
    assert call("record", "-o", str(tmp_path / "nowhere" / "x.yaml")) == ExitCode.BAD_INPUT
    assert "cannot be written" in capsys.readouterr().err


def test_a_recording_outlives_a_file_that_cannot_be_written(lab: Any, tmp_path: Path) -> None:
    file = tmp_path / "incident.yaml"
    assert call("record", "start") == ExitCode.PASSED
    assert call("record", "start") == ExitCode.BAD_INPUT
    assert call("record", "stop", "-o", str(tmp_path)) == ExitCode.BAD_INPUT
    assert call("record", "stop", "-o", str(file)) == ExitCode.PASSED
    assert "east" in file.read_text()
    assert call("record", "stop", "-o", str(file)) == ExitCode.BAD_INPUT


@pytest.mark.parametrize(
    "words", ["trace import {log} -o {nowhere}", "trace plot {log} -o {nowhere}", "graph four-sites -o {log}/x"]
)
def test_a_file_that_cannot_be_written_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    log = tmp_path / "modem.csv"
    log.write_text("time_s,rate_kbps\n0,100\n1,200\n")
    arguments = words.format(log=log, nowhere=tmp_path / "nowhere" / "x.png").split()
    assert call(*arguments) == ExitCode.BAD_INPUT
    assert "cannot be written" in capsys.readouterr().err
