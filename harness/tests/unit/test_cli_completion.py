"""Completion as a shell asks for it: the program's own script in a real bash, and every kind of word."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.main import build_app

PROGRAM = Path(sys.executable).with_name("longhaul")

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not installed beside this Python")


def words(line: str, cwd: Path) -> list[str]:
    """What bash's protocol answers for the last word of a line."""
    parts = line.split(" ")
    environment = {
        **os.environ,
        "_LONGHAUL_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(parts) - 1),
        "LONGHAUL_STATE": str(cwd),
    }
    answer = subprocess.run([PROGRAM], env=environment, cwd=cwd, capture_output=True, text=True, check=True)
    return answer.stdout.split()


def test_commands_topologies_and_labs_are_offered(tmp_path: Path) -> None:
    (tmp_path / "labs" / "desk").mkdir(parents=True)
    (tmp_path / "four-of-mine.yaml").touch()
    assert words("longhaul capt", tmp_path) == ["capture"]
    assert set(words("longhaul validate four", tmp_path)) >= {"four-sites", "four-sites-lossy", "four-of-mine.yaml"}
    assert words("longhaul exec --lab de", tmp_path) == ["desk"]
    assert words("longhaul play lte", tmp_path) == ["lte-driving"]


def test_where_nothing_is_known_nothing_is_offered_and_nothing_is_said(tmp_path: Path) -> None:
    assert words("longhaul exec to", tmp_path) == []
    assert words("longhaul validate ./fo", tmp_path) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    result = CliRunner().invoke(build_app(), ["completion", shell], standalone_mode=False)
    assert f"_LONGHAUL_COMPLETE=complete_{shell}" in result.stdout
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=result.stdout, text=True, check=True)


def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    script = (
        "source <(longhaul completion bash)\nCOMP_WORDS=(longhaul validate four-sites-l) COMP_CWORD=2\n"
        '_longhaul_completion longhaul\necho "${COMPREPLY[@]}"\n'
    )
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    answer = subprocess.run(["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (answer.stdout, answer.stderr) == ("four-sites-lossy\n", "")
