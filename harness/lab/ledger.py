"""The ledger of a lab: every thing that it makes on the host, written down before it is made.

An append-only file of JSON lines. The first says which lab and which boot of the machine; each further one records a
resource or forgets it. A line cut short by a crash is no line.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from harness.errors import LabError
from harness.model.base import Value
from harness.model.resource import Resource
from harness.nodes.host_processes import boot_id


class LedgerContent(Value):
    """What a ledger says. ``outstanding`` are the resources not yet forgotten, in the order of making."""

    boot: str = ""
    outstanding: tuple[Resource, ...] = ()


def replay(text: bytes) -> LedgerContent:
    """Read a ledger's content; lines that are not whole are passed over. Pure."""
    boot = ""
    outstanding: list[Resource] = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            operation = entry["op"]
            resource = None if operation == "lab" else Resource.model_validate(entry["resource"])
        except (ValueError, KeyError, TypeError, ValidationError):
            continue
        if resource is None:
            boot = str(entry.get("boot", ""))
        elif operation == "record":
            outstanding.append(resource)
        elif operation == "forget":
            _remove_last(outstanding, resource)
    return LedgerContent(boot=boot, outstanding=tuple(outstanding))


def _remove_last(outstanding: list[Resource], gone: Resource) -> None:
    for index in range(len(outstanding) - 1, -1, -1):
        one = outstanding[index]
        if (one.kind, one.name) == (gone.kind, gone.name) and gone.start_ticks in (None, one.start_ticks):
            del outstanding[index]
            return


def record_line(resource: Resource) -> bytes:
    """The line that records it."""
    return _line("record", resource)


def forget_line(resource: Resource) -> bytes:
    """The line that forgets it."""
    return _line("forget", resource)


def _line(operation: str, resource: Resource) -> bytes:
    entry = {"op": operation, "resource": resource.model_dump(exclude_defaults=True)}
    return json.dumps(entry).encode() + b"\n"


class Ledger:
    """An open ledger (implements ``Recorder``). Safe for several threads; its file lock marks the lab as being worked
    on, so that nobody takes down what another process still builds."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._torn = False

    @classmethod
    def create(cls, path: Path) -> Self:
        """Begin a ledger, locked. Raises FileExistsError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        ledger = cls(path, descriptor)
        ledger._append(json.dumps({"op": "lab", "lab": path.parent.name, "boot": boot_id()}).encode() + b"\n")
        _sync_directory(path.parent)
        return ledger

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing one, locked. Raises FileNotFoundError, and LabError while another process holds it."""
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise LabError(
                f"lab {path.parent.name} is being built or taken down by another process",
                hint="Wait for it, or interrupt it: it then cleans up after itself.",
            ) from None
        if not path.read_bytes().endswith(b"\n"):
            # What a crash cut short must not swallow the next line.
            os.write(descriptor, b"\n")
        return cls(path, descriptor)

    def record(self, resource: Resource) -> None:
        """Durably note a resource that is about to be made."""
        self._append(record_line(resource))

    def record_all(self, resources: Iterable[Resource]) -> None:
        """Durably note several with one flush to disk."""
        self._append(b"".join(record_line(resource) for resource in resources))

    def forget(self, resource: Resource) -> None:
        """Note that a resource is gone. Not flushed: to undo what is gone does no harm."""
        self._append(forget_line(resource), durable=False)

    def content(self) -> LedgerContent:
        """What the ledger says now."""
        return replay(self.path.read_bytes())

    def release(self) -> None:
        """Give up the lock; the ledger stays open for recording."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, and with it the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, lines: bytes, *, durable: bool = True) -> None:
        with self._lock:
            # What a full disk cut short must not swallow the next line.
            rest = memoryview(b"\n" + lines if self._torn else lines)
            self._torn = True
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            self._torn = False
            if durable:
                os.fdatasync(self._descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
