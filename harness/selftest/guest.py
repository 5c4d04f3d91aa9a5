"""A guest with this host's own file system as its root: started, listened to, and never outliving its owner.

The root is exported read-only and lies below a layer in the guest's memory, so nothing of the host is written but one
directory of results. Refuses to know what runs in there.

Emulated, the guest's clock counts instructions instead of following the host's: one nanosecond each, as a processor of
1 GHz would take, and real time only while it idles. A busy host then makes the guest slower, but neither its timers
late nor its measurements wrong.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import CoreError, InputError, PrivilegeError
from harness.selftest.guest_image import GuestImage
from harness.wan.qemu_command import QEMU

RESULTS = Path("/mnt")
"""Where the guest sees the directory of results (as in guest/full_root.c)."""

EVENTS_DESCRIPTOR = 3
"""The guest's program writes its events to it, one JSON object a line (as in guest/full_root.c)."""

CONSOLE = "console.log"
OUTPUT = "guest.log"
_MEMORY_MIB = 3072
_TAIL_LINES = 15
_COMMAND_LINE_MAX = 2048
_DEADLINE = "the guest's deadline"

Event = Mapping[str, Any]
Accelerator = Literal["kvm", "tcg"]


@dataclass(frozen=True)
class GuestProgram:
    """What runs in the guest: the program with its arguments, where it starts, and where its results go on the host."""

    argv: tuple[str, ...]
    directory: Path
    results: Path


def run_guest(
    image: GuestImage,
    program: GuestProgram,
    accelerator: Accelerator,
    *,
    deadline_s: float,
    on_event: Callable[[Event], None],
) -> int:
    """Boot, run the program, and return its exit code (128 + N after signal N). Call it from the main thread.

    ``on_event`` gets every JSON object that the program writes to EVENTS_DESCRIPTOR. The machine is ended on every way
    out, and by the kernel when this process is killed. Raises CoreError when the guest does not boot, dies, or is still
    busy at the deadline (seconds of real time); PrivilegeError without root.
    """
    if shutil.which(QEMU) is None:
        raise CoreError(f"{QEMU} is not installed", hint="apt-get install qemu-system-x86")
    ours, theirs = socket.socketpair()
    with contextlib.closing(ours):
        with contextlib.closing(theirs):
            machine = _start(_command(image, program, accelerator, theirs.fileno()), theirs.fileno(), program.results)
        try:
            exit_code = None
            for event in _events(ours, time.monotonic() + deadline_s):
                if event.get("event") == "exit":
                    exit_code = int(event["code"])
                else:
                    on_event(event)
        except TimeoutError:
            raise CoreError(
                f"the guest was ended after {deadline_s:.0f} s, its deadline:\n{_tail(program.results / OUTPUT)}",
                hint="give it more time with --deadline, or fewer parts with --only",
            ) from None
        finally:
            machine.kill()
            machine.wait()
    if exit_code is None:
        raise CoreError(
            f"the guest died ({accelerator}):\n{_tail(program.results / CONSOLE)}{_tail(program.results / 'qemu.log')}"
        )
    return exit_code


def require_root(user_id: int) -> None:
    """Raise PrivilegeError for anybody else: the guest sees files as the user who started QEMU may."""
    if user_id != 0:
        raise PrivilegeError("a guest with this machine's whole file system needs root", hint="run it with sudo")


def _start(command: Sequence[str], descriptor: int, results: Path) -> subprocess.Popen[bytes]:
    with (results / "qemu.log").open("wb") as log:
        # A session of its own: the terminal's Ctrl-C is for us, and we end the machine.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[descriptor],
            start_new_session=True,
        )


def _events(port: socket.socket, deadline: float) -> Iterator[Event]:
    """Every event until the guest's end; TimeoutError at the deadline. What is no JSON is none of ours, and skipped."""
    pending = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(_DEADLINE)
        port.settimeout(left)
        try:
            received = port.recv(1 << 16)
        except ConnectionResetError:
            received = b""
        if not received:
            return
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event


def _command(image: GuestImage, program: GuestProgram, accelerator: Accelerator, port: int) -> list[str]:
    kernel_line = "console=ttyS0 panic=-1 quiet mitigations=off"
    if accelerator == "kvm":
        processor = ["-accel", "kvm", "-cpu", "host", "-smp", "2"]
    else:
        processor = ["-accel", "tcg,thread=single", "-cpu", "max,la57=off", "-smp", "1"]
        processor += ["-icount", "shift=0,sleep=on", "-rtc", "clock=vm"]
        # QEMU 7.2 loses the flags of cmpxchg16b on an interrupt, and kernels panic; but numpy wants a CPU that has it.
        kernel_line += " clearcpuid=cx16"
    kernel_line += " -- " + " ".join(map(_quoted, (str(image.modules), str(program.directory), *program.argv)))
    if len(kernel_line) >= _COMMAND_LINE_MAX:
        raise InputError("the paths are too long for a kernel's command line", hint="move the checkout to a short path")
    return [
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *(QEMU, "-name", "longhaul-selftest", "-M", "q35", *processor, "-m", f"{_MEMORY_MIB}M"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-serial", f"file:{_escaped(program.results / CONSOLE)}"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", kernel_line),
        *("-device", "virtio-serial-pci", "-chardev", f"socket,id=events,fd={port}"),
        *("-device", "virtserialport,chardev=events,name=longhaul.events"),
        *("-device", "virtio-rng-pci"),
        *_export("root", Path("/"), ",readonly=on"),
        *_export("results", program.results, ""),
    ]


def _export(tag: str, path: Path, options: str) -> tuple[str, str]:
    # Several file systems of the host may have the same inode numbers.
    shared = f"local,id={tag},mount_tag={tag},path={_escaped(path)},security_model=none,multidevs=remap"
    return "-virtfs", shared + options


def _escaped(path: Path) -> str:
    """A path in one of QEMU's comma-separated options."""
    return str(path.absolute()).replace(",", ",,")


def _quoted(argument: str) -> str:
    if '"' in argument or "\n" in argument:
        raise InputError(f"a quotation mark in {argument!r}: the guest cannot be told of it")
    return f'"{argument}"' if " " in argument else argument


def _tail(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = path.read_text(errors="replace").splitlines()
        return "".join(f"  {line}\n" for line in lines[-_TAIL_LINES:])
    return ""
