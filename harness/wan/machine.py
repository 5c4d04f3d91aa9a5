"""The micro-VM as a process: how QEMU is started, recognised and ended. Knows nothing of labs or shaping.

A machine is known by its directory, which is noted before QEMU starts and stands in QEMU's command line: whatever a
crash cuts short, the process is found again by it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import select
import shutil
import signal
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.errors import CoreError, ShapingError
from harness.model.resource import Recorder, Resource
from harness.wan.cache import cache_directory
from harness.wan.guest_transport import CONTROL_PORTS, GuestTransport, control_socket
from harness.wan.image import ImagePaths
from harness.wan.local_transport import enter_new_netns
from harness.wan.qemu_command import QEMU, Accelerator, Wiring, qemu_command

CORES_DIRECTORY = Path(os.environ.get("LONGHAUL_CORES_DIRECTORY", "/run/longhaul/cores"))
MAX_TAPS = 16
"""Sites with a device of their own; more share trunks. The machine has PCI slots for about thirty."""
BOOT_CPU_S = 30.0
"""A boot takes about three seconds of processor; on a busy host it may wait long for them."""
_BOOT_DEADLINE_S = 240.0
_LAST_MOMENT_S = 0.2
_KVM_PROOF_DEADLINE_S = 15.0
_NICE = -15
_OOM_SCORE = -500
"""Of -1000 to 1000: a host that runs out of memory has better things to end than the WAN of a whole lab."""
_BOOT_LOOK_S = 3.0
_SOCKET_RETRY_S = 0.01
_END_DEADLINE_S = 5.0
_TAIL_LINES = 40
_MAKER = "maker"
_WARM = "warm"
CORE_NOTE = "WAN core"
"""Marks a machine's resources in a ledger."""


@dataclass(frozen=True)
class Machine:
    """A started core with room for ``ports`` sites. ``start_ticks`` is field 22 of /proc/PID/stat: together with the
    pid it names one process. Its TAPs are in a network namespace of its own, which goes when the process does."""

    id: str
    pid: int
    start_ticks: int
    ports: int
    accelerator: Accelerator
    kernel: str
    wiring: Wiring = "tap"
    image: str = ""

    @property
    def directory(self) -> Path:
        """Its sockets, console and record."""
        return CORES_DIRECTORY / self.id

    @property
    def netns(self) -> str:
        """Path of the namespace that QEMU and its TAPs are in."""
        return f"/proc/{self.pid}/ns/net"

    def tap(self, index: int) -> str:
        """The host's end of device ``index`` while no site has it."""
        return f"tap{index}"

    def mac(self, index: int) -> str:
        """The guest's end of device ``index`` as it boots."""
        return f"02:4c:48:00:00:{index:02x}"

    def alive(self) -> bool:
        """Whether the process still runs."""
        return start_ticks(self.pid) == self.start_ticks

    def was_killed(self) -> bool:
        """Whether somebody ended it with SIGKILL, as the undo of an abandoned lab does. Only its parent can tell."""
        try:
            descriptor = os.pidfd_open(self.pid)
            try:
                # Its sockets close a moment before it is gone.
                _wait_for_exit(descriptor, time.monotonic() + _LAST_MOMENT_S)
            finally:
                os.close(descriptor)
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except (ChildProcessError, ProcessLookupError):
            return False
        return ended is not None and ended.si_code == os.CLD_KILLED and ended.si_status == signal.SIGKILL

    def connect(self, timeout_s: float) -> GuestTransport:
        """A control port of the guest. Raises CoreError, ShapingError or TimeoutError."""
        return GuestTransport(self.directory, time.monotonic() + timeout_s)

    def save(self) -> None:
        """Write the record that ``load_machine`` reads."""
        temporary = self.directory / ".core.json"
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(self.directory / "core.json")

    def end(self) -> None:
        """Kill it, wait until it is gone, and remove its directory; nothing happens to a process that took its pid."""
        _kill(self.pid, self.start_ticks)
        shutil.rmtree(self.directory, ignore_errors=True)


@contextmanager
def pool_lock() -> Iterator[None]:
    """Alone with the directory of all machines, which is removed again when nothing is left in it."""
    descriptor = _locked_directory()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            CORES_DIRECTORY.rmdir()
        os.close(descriptor)


