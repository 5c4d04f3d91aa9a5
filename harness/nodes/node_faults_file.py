"""A file that the disk gave back wrong: single bits are flipped, and nothing else of the file changes."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.model.timeline import CorruptFile
from harness.nodes.node_disk import view
from harness.nodes.node_faults import Fault, FaultyNode, Undo


class CorruptFault:
    """Length, owner and times of the file stay, so that nothing but reading it tells. What was written over since then
    is left alone by the undo."""

    def prepare(self, node: FaultyNode, event: CorruptFile, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault. The choice of file and bits is that of the seed, for the same files."""
        dice = random.Random(event.seed)
        path = self._choose(node, event, dice)
        status = path.stat()
        taken = {offset for other in others if other["file"] == str(path) for offset, _, _ in other["bytes"]}
        flips = []
        with path.open("rb") as file:
            for offset in sorted(dice.sample(range(status.st_size), min(event.bytes, status.st_size))):
                if offset not in taken:
                    file.seek(offset)
                    was = file.read(1)[0]
                    flips.append([offset, was, was ^ (1 << dice.randrange(8))])
        return {"file": str(path), "inode": status.st_ino, "bytes": flips}

    def make(self, node: FaultyNode, event: CorruptFile, undo: Undo, others: Sequence[Undo]) -> dict[str, Any]:
        """See Fault."""
        self._write(undo, source=1, target=2)
        return {}

    def undo(self, node: FaultyNode, event: CorruptFile, undo: Undo, others: Sequence[Undo]) -> None:
        """See Fault."""
        self._write(undo, source=2, target=1)

    def problem(self, node: FaultyNode, event: CorruptFile, undo: Undo, others: Sequence[Undo]) -> str | None:
        """See Fault."""
        wrong = sum(now == flip[2] for now, flip in self._now(undo))
        return f"{wrong} bytes of {undo['file']} are still corrupt" if wrong else None

    def _choose(self, node: FaultyNode, event: CorruptFile, dice: random.Random) -> Path:
        pattern = event.path
        if pattern.startswith("/") or ".." in Path(pattern).parts:
            raise InputError(
                f"{pattern!r} is not below the node's data directory",
                hint=f"It counts from {node.data}: run1/folder/**.",
            )
        files = sorted(
            path
            for path in view(node.init_pid, node.data).glob(pattern)
            if path.is_file() and not path.is_symlink() and path.stat().st_size
        )
        if not files:
            raise InputError(f"{node.name} has no file {pattern!r} with anything in it", hint=f"Below {node.data}.")
        return dice.choice(files)

    def _now(self, undo: Undo) -> list[tuple[int, list[int]]]:
        path = Path(undo["file"])
        if not path.is_file() or path.stat().st_ino != undo["inode"]:
            return []
        found = []
        with path.open("rb") as file:
            for flip in undo["bytes"]:
                file.seek(flip[0])
                byte = file.read(1)
                if byte:
                    found.append((byte[0], flip))
        return found

    def _write(self, undo: Undo, *, source: int, target: int) -> None:
        """Put ``target`` where ``source`` stands."""
        changes = [flip for now, flip in self._now(undo) if now == flip[source]]
        if not changes:
            return
        path = Path(undo["file"])
        times = path.stat()
        descriptor = os.open(path, os.O_WRONLY)
        try:
            for flip in changes:
                os.pwrite(descriptor, bytes([flip[target]]), flip[0])
            os.utime(descriptor, ns=(times.st_atime_ns, times.st_mtime_ns))
        finally:
            os.close(descriptor)


KINDS: dict[str, Fault] = {"corrupt-file": CorruptFault()}
