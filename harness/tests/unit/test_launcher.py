"""The launcher on a checkout of its own: what is missing is set up once, and a set-up that failed is tried again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]

PIP = '#!/bin/sh\necho "$@" >>"$CALLS/pip"\nexit "${PIP_EXIT:-0}"\n'
LONGHAUL = """#!/bin/sh
echo "$@" >>"$CALLS/longhaul"
case "$*" in
"image --status --json")
    printf '{"built": true, "image": {"directory": "%s", "kernel": "6.1"}}' "$CALLS"
    ;;
esac
"""
DPKG_QUERY = '#!/bin/sh\nshift 2\nfor name; do echo "installed $name"; done\n'


class Checkout:
    """A launcher whose pip and command line only note their calls."""

    def __init__(self, root: Path) -> None:
        self.root = root / "with space"
        self.calls = root / "calls"
        tools = root / "tools"
        for directory in (self.calls, tools, self.root / ".venv/bin", self.root / "syncer/native"):
            directory.mkdir(parents=True)
        for name in ("longhaul", "pyproject.toml", "syncer/native/CMakeLists.txt"):
            shutil.copy(CHECKOUT / name, self.root / name)
        (self.root / "syncer/native/module.cpp").write_text("int one;\n")
        shutil.copytree(CHECKOUT / "harness/wan", self.root / "harness/wan")
        # Not a link: the interpreter would take the system's packages for its own, which may lack pip.
        self._program(self.root / ".venv/bin/python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        self._program(self.root / ".venv/bin/pip", PIP)
        self._program(self.root / ".venv/bin/longhaul", LONGHAUL)
        self._program(tools / "dpkg-query", DPKG_QUERY)
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "CALLS": str(self.calls)}
        self.environment.pop("LONGHAUL_NO_SETUP", None)

    def call(self, *arguments: str, program: Path | None = None, **environment: str) -> int:
        """Call it from another directory; its exit code."""
        done = subprocess.run(
            [str(program or self.root / "longhaul"), *arguments],
            cwd="/",
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode

    def noted(self, program: str) -> list[str]:
        """Its calls so far."""
        path = self.calls / program
        return path.read_text().splitlines() if path.exists() else []

    def _program(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_second_call_sets_nothing_up(checkout: Checkout) -> None:
    assert checkout.call("run", "two words") == 0
    installed = len(checkout.noted("pip"))
    assert installed
    assert checkout.noted("longhaul") == ["image", "image --status --json", "run two words"]
    assert checkout.call("run") == 0
    assert len(checkout.noted("pip")) == installed
    assert checkout.noted("longhaul")[3:] == ["run"]


@pytest.mark.parametrize("source", ["harness/wan/guest/agent.c", "harness/wan/image.py"])
def test_a_changed_image_recipe_is_built_before_the_run(checkout: Checkout, source: str) -> None:
    checkout.call("run")
    with (checkout.root / source).open("a") as stream:
        stream.write("\n")
    checkout.call("run")
    assert checkout.noted("longhaul")[3:] == ["image", "image --status --json", "run"]


@pytest.mark.parametrize("first", ["run", "test"])
def test_a_setup_that_failed_is_tried_again(checkout: Checkout, first: str) -> None:
    """Also a later one, in a checkout that was set up for development before."""
    assert checkout.call(first) == 0
    with (checkout.root / "syncer/native/module.cpp").open("a") as stream:
        stream.write("int two;\n")
    before = len(checkout.noted("longhaul"))
    assert checkout.call("run", PIP_EXIT="1") == 3
    assert len(checkout.noted("longhaul")) == before
    installed = len(checkout.noted("pip"))
    assert checkout.call("run") == 0
    assert len(checkout.noted("pip")) > installed


def test_a_link_to_the_launcher_finds_its_checkout(checkout: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to(checkout.root / "longhaul")
    assert checkout.call("status", program=link) == 0
    assert checkout.noted("longhaul") == ["status"]
