"""``longhaul test``: every check and test of this checkout, in the order in which they fail fastest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import ExitCode, InputError

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Check:
    """One tool and how it is called.

    ``{bin}`` is the virtual environment's directory of programs. ``{results}`` is a directory for the check, which the
    check makes; what an earlier call left there is removed first. ``{marks}`` says which tests pytest runs.
    """

    name: str
    argv: tuple[str, ...]
    title: str
    streams: bool = False


CHECKS = (
    Check("ruff", ("{bin}/ruff", "check", "."), "lint"),
    Check("format", ("{bin}/ruff", "format", "--check", "."), "formatting"),
    Check("imports", ("{bin}/lint-imports", "--no-cache"), "layers"),
    Check("robocop", ("{bin}/robocop", "check", "suites"), "style of the suites"),
    Check("mypy", ("{bin}/mypy",), "types"),
    Check(
        "native",
        (sys.executable, "syncer/tests/native/run.py"),
        "C++ tests of the UDT with and without sanitizers, and a short fuzzing",
        streams=True,
    ),
    Check(
        "pytest",
        ("{bin}/pytest", "-q", "--durations", "15", "-m", "{marks}"),
        "unit, contract, simulation and namespace tests",
        streams=True,
    ),
    Check(
        "in-vm",
        ("{bin}/longhaul", "selftest", "--in-vm", "--if-needed", "--only", "contract", "--out", "{results}"),
        "contract tests in the namespace placement, in a guest where this kernel lacks netem",
        streams=True,
    ),
    Check(
        "smoke",
        ("{bin}/longhaul", "run", "smoke", "--tags", "ci", "--out", "{results}"),
        "acceptance on a real WAN",
        streams=True,
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one check. Seconds of wall time."""

    name: str
    exit_code: int
    seconds: float
    log: str


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("test")(test)


def test(
    only: Annotated[str, typer.Option(help="Comma-separated names of checks to run, of those that --list shows.")] = "",
    list_checks: Annotated[bool, typer.Option("--list", help="List the checks and leave.")] = False,
    keep_going: Annotated[bool, typer.Option(help="Go on after a check has failed.")] = True,
    long: Annotated[bool, typer.Option("--long", help="Also the tests that take long and tell little more.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON on standard output.")] = False,
) -> int:
    """Run every check and test of this checkout: lint, types, layers, pytest, and a smoke run on a real WAN.

    Examples:

        longhaul test

        longhaul test --only ruff,mypy,imports
    """
    if list_checks:
        for check in CHECKS:
            print(f"{check.name:12} {check.title}")
        return ExitCode.PASSED
    chosen = choose(only)
    logs = CHECKOUT / "build" / "checks"
    logs.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for check in chosen:
        outcomes.append(perform(check, logs, long=long))
        if outcomes[-1].exit_code and not keep_going:
            break
    failed = [outcome for outcome in outcomes if outcome.exit_code]
    if as_json:
        print(json.dumps({"passed": not failed, "checks": [vars(outcome) for outcome in outcomes]}, indent=2))
    else:
        seconds = sum(outcome.seconds for outcome in outcomes)
        print(f"\nall checks took {seconds:.0f} s" + "".join(f"\nfailed: {outcome.name}" for outcome in failed))
        print(f"checks: {len(outcomes) - len(failed)} passed, {len(failed)} failed")
    return ExitCode.TEST_FAILED if failed else ExitCode.PASSED


def choose(only: str) -> tuple[Check, ...]:
    """The checks named in ``only``, or all. Raises InputError for an unknown name or outside of a checkout."""
    if not (CHECKOUT / "pyproject.toml").exists():
        raise InputError(
            "this is an installed package, not a checkout", hint="clone the project and call ./longhaul test"
        )
    names = [name.strip() for name in only.split(",") if name.strip()]
    known = {check.name for check in CHECKS}
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"no such check: {', '.join(unknown)}", hint=f"accepted: {', '.join(sorted(known))}")
    return tuple(check for check in CHECKS if not names or check.name in names)


def perform(check: Check, logs: Path, *, long: bool = False) -> Outcome:
    """Run one check with its output in a log; print a line for it, and the log's tail if it fails."""
    log = logs / f"{check.name}.log"
    results = logs / f"{check.name}-results"
    shutil.rmtree(results, ignore_errors=True)
    places = {"bin": str(Path(sys.executable).parent), "results": str(results)}
    places["marks"] = "long or not long" if long else "not long"
    argv = [part.format_map(places) for part in check.argv]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    start = time.monotonic()
    print(f"-- {check.name}: {check.title}", file=sys.stderr, flush=True)
    with log.open("wb") as sink:
        process = subprocess.Popen(
            argv,
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        for line in process.stdout:
            sink.write(line)
            if check.streams:
                sys.stdout.buffer.write(line)
                sys.stdout.flush()
        exit_code = process.wait()
    seconds = time.monotonic() - start
    if exit_code and not check.streams:
        sys.stdout.write(log.read_text(errors="replace")[-6000:])
    verdict = "ok" if exit_code == 0 else f"FAILED (exit code {exit_code}; {log.relative_to(CHECKOUT)})"
    print(f"   {check.name}: {verdict} in {seconds:.1f} s", file=sys.stderr, flush=True)
    return Outcome(check.name, exit_code, round(seconds, 1), str(log))
