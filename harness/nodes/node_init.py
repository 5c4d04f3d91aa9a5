"""Makes all nodes of a lab: one small process that forks each node's first process. Stand-alone.

Run as ``python -I -S node_init.py`` with the standard library alone. Every node's first process is a fork of this one,
so that it starts in a millisecond and shares its memory. It makes the node's private world, starts its sshd, and reaps
orphans. An edge is a network namespace alone. Protocol, one JSON object a line:

    <- {"nodes": [{"name": ..., "tmp": ..., ...}, ...], "edges": [{"name": ..., "sysctls": {...}}, ...]}
    -> {"name": ..., "pid": N, "sysctls": {...}}   for each, in any order: a process in its namespaces, as the host sees
                                                   it, and what its kernel says of the sysctls that it was told
    <- one byte for each node and edge             all networks are wired, and all of it stands in the ledger
    -> {"name": ..., "ready": true}                for each node: sshd listens; the process of an edge just ends
    -> {"name": ..., "error": "..."}               instead, when something failed

The end of standard input before its byte means to a node that the builder died: it ends, and nothing is left.
"""

# The import of pathlib would double the time that a node takes to start.
# ruff: noqa: PTH103, PTH110, PTH123

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from typing import Any

SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
IFF_UP = 1
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
TCP_LISTEN = "0A"
SSHD_DEADLINE_S = 60.0
FIRST_LOOK_S, LAST_LOOK_S = 0.004, 0.1
NAMED_NAMESPACES = "/run/netns"

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    data = None if options is None else options.encode()
    _checked(_libc.mount(*arguments, ctypes.c_ulong(flags), data), f"mount {source} on {target}")


def _bind(descriptor: int, target: str) -> None:
    _mount(f"/proc/self/fd/{descriptor}", target, None, MS_BIND | MS_REC)
    os.close(descriptor)


def _hidden(path: str, covers: list[str]) -> bool:
    return any(path == cover or path.startswith(cover + "/") for cover in covers)


def _leave_shared_mounts() -> None:
    """From here on mounts of the host do not reach this process. The named namespaces among them would be kept alive
    by its copies, also those of other labs."""
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _libc.umount2(NAMED_NAMESPACES.encode(), MNT_DETACH)


def _private_world(spec: dict[str, Any]) -> None:
    """Give the node its own /tmp, /run, /var/log, /dev/shm, /proc, /sys and identity files."""
    covers = [target for _, target in spec["binds"]]
    # Opened before anything is covered: a source may itself lie below one of the covers, and what is kept does.
    binds = [(os.open(source, os.O_PATH), target) for source, target in spec["binds"]]
    kept = [(os.open(path, os.O_PATH), path) for path in spec["keep"] if _hidden(path, covers)]
    for descriptor, target in binds:
        _bind(descriptor, target)
    for descriptor, path in kept:
        os.makedirs(path, exist_ok=True)
        _bind(descriptor, path)
    _mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    # A sysfs and a proc of the node's own: interfaces, sysctls and processes are then the node's.
    _mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    hostname = spec["name"].encode()
    _checked(_libc.sethostname(hostname, len(hostname)), "sethostname")


def _tune(sysctls: dict[str, str], recorded: list[str]) -> dict[str, str]:
    """Set each sysctl of this network namespace that the kernel has; what it then says of them and of ``recorded``."""
    said = {}
    for name in [*sysctls, *recorded]:
        path = "/proc/sys/" + name.replace(".", "/")
        if not os.path.exists(path):
            continue
        if name in sysctls:
            try:
                with open(path, "w") as setting:
                    setting.write(sysctls[name])
            except OSError as error:
                raise OSError(error.errno, f"the kernel refuses {name} = {sysctls[name]}: {error.strerror}") from error
        with open(path) as setting:
            said[name] = " ".join(setting.read().split())
        if said[name] != sysctls.get(name, said[name]):
            raise OSError(0, f"the kernel was told {name} = {sysctls[name]} and says {said[name]}")
    return said


def _bring_up(interface: str, address: str | None = None) -> None:
    """Bring an interface up; with ``address`` it gets that one and a mask of 31 bits."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        name = interface.encode()
        if address is not None:
            for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, "255.255.255.254")):
                fcntl.ioctl(handle, request, struct.pack("16sHxx4s8x", name, socket.AF_INET, socket.inet_aton(value)))
        _, flags = struct.unpack("16sH14x", fcntl.ioctl(handle, SIOCGIFFLAGS, struct.pack("16s16x", name)))
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sH14x", name, flags | IFF_UP))


def _listens(port: int) -> bool:
    with open("/proc/net/tcp") as table:
        return any(
            fields[3] == TCP_LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port
            for fields in (line.split() for line in table.readlines()[1:])
        )


def _start_sshd(argv: list[str], log: str) -> None:
    """Start sshd and return when it listens; OSError with the log's end when it dies instead."""
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, stream, 1), (os.POSIX_SPAWN_DUP2, stream, 2)]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    pid = os.posix_spawn(argv[0], argv, environment, file_actions=actions, setsid=True)
    os.close(stream)
    os.close(null)
    deadline = time.monotonic() + SSHD_DEADLINE_S
    wait_s = FIRST_LOOK_S
    while not _listens(22):
        ended, _ = os.waitpid(pid, os.WNOHANG)
        if ended or time.monotonic() > deadline:
            with open(log, errors="replace") as text:
                raise OSError(0, "sshd does not serve: " + text.read()[-500:].strip())
        time.sleep(wait_s)
        wait_s = min(LAST_LOOK_S, wait_s * 1.5)


def _reap_for_ever() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _told_to_go() -> bool:
    return len(os.read(0, 1)) == 1


def _first_process(spec: dict[str, Any]) -> None:
    if not _told_to_go():
        os._exit(1)
    try:
        _bring_up("lo")
        _bring_up(spec["management_interface"], spec["management_address"])
        _private_world(spec)
        _start_sshd(spec["sshd"], spec["sshd_log"])
    except OSError as error:
        _say({"name": spec["name"], "error": str(error)})
        os._exit(1)
    _say({"name": spec["name"], "ready": True})
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _reap_for_ever()


def _make_node(spec: dict[str, Any]) -> None:
    """Enter new namespaces and become the node: the child is its first process, and this process ends."""
    try:
        flags = CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID
        _checked(_libc.unshare(flags), "unshare")
        os.setsid()
        _leave_shared_mounts()
        said = _tune(spec["sysctls"], spec["recorded_sysctls"])
    except OSError as error:
        _say({"name": spec["name"], "error": str(error)})
        return
    pid = os.fork()
    if pid:
        _say({"name": spec["name"], "pid": pid, "sysctls": said})
    else:
        _first_process(spec)


def _make_edge(spec: dict[str, Any]) -> None:
    """Enter a new network namespace, and hold it until it has a name."""
    try:
        _checked(_libc.unshare(CLONE_NEWNET), "unshare")
        said = _tune(spec["sysctls"], [])
    except OSError as error:
        _say({"name": spec["name"], "error": str(error)})
        return
    _say({"name": spec["name"], "pid": os.getpid(), "sysctls": said})
    _told_to_go()


def main() -> None:
    """Fork one process for each node and edge, and end with the last edge's."""
    # Unbuffered: the bytes after the first line are for the forked processes.
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1 << 16)
        if not byte:
            sys.exit(1)
        line += byte
    specs = json.loads(line)
    for make, those in ((_make_node, specs["nodes"]), (_make_edge, specs["edges"])):
        for spec in those:
            if os.fork() == 0:
                try:
                    make(spec)
                finally:
                    os._exit(0)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main()
