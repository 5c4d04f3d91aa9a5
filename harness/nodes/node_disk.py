"""A file system of a node's own for its data directory: a file of the declared size with ext4 in it.

It is mounted inside the node's mount namespace alone. So it ends with the node, whatever ends that, and nothing that
fills it takes from the host's disk; from the host it is reached through the node's first process.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness.errors import NodeError
from harness.nodes.commands import find_program

SMALLEST_DISK = 16_000_000
_DEADLINE_S = 60


def view(init_pid: int, path: Path) -> Path:
    """A path of the node as it is seen from here, its own mounts included."""
    return Path(f"/proc/{init_pid}/root{path}")


def give_disk(init_pid: int, data: Path, size: int) -> None:
    """Mount a fresh file system of ``size`` bytes on the node's empty data directory. Raises NodeError."""
    image = data.parent / "disk.img"
    with image.open("wb") as file:
        file.truncate(size)
    find_program("losetup", "mount")
    mkfs = find_program("mkfs.ext4", "e2fsprogs")
    _run([mkfs, "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0", str(image)])
    in_node(init_pid, ["mount", "-o", "loop,noatime", str(image), str(data)])
    lost = view(init_pid, data) / "lost+found"
    if lost.is_dir():
        lost.rmdir()


def has_disk(init_pid: int, data: Path) -> bool:
    """Whether the data directory is a file system of the node's own."""
    return view(init_pid, data).stat().st_dev != view(init_pid, data.parent).stat().st_dev


def remount(init_pid: int, data: Path, *, sync: bool) -> None:
    """Have every write wait for the disk, or not."""
    in_node(init_pid, ["mount", "-o", f"remount,{'sync' if sync else 'async'}", str(data)])


def block_device(init_pid: int, data: Path) -> str:
    """``major:minor`` of the whole disk below the data directory. Raises NodeError when there is none."""
    device = view(init_pid, data).stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    place = Path("/sys/dev/block") / number
    if not os.major(device) or not place.exists():
        raise NodeError(
            "the node's data is on no block device that could be slow", hint="Write `disk: 1 GB` under its site."
        )
    if (place / "partition").exists():
        number = (place.resolve().parent / "dev").read_text().strip()
    return number


def in_node(init_pid: int, argv: Sequence[str]) -> None:
    """Run a program of the host in the node's mount namespace. Raises NodeError with its words."""
    _run(["nsenter", "-t", str(init_pid), "-m", "--wd=/", *argv])


def _run(argv: Sequence[str]) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=_DEADLINE_S)
    if done.returncode:
        raise NodeError(f"{' '.join(argv[:1])} failed: {done.stderr.strip() or done.stdout.strip()}")
