"""The state of a machine that has just booted, kept so that the next one like it need not boot.

QEMU writes it as for a migration, and another QEMU with the same devices takes it up a fifth of a second later. It is
kept beside the image, under a name that stands for everything it depends on. A restored guest would draw the same
"random" numbers as every other one, so whoever restores one gives it entropy of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import socket
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from harness.errors import CoreError
from harness.wan.image import ImagePaths
from harness.wan.machine import Machine
from harness.wan.qemu_command import QEMU, Accelerator, Wiring, monitor_socket, qemu_command

_SWITCH = "LONGHAUL_SAVED_STATE"
"""Of the environment: 0 means that every machine boots."""
_DEADLINE_S = 30.0
_LOOK_S = 0.02
_BYTES_PER_S = 10**10
_PART = ".part"


class SavedState:
    """Where the state of one kind of machine is kept, whether or not there is one. ``wanted`` for emulated machines
    only: others boot as fast."""

    def __init__(self, image: ImagePaths, wiring: Wiring, ports: int, accelerator: Accelerator) -> None:
        self.wiring, self.ports, self.accelerator = wiring, ports, accelerator
        draft = Machine("-", 0, 0, ports, accelerator, image.release, wiring)
        command = [word.replace(str(draft.directory), "") for word in qemu_command(draft, image)]
        program = Path(shutil.which(QEMU) or QEMU)
        identity = (program.stat().st_size, program.stat().st_mtime_ns) if program.exists() else ()
        recipe = repr((image.key, command, identity, platform.release(), _processor()))
        name = f"{wiring}-{ports}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
        self.path = image.directory / f"{name}.state"
        self._unsound = image.directory / f"{name}.unsound"
        self.wanted = accelerator == "tcg" and os.environ.get(_SWITCH) != "0" and not self._unsound.exists()

    @property
    def exists(self) -> bool:
        """Whether there is one to restore."""
        return self.wanted and self.path.exists()

    def reject(self) -> None:
        """It did not come up: never again with this image, QEMU and kernel."""
        self.wanted = False
        self._unsound.touch()
        self.path.unlink(missing_ok=True)

    def save(self, machine: Machine) -> None:
        """Keep the state of this machine, which stands still from then on. Raises CoreError."""
        part = machine.directory / "state"
        with closing(_Monitor(monitor_socket(machine.directory))) as monitor:
            monitor.call("migrate-set-parameters", {"max-bandwidth": _BYTES_PER_S})
            monitor.call("migrate", {"uri": f"exec:cat > {shlex.quote(str(part))}"})
            deadline = time.monotonic() + _DEADLINE_S
            while (status := monitor.call("query-migrate")["status"]) != "completed":
                if status in ("failed", "cancelled") or time.monotonic() > deadline:
                    raise CoreError(f"QEMU did not save the machine's state: {status}")
                time.sleep(_LOOK_S)
        self._remove_old()
        staged = self.path.with_suffix(f".{machine.id}{_PART}")
        try:
            shutil.copyfile(part, staged)
            staged.replace(self.path)
        except OSError as error:
            raise CoreError(f"cannot keep the machine's state in {self.path}: {error.strerror}") from error
        finally:
            staged.unlink(missing_ok=True)

    def _remove_old(self) -> None:
        """States of other images, and what was cut short; a few at a time are all that a disk should have to hold."""
        for old in self.path.parent.parent.glob("*/*.state"):
            if old.parent != self.path.parent:
                old.unlink(missing_ok=True)
        for part in self.path.parent.glob(f"*{_PART}"):
            with suppress(FileNotFoundError):
                if time.time() - part.stat().st_mtime > _DEADLINE_S:
                    part.unlink()


class _Monitor:
    """QEMU's monitor, by its JSON protocol (QMP)."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(_DEADLINE_S)
            self._socket.connect(str(path))
            self._lines = self._socket.makefile("r")
            self._lines.readline()
            self.call("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise CoreError(f"QEMU's monitor does not answer: {error}") from error

    def call(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """What the command returns. Raises CoreError when QEMU refuses it."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments or {}}).encode() + b"\n")
        for line in self._lines:
            answer = json.loads(line)
            if "error" in answer:
                raise CoreError(f"QEMU refused {command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]
        raise CoreError("QEMU has ended")

    def close(self) -> None:
        """Drop the connection."""
        self._lines.close()
        self._socket.close()


def _processor() -> str:
    with suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return ""
