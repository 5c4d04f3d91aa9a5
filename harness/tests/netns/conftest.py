"""Real labs for the tests of this directory, in a state root of their own beside whatever else runs on this host."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.lab.lab import Lab
from harness.model.topology import Topology
from harness.tests.lab_topologies import two_sites


@pytest.fixture(autouse=True, scope="session")
def _root_only() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root and Linux namespaces")


@pytest.fixture
def topology() -> Topology:
    return two_sites()


@pytest.fixture
def fresh_lab_id() -> str:
    """An id that no other lab of this host has, to tell this test's leftovers from everyone else's."""
    return "t" + secrets.token_hex(2)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all tests that leave it as they found it."""
    root: Path = tmp_path_factory.mktemp("state")
    built = Lab.up(two_sites(), lab_id="t" + secrets.token_hex(2), state_root=root)
    yield built
    built.down()
    assert list(root.iterdir()) == [] if root.exists() else True


@pytest.fixture
def whole_lab(lab: Lab) -> Iterator[Lab]:
    """The shared lab, with its links put back afterwards."""
    yield lab
    lab.restore()