def _locked_directory() -> int:
    while True:
        CORES_DIRECTORY.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(CORES_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Its last holder may have removed the directory while this one waited.
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == CORES_DIRECTORY.stat().st_ino:
                return descriptor
        os.close(descriptor)


def end_machines(directories: Collection[Path]) -> int:
    """End every QEMU that was started for one of these directories, whether or not it was noted anywhere; how many."""
    running = [(pid, ticks) for pid, ticks, directory in _running() if directory in directories]
    for pid, ticks in running:
        _kill(pid, ticks)
    return len(running)


def running_directories() -> frozenset[Path]:
    """The directory of each machine that runs, whether or not its record can be read."""
    return frozenset(directory for _, _, directory in _running())


def end_orphans(in_use: Collection[str]) -> int:
    """End every machine that no lab uses and whose maker has died, hold the pool's lock; how many ran.

    ``in_use`` are the ids of machines that stand in a lab's ledger.
    """
    orphans = [
        directory
        for _, _, directory in _running()
        if directory.name not in in_use and not (directory / _WARM).exists() and not _maker_lives(directory)
    ]
    ended = end_machines(orphans)
    for directory in orphans:
        shutil.rmtree(directory, ignore_errors=True)
    return ended


def make_warm(machine: Machine) -> None:
    """Put it into the pool of machines that serve the next lab."""
    (machine.directory / _WARM).touch()


def take_from_pool(machine: Machine) -> None:
    """It is a lab's from now on."""
    (machine.directory / _WARM).unlink()


def is_warm(machine: Machine) -> bool:
    """Whether it is in the pool."""
    return (machine.directory / _WARM).exists()


def warm_since(machine: Machine) -> float:
    """When it came to the pool, in seconds of the file system's clock."""
    return (machine.directory / _WARM).stat().st_mtime


def load_machine(directory: Path) -> Machine | None:
    """The machine that this directory records; None when there is none."""
    try:
        return Machine(**json.loads((directory / "core.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when there is no such process or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def resources_of(machine: Machine) -> tuple[Resource, ...]:
    """What a machine is on this host: a directory and a process (its TAPs vanish with it)."""
    return (
        Resource(kind="directory", name=str(machine.directory), note=CORE_NOTE),
        Resource(kind="process", name=str(machine.pid), start_ticks=machine.start_ticks, note=CORE_NOTE),
    )


def start_machine(
    image: ImagePaths,
    ports: int,
    accelerator: Accelerator,
    recorder: Recorder | None = None,
    wiring: Wiring = "tap",
    restore: Path | None = None,
) -> Machine:
    """Start QEMU with room for ``ports`` sites, from a saved state if ``restore`` is one, and return at once.

    ``recorder`` is told of its directory before it starts, and of its process as soon as there is one. The guest
    switches itself off after five minutes unless somebody takes a lease. Raises CoreError.
    """
    if shutil.which(QEMU) is None:
        raise CoreError(f"{QEMU} is not installed", hint="apt-get install qemu-system-x86")
    if wiring == "tap" and ports > MAX_TAPS:
        raise CoreError(f"{ports} sites; a core has {MAX_TAPS} devices of its own at most")
    identity = secrets.token_hex(3)
    directory = CORES_DIRECTORY / identity
    draft = Machine(identity, 0, 0, ports, accelerator, image.release, wiring, image.key)
    with pool_lock():
        if recorder is not None:
            recorder.record(resources_of(draft)[0])
        directory.mkdir()
        (directory / _MAKER).write_text(f"{os.getpid()} {start_ticks(os.getpid())}")
        pid = _start_apart(qemu_command(draft, image, restore), directory / "qemu.log")
        machine = replace(draft, pid=pid, start_ticks=start_ticks(pid) or 0)
        machine.save()
    if recorder is not None:
        recorder.record(resources_of(machine)[1])
    return machine


def discard(machine: Machine, recorder: Recorder | None) -> None:
    """End it, and take it off the record."""
    machine.end()
    if recorder is not None:
        forget(machine, recorder)


def forget(machine: Machine, recorder: Recorder) -> None:
    """Take it off the record: it is the lab's no more."""
    for resource in resources_of(machine):
        recorder.forget(resource)


def wait_until_up(machine: Machine, cpu_s: float = BOOT_CPU_S, timeout_s: float = _BOOT_DEADLINE_S) -> GuestTransport:
    """The first control port of a machine that boots. It may take ``cpu_s`` of processor time, however long a busy host
    makes it wait for them, and ``timeout_s`` at most. Raises CoreError with the console's tail when it does not come.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        failure: Exception | None = None
        if control_socket(machine.directory, CONTROL_PORTS - 1).exists():
            try:
                return machine.connect(_BOOT_LOOK_S)
            except (CoreError, TimeoutError, OSError, ShapingError) as error:
                failure = error
        else:
            time.sleep(_SOCKET_RETRY_S)
        if not machine.alive():
            reason = f"its machine has ended: {failure}" if failure else "QEMU did not start"
        elif _cpu_seconds(machine.pid) > cpu_s:
            reason = f"it used {cpu_s:.0f} s of processor time: {failure}"
        elif time.monotonic() > deadline:
            reason = f"{timeout_s:.0f} s went by: {failure}"
        else:
            continue
        raise CoreError(
            f"the WAN core did not boot ({machine.accelerator}): {reason}\n"
            f"{_tail(machine.directory / 'console.log')}{_tail(machine.directory / 'qemu.log')}",
            hint="longhaul doctor says what this machine lacks",
        ) from failure


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def choose_accelerator(image: ImagePaths) -> Accelerator:
    """KVM when a short boot proves that it works here (/dev/kvm alone proves nothing), else emulation; remembered."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    memory = cache_directory() / "kvm.json"
    question = {"host": os.uname().release, "boot": _boot_id(), "image": image.key}
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        known = json.loads(memory.read_text())
        if known["question"] == question:
            return "kvm" if known["works"] else "tcg"
    works = _kvm_boots(image)
    memory.write_text(json.dumps({"question": question, "works": works}))
    return "kvm" if works else "tcg"


def known_kvm() -> bool | None:
    """Whether KVM was proven to work or not to; None when nobody has tried."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    try:
        return bool(json.loads((cache_directory() / "kvm.json").read_text())["works"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _kvm_boots(image: ImagePaths) -> bool:
    machine = start_machine(image, 1, "kvm")
    try:
        with closing(wait_until_up(machine, timeout_s=_KVM_PROOF_DEADLINE_S)):
            return True
    except CoreError:
        return False
    finally:
        machine.end()


def _start_apart(command: list[str], log: Path) -> int:
    """Start a process in a new network namespace, with precedence over what runs on the sites.

    The core is the WAN: when it waits for a processor, packets are late or lost that no link was asked to delay or
    lose. A core in the kernel has the same precedence, since forwarding is done by interrupts.
    """

    def start() -> int:
        enter_new_netns()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        pid = _spawn(command, log)
        # Where sessions are scheduled as groups, it is the group's nice value that counts.
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(str(_NICE))
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/oom_score_adj").write_text(str(_OOM_SCORE))
        return pid

    # A thread of its own, which ends here: it has left this process's namespace.
    with ThreadPoolExecutor(max_workers=1) as apart:
        return apart.submit(start).result()


def _spawn(command: list[str], log: Path) -> int:
    """Start a process that outlives this one, in a session of its own: the terminal's Ctrl-C must not reach it."""
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # What this process was given, such as the lock of a `flock` that it runs under, must not live as long as a machine.
    given = [(os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inherited()]
    try:
        return os.posix_spawnp(command[0], command, os.environ, file_actions=[*streams, *given], setsid=True)
    except OSError as error:
        raise CoreError(f"cannot start {command[0]}: {error.strerror}") from error


def _inherited() -> list[int]:
    """Descriptors beyond the standard ones that a new program would get."""
    found = []
    for name in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if int(name.name) > 2 and os.get_inheritable(int(name.name)):
                found.append(int(name.name))
    return found


def _running() -> list[tuple[int, int, Path]]:
    """Pid, start ticks and directory of each machine of ours that runs on this host."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        ticks = start_ticks(pid)
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        directory = _directory_of(arguments)
        if ticks is not None and directory is not None and _shares_files(pid):
            found.append((pid, ticks, directory))
    return found


def _shares_files(pid: int) -> bool:
    """Whether paths mean the same to that process: a container's machines are its own, whatever their names."""
    try:
        return all(
            Path(f"/proc/{pid}/{what}").stat().st_ino == Path(f"/proc/self/{what}").stat().st_ino
            for what in ("ns/mnt", "root")
        )
    except OSError:
        return False


def _directory_of(arguments: list[str]) -> Path | None:
    """The directory of the machine that this command line runs; None when it is none of ours."""
    if Path(arguments[0]).name != QEMU or "-name" not in arguments[:-1]:
        return None
    name = re.fullmatch(r"longhaul-([0-9a-f]{6})", arguments[arguments.index("-name") + 1])
    if name is None:
        return None
    directory = CORES_DIRECTORY / name[1]
    return directory if f"file:{directory}/console.log" in arguments else None


def _maker_lives(directory: Path) -> bool:
    try:
        pid, ticks = (int(word) for word in (directory / _MAKER).read_text().split())
    except (OSError, ValueError):
        return False
    return start_ticks(pid) == ticks


def _kill(pid: int, ticks: int) -> None:
    """SIGKILL the process if it is still the one that started then, and wait until it is gone."""
    deadline = time.monotonic() + _END_DEADLINE_S
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if start_ticks(pid) == ticks:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                _wait_for_exit(descriptor, deadline)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        finally:
            os.close(descriptor)


def _wait_for_exit(descriptor: int, deadline: float) -> None:
    waiter = select.poll()
    waiter.register(descriptor, select.POLLIN)
    waiter.poll(max(1, int((deadline - time.monotonic()) * 1000)))


def _tail(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        lines = path.read_text(errors="replace").splitlines()
        return "".join(f"  {line}\n" for line in lines[-_TAIL_LINES:])
    return ""


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
