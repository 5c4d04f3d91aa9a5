"""The parts of a self-test in a guest, as plain data: what each runs, and what its outcome means. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from harness.errors import ExitCode, InputError
from harness.model.base import Value
from harness.model.measurement import Depth

PartName = Literal["contract", "lab", "certificate", "smoke"]
PART_NAMES: tuple[PartName, ...] = ("contract", "lab", "certificate", "smoke")
TITLES: dict[PartName, str] = {
    "contract": "contract of the WAN core",
    "lab": "labs, nodes and faults",
    "certificate": "the WAN is what was asked for",
    "smoke": "smoke suite on a real WAN",
}
OF_A_CHECKOUT: tuple[PartName, ...] = ("contract", "lab")
"""Tests are not in an installed package."""

_PYTEST_FAILED = 1


class PartOrder(Value):
    """What the guest is to run for one part. ``junit`` is where its tests are counted, if it has such a file."""

    name: PartName
    argv: tuple[str, ...]
    junit: str | None = None


class GuestOrder(Value):
    """All that the guest is told; ``results`` is its directory of results."""

    environment: dict[str, str]
    results: str
    parts: tuple[PartOrder, ...]


class PartOutcome(Value):
    """What became of one part. ``tests`` counts those that ran; seconds are of the guest's clock."""

    name: PartName
    exit_code: ExitCode
    seconds: float
    tests: int = 0
    failures: int = 0
    skipped: int = 0
    reason: str = ""


def choose_parts(only: str) -> tuple[PartName, ...]:
    """The parts that a comma-separated list names, or all. Raises InputError for an unknown one."""
    asked = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in asked if name not in PART_NAMES]
    if unknown:
        raise InputError(f"no such part: {', '.join(unknown)}", hint=f"accepted: {', '.join(PART_NAMES)}")
    return tuple(name for name in PART_NAMES if not asked or name in asked)


def order_part(
    name: PartName, python: str, results: str, *, topologies: Sequence[str], seed: int, depth: Depth
) -> PartOrder:
    """How one part is run by this Python, with its results in that directory of the guest."""
    if name == "certificate":
        words = ["-m", "harness.selftest.certificate", "netns", f"{results}/certificate.json", str(seed), depth]
        return PartOrder(name=name, argv=(python, *words, *topologies))
    if name == "smoke":
        words = ["-m", "harness.cli.main", "run", "smoke", "--tags", "ci", "--wan", "netns", "--seed", str(seed)]
        out = f"{results}/smoke"
        return PartOrder(name=name, argv=(python, *words, "--out", out), junit=f"{out}/junit.xml")
    junit = f"{results}/{name}.xml"
    where = {"contract": "harness/tests/contract", "lab": "harness/tests/netns"}[name]
    # An emulated processor is slow: what takes a second elsewhere takes ten here.
    options = ("-v", "-ra", "--color=no", "-p", "no:cacheprovider", "--timeout=600", f"--junitxml={junit}")
    return PartOrder(name=name, argv=(python, "-m", "pytest", *options, where), junit=junit)


def judge_part(order: PartOrder, status: int, seconds: float, tests: int, failures: int, skipped: int) -> PartOutcome:
    """What a program's exit status means (negative: a signal's number). A part in which no test ran is INVALID."""
    by_status = {int(code): code for code in (ExitCode.PASSED, ExitCode.INVALID, ExitCode.LAB_BROKE)}
    by_status[_PYTEST_FAILED] = ExitCode.TEST_FAILED
    is_pytest = order.name in OF_A_CHECKOUT
    code = by_status.get(status, ExitCode.LAB_BROKE)
    reason = ""
    if is_pytest and status > _PYTEST_FAILED:
        code = ExitCode.LAB_BROKE
    if code is ExitCode.LAB_BROKE:
        reason = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
    if code is ExitCode.PASSED and order.junit is not None and tests == 0:
        code, reason = ExitCode.INVALID, "no test ran"
    return PartOutcome(
        name=order.name,
        exit_code=code,
        seconds=round(seconds, 1),
        tests=tests,
        failures=failures,
        skipped=skipped,
        reason=reason,
    )


def merged_exit_code(outcomes: Iterable[PartOutcome]) -> ExitCode:
    """The worst of them: a broken lab over INVALID over a failed test. INVALID when there are none."""
    found = {outcome.exit_code for outcome in outcomes}
    for code in (ExitCode.LAB_BROKE, ExitCode.INVALID, ExitCode.TEST_FAILED, ExitCode.PASSED):
        if code in found:
            return code
    return ExitCode.INVALID
