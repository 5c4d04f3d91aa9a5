"""A node's disk that is full, or slow."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError, NodeError
from harness.model.timeline import DiskFull, DiskSlow
from harness.nodes import node_disk
from harness.nodes.node_disk import view
from harness.nodes.node_faults import Fault, FaultyNode, Undo
from harness.nodes.node_processes import node_processes

_BALLAST = ".longhaul-ballast"
_SMALLEST_PIECE = 4096
_V1 = Path("/sys/fs/cgroup/blkio")
_V2 = Path("/sys/fs/cgroup")


class DiskFullFault:
    """A ballast file takes what is free. What the software deletes meanwhile is free again."""

    def prepare(self, node: FaultyNode, event: DiskFull, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault. Only a disk of the node's own is ever filled."""
        if not node_disk.has_disk(node.init_pid, node.data):
            raise InputError(
                f"{node.name} has no disk of its own that could be filled",
                hint="Write `disk: 1 GB` under its site and bring the lab up anew.",
            )
        return {"free": event.free_bytes}

    def make(self, node: FaultyNode, event: DiskFull, undo: Undo, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        self._settle(node, [*others, undo])
        return {}

    def undo(self, node: FaultyNode, event: DiskFull, undo: Undo, others: Sequence[Undo]) -> None:
        """See Fault."""
        self._settle(node, others)

    def problem(self, node: FaultyNode, event: DiskFull, undo: Undo, others: Sequence[Undo]) -> str | None:
        """See Fault."""
        if not others and self._ballast(node).exists():
            return f"the ballast on the disk of {node.name} is still there"
        return None

    def _ballast(self, node: FaultyNode) -> Path:
        return view(node.init_pid, node.data) / _BALLAST

    def _settle(self, node: FaultyNode, faults: Sequence[Undo]) -> None:
        """Leave as much free as the strictest of them says."""
        path = self._ballast(node)
        path.unlink(missing_ok=True)
        if not faults:
            return
        wanted = min(int(fault["free"]) for fault in faults)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            _fill(descriptor, wanted)
        finally:
            os.close(descriptor)


def _fill(descriptor: int, wanted: int) -> None:
    """Allocate until at most ``wanted`` bytes are free; for none, until the file system refuses a byte."""
    size = 0
    while True:
        status = os.fstatvfs(descriptor)
        surplus = status.f_bavail * status.f_frsize - wanted
        piece = max(surplus, 0) // _SMALLEST_PIECE * _SMALLEST_PIECE
        while piece >= _SMALLEST_PIECE:
            try:
                os.posix_fallocate(descriptor, size, piece)
                break
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                piece = piece // 2 // _SMALLEST_PIECE * _SMALLEST_PIECE
        if piece < _SMALLEST_PIECE:
            return
        size += piece


class DiskSlowFault:
    """The processes of the node move to a control group whose reads and writes of the disk the kernel throttles."""

    def prepare(self, node: FaultyNode, event: DiskSlow, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        own = node_disk.has_disk(node.init_pid, node.data)
        return {
            "device": node_disk.block_device(node.init_pid, node.data),
            "bytes_per_s": event.bytes_per_s,
            "group": str(_hierarchy() / f"longhaul-{node.lab_id}-{node.name}"),
            # The first version throttles what a process waits for, and not what the kernel writes later.
            "sync": own and _hierarchy() == _V1,
        }

    def make(self, node: FaultyNode, event: DiskSlow, undo: Undo, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        group = Path(undo["group"])
        group.mkdir(exist_ok=True)
        self._limit(group, undo["device"], min(int(fault["bytes_per_s"]) for fault in [*others, undo]))
        self._move(node, group)
        if undo["sync"]:
            node_disk.remount(node.init_pid, node.data, sync=True)
        return {}

    def undo(self, node: FaultyNode, event: DiskSlow, undo: Undo, others: Sequence[Undo]) -> None:
        """See Fault."""
        group = Path(undo["group"])
        if not group.exists():
            return
        if others:
            self._limit(group, undo["device"], min(int(fault["bytes_per_s"]) for fault in others))
            return
        self._limit(group, undo["device"], None)
        self._move(node, group.parent)
        if undo["sync"]:
            node_disk.remount(node.init_pid, node.data, sync=False)
        try:
            group.rmdir()
        except OSError as error:
            raise NodeError(f"{group} cannot be removed: {error.strerror}") from error

    def problem(self, node: FaultyNode, event: DiskSlow, undo: Undo, others: Sequence[Undo]) -> str | None:
        """See Fault."""
        return f"{undo['group']} is still there" if not others and Path(undo["group"]).exists() else None

    def _limit(self, group: Path, device: str, bytes_per_s: int | None) -> None:
        try:
            if group.parent == _V2:
                rate = "max" if bytes_per_s is None else str(bytes_per_s)
                (group / "io.max").write_text(f"{device} rbps={rate} wbps={rate}")
                return
            for what in ("read", "write"):
                (group / f"blkio.throttle.{what}_bps_device").write_text(f"{device} {bytes_per_s or 0}")
        except OSError as error:
            raise NodeError(
                f"the kernel does not throttle {device}: {error.strerror}", hint="Write `disk: 1 GB` under the site."
            ) from error

    def _move(self, node: FaultyNode, group: Path) -> None:
        # The first process goes first: what is forked from then on is born in the group.
        for pid in (node.init_pid, *(one.pid for one in node_processes(node.init_pid))):
            try:
                (group / "cgroup.procs").write_text(str(pid))
            except ProcessLookupError:
                continue
            except OSError as error:
                if error.errno != errno.ESRCH:
                    raise NodeError(f"cannot move process {pid} to {group}: {error.strerror}") from error


def _hierarchy() -> Path:
    """Where control groups for disks are made. Raises NodeError where the kernel or a container has none."""
    if (_V1 / "blkio.throttle.write_bps_device").exists() or (_V1 / "cgroup.procs").exists():
        return _V1
    controllers = _V2 / "cgroup.controllers"
    if controllers.exists() and re.search(r"\bio\b", controllers.read_text()):
        subtree = _V2 / "cgroup.subtree_control"
        if not re.search(r"\bio\b", subtree.read_text()):
            try:
                subtree.write_text("+io")
            except OSError as error:
                raise NodeError(
                    f"this machine's control groups cannot throttle a disk: {error.strerror}",
                    hint="A container that owns no control groups cannot; run on the host.",
                ) from error
        return _V2
    raise NodeError(
        "this machine has no control group that throttles a disk", hint="It needs CONFIG_BLK_DEV_THROTTLING."
    )


KINDS: dict[str, Fault] = {"disk-full": DiskFullFault(), "disk-slow": DiskSlowFault()}
