"""The command line's entry: every outcome becomes its exit code, and no foreseen mistake shows a traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import run_guarded
from harness.errors import CoreError, ExitCode, FidelityError, InputError

LONGHAUL = Path(sys.executable).parent / "longhaul"


def call(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) if path is None else {**os.environ, "PATH": path}
    return subprocess.run(
        [str(LONGHAUL), *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("no", where="a.yaml:1:2"), ExitCode.BAD_INPUT),
        (CoreError("no"), ExitCode.LAB_BROKE),
        (FidelityError("no"), ExitCode.INVALID),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), ExitCode.LAB_BROKE),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), ExitCode.LAB_BROKE),
    ],
)
def test_each_error_has_its_exit_code(error: BaseException, code: ExitCode, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise error

    assert run_guarded(fail) == code
    assert capsys.readouterr().err.startswith("longhaul: ")


def test_an_unforeseen_error_is_not_hidden() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_guarded(fail)


@pytest.mark.parametrize("arguments", [("teleport",), ("doctor", "--jsno"), ("test", "--only", "luck")])
def test_a_wrong_call_is_bad_input_with_a_hint(arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert result.returncode == ExitCode.BAD_INPUT
    assert "hint:" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_names_every_command() -> None:
    from harness.cli.main import COMMANDS

    text = call("--help").stdout
    assert [name for name in COMMANDS if name not in text] == []


def test_doctor_says_what_is_missing_and_how_to_mend_it() -> None:
    whole = json.loads(call("doctor", "--json").stdout)
    crippled = json.loads(call("doctor", "--json", path="/nonexistent").stdout)
    states = {finding["subject"]: finding for finding in crippled["findings"]}
    assert {finding["subject"] for finding in whole["findings"]} >= {"privileges", "KVM", "docker", "UDT module"}
    assert states["mmdebstrap"]["state"] == "limit"
    assert "apt-get install mmdebstrap" in states["mmdebstrap"]["remedy"]
