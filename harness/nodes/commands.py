"""The system's network programs, fed with many commands at once: ``ip -batch`` and ``nft -f``, in any namespace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence

from harness.errors import NodeError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEADLINE_S = 60.0
_FAILED_LINE = re.compile(r"Command failed -:(\d+)")


def find_program(name: str, package: str) -> str:
    """Where it is. Raises NodeError that names its package."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if found is None:
        raise NodeError(f"this machine has no {name}", hint=f"apt-get install {package}")
    return found


def run_ip(commands: Sequence[str], netns: str | None = None, *, go_on: bool = False) -> None:
    """Run them in order, in the named namespace (None: the host's). Raises NodeError for the first that fails; with
    ``go_on`` none of them need succeed."""
    if not commands:
        return
    where = [] if netns is None else ["-netns", netns]
    flags = ["-force"] if go_on else []
    done = _run([find_program("ip", "iproute2"), *where, *flags, "-batch", "-"], "\n".join(commands) + "\n")
    if done.returncode != 0 and not go_on:
        failed = _FAILED_LINE.search(done.stderr)
        what = commands[int(failed[1]) - 1] if failed else "-batch"
        reason = done.stderr.strip().splitlines()
        raise NodeError(f"ip {what}: {reason[0] if reason else 'it failed'}" + (f" (in {netns})" if netns else ""))


def run_nft(ruleset: str, netns: str) -> None:
    """Load a ruleset into a namespace, all or nothing. Raises NodeError with the kernel's reason."""
    done = _nft(netns, ["-f", "-"], ruleset)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()
        raise NodeError(
            f"the kernel refuses NAT in {netns}: {reason[0] if reason else 'nft failed'}",
            hint="It needs nf_tables with NAT: modprobe nft_chain_nat nft_ct, or CONFIG_NF_TABLES and CONFIG_NFT_NAT.",
        )


def list_ruleset(netns: str) -> str:
    """The ruleset of a namespace, as nft prints it."""
    return _nft(netns, ["list", "ruleset"]).stdout


def _nft(netns: str, arguments: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    enter = [find_program("ip", "iproute2"), "netns", "exec", netns]
    return _run([*enter, find_program("nft", "nftables"), *arguments], text)


def _run(command: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=_DEADLINE_S)
    except subprocess.TimeoutExpired as error:
        raise NodeError(f"{' '.join(command)} did not end within {_DEADLINE_S:g} s") from error
