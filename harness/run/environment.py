"""What a run ran on, for its record."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import harness
from harness.lab.lab import Lab
from harness.model.run_record import Environment
from harness.nodes.namespace_node import congestion_control_of

_PACKAGES = ("longhaul", "robotframework", "fabric", "pyroute2")


def collect_environment(lab: Lab, seed: int, sut_versions: Mapping[str, str]) -> Environment:
    """Read it from this machine and from the lab."""
    return Environment(
        host_kernel=platform.release(),
        core_placement=lab.core.placement,
        core_kernel=lab.core.kernel_release,
        core_detail=lab.core.detail,
        cpu=_cpu_model(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        python=platform.python_version(),
        versions={**{name: found for name in _PACKAGES if (found := _version(name))}, **sut_versions},
        congestion_control=congestion_control_of(lab.nodes),
        seed=seed,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        revision=_revision(),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _revision() -> str:
    """The checkout's commit, with ``+`` when files differ from it; empty outside a checkout."""
    checkout = Path(harness.__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return ""
    answers = []
    for arguments in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--untracked-files=no")):
        try:
            done = subprocess.run(
                ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return ""
        answers.append(done.stdout.strip())
    commit, changed = answers
    return f"{commit}+" if changed else commit
