"""A suite that forgets to start the system under test hears so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import InputError, SutError
from harness.run.directory import RunDirectory
from harness.run.recorder import Recorder
from harness.run.session import Session
from harness.run.workload import WorkloadOptions
from harness.suts.syncer_sut import SyncerSut
from harness.tests.lab_topologies import two_sites


def test_a_suite_that_starts_nothing_is_told_so(tmp_path: Path) -> None:
    node = SimpleNamespace(
        name="n", site="n", wan_address="", public_address="", data_dir="/d", log_dir="/l", remote=None
    )
    lab: Any = SimpleNamespace(nodes={"east": node, "west": node}, on_change=None, state_dir=tmp_path)
    directory = RunDirectory.create(tmp_path / "run")
    with Recorder(directory.history) as recorder:
        session = Session(
            topology=two_sites(),
            lab=lab,
            sut=SyncerSut(),
            recorder=recorder,
            directory=directory,
            seed=1,
            options=WorkloadOptions(),
        )
        for word in (
            lambda: session.wait_until_in_sync(1.0),
            lambda: session.usage("east"),
            session.trees,
            session.revive_sut,
            lambda: session.operate({"east": []}),
        ):
            with pytest.raises(InputError, match="does not run"):
                word()
        with pytest.raises(SutError, match="not started at east"):
            session.faults.roles("east")
