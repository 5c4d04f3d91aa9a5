"""The first process of a namespace node: makes the node's private world, starts its sshd, reaps orphans. Stand-alone.

Run as ``python -I -S node_init.py`` with the standard library alone, so that a node starts in milliseconds. Protocol,
one JSON object a line:

    <- {"site": ..., "tmp": ..., ...}      the specification (see namespace_node.py)
    -> {"pid": N}                          process 1 of the node, as the host sees it, in namespaces of its own
    <- go                                  its network is wired and it stands in the ledger
    -> {"ready": true}                     sshd listens
    -> {"error": "..."}                    instead, when something failed

The end of standard input before ``go`` means that the builder died: the node ends, and nothing is left.
"""

# The import of pathlib would double the time that a node takes to start.
# ruff: noqa: PTH103, PTH123

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from typing import Any, TextIO

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
TCP_LISTEN = "0A"
SSHD_DEADLINE_S = 20.0

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


def _private_world(spec: dict[str, Any]) -> None:
    """Give the node its own /tmp, /run, /var/log, /dev/shm, /proc, /sys and identity files."""
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
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
    hostname = spec["site"].encode()
    _checked(_libc.sethostname(hostname, len(hostname)), "sethostname")


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
    while not _listens(22):
        ended, _ = os.waitpid(pid, os.WNOHANG)
        if ended or time.monotonic() > deadline:
            with open(log, errors="replace") as text:
                raise OSError(0, "sshd does not serve: " + text.read()[-500:].strip())
        time.sleep(0.003)


def _reap_for_ever() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _first_process(spec: dict[str, Any], commands: TextIO) -> None:
    if commands.readline() != "go\n":
        os._exit(1)
    try:
        _private_world(spec)
        _start_sshd(spec["sshd"], spec["sshd_log"])
    except OSError as error:
        _say({"error": str(error)})
        os._exit(1)
    _say({"ready": True})
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _reap_for_ever()


def main() -> None:
    """Enter the new namespaces and become the node."""
    commands = open(0, closefd=False)  # noqa: SIM115 - it is this process's standard input
    line = commands.readline()
    if not line:
        sys.exit(1)
    spec = json.loads(line)
    try:
        flags = CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID
        _checked(_libc.unshare(flags), "unshare")
    except OSError as error:
        _say({"error": str(error)})
        sys.exit(1)
    pid = os.fork()
    if pid:
        _say({"pid": pid})
        os._exit(0)
    _first_process(spec, commands)


if __name__ == "__main__":
    main()
