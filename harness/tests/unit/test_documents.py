"""What the documents show and point to exists and is as the code makes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.cli.main import COMMANDS
from harness.config.shipped import find_topology
from harness.config.topology_file import load_topology
from harness.report.picture import draw

CHECKOUT = Path(__file__).resolve().parents[3]
DOCUMENTS = (
    "README.md",
    "CHANGELOG.md",
    "harness/ARCHITECTURE.md",
    "syncer/ARCHITECTURE.md",
    "suites/README.md",
    "topologies/README.md",
)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    document = CHECKOUT / name
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_the_readme_names_only_commands_that_exist() -> None:
    used = set(re.findall(r"\./longhaul (?!--)([a-z]+)", (CHECKOUT / "README.md").read_text()))
    assert used - {name.removesuffix("_") for name in COMMANDS} == set()


def test_the_picture_in_the_readme_is_the_default_topology() -> None:
    picture = (CHECKOUT / "topologies/four-sites.svg").read_text()
    assert picture == draw(load_topology(find_topology("four-sites")))
