"""The remote by Fabric: commands, processes and files on a node over SSH, safe to use from many threads at once."""

from __future__ import annotations

import logging
import os
import secrets
import select
import shlex
import signal as signals
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fabric import Config, Connection
from fabric.runners import Remote as FabricRunner
from invoke.exceptions import CommandTimedOut, ThreadException
from paramiko import Ed25519Key, RejectPolicy, SFTPClient, SSHConfig
from paramiko.ssh_exception import SSHException

from harness.errors import NodeError, RemoteTimeout
from harness.nodes.port import Completed, RemoteProcess

CONNECT_DEADLINE_S = 15.0
KILL_DEADLINE_S = 10
_GRACE_S = 2.0
"""How long after a command's deadline its streams may stay open (a descendant in another process group holds them)."""

_BYTES = "latin-1"
"""Maps bytes to text one to one: Fabric's streams are text, a node's are bytes."""

_TAIL = 2000
_INPUT_CHECK_S = 0.2
"""How long a command that ended may wait for a terminal or pipe that says nothing more."""

_MARK = "LONGHAUL_COMMAND"

# Paramiko logs a stack trace for every connection that a killed node drops; the caller gets the error anyway.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class _Runner(FabricRunner):  # type: ignore[misc]
    """Fabric's runner without its polls: it wakes when the command ends, and sends standard input whole."""

    read_chunk_size = 1 << 16

    def wait(self) -> None:
        while not self.channel.status_event.wait(timeout=1.0):
            if self.has_dead_threads:
                return

    def decode(self, data: bytes) -> str:
        return data.decode(_BYTES)

    def respond(self, buffer_: list[str]) -> None:
        """Nothing to answer: no watchers are used, and joining all output for each chunk costs its square."""

    def handle_stdin(self, input_: Any, output: Any, echo: bool = False) -> None:
        try:
            if isinstance(input_, str):
                self.channel.sendall(input_.encode("utf-8", "surrogateescape"))
            else:
                self._forward(input_.fileno())
            self.channel.shutdown_write()
        except OSError:
            # The command ended, or closed its input, without reading all of it: its own affair.
            return

    def _forward(self, descriptor: int) -> None:
        while not self.program_finished.is_set():
            ready, _, _ = select.select([descriptor], [], [], _INPUT_CHECK_S)
            if ready:
                data = os.read(descriptor, self.read_chunk_size)
                if not data:
                    return
                self.channel.sendall(data)

    def write_our_output(self, stream: Any, string: str) -> None:
        stream.write(string.encode(_BYTES))
        stream.flush()

    def send_start_message(self, command: str) -> None:
        self.channel.exec_command(command.encode("utf-8", "surrogateescape"))

    def send_interrupt(self, interrupt: BaseException) -> None:
        self.channel.close()
        raise interrupt


class FabricRemote:
    """Implements ``Remote``. Connects at first use; host keys are pinned, the lab's key is the only one offered.

    ``home`` is where commands run unless told otherwise. Raises NodeError when the node cannot be reached.
    """

    def __init__(
        self, *, site: str, address: str, key: Path, known_hosts: Path, home: str, log_dir: str, user: str = "root"
    ) -> None:
        self._site = site
        self._address = address
        self._key = key
        self._known_hosts = known_hosts
        self._home = home
        self._log_dir = log_dir
        self._user = user
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._sftp: SFTPClient | None = None

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: str | None = None,
    ) -> Completed:
        """Run and wait; see ``Remote``. A command ended by a signal has exit code 128 + the signal's number."""
        command = _bounded(argv, timeout_s, env=env, cwd=cwd or self._home, has_stdin=bool(stdin))
        begin = time.monotonic()
        exit_code, stdout, stderr = self._execute(argv, command, timeout_s, stdin)
        seconds = time.monotonic() - begin
        if exit_code == 128 + signals.SIGKILL and seconds >= timeout_s:
            raise self._timed_out(argv, timeout_s, stdout, stderr)
        if check and exit_code != 0:
            what = f"{self._site}: {shlex.join(argv)} ended with {exit_code} after {seconds:.1f} s"
            raise NodeError(what + _streams(stdout, stderr))
        return Completed(argv=tuple(argv), exit_code=exit_code, stdout=stdout, stderr=stderr, seconds=seconds)

    def stream(self, argv: Sequence[str], *, stdin: BinaryIO | None, stdout: BinaryIO, stderr: BinaryIO) -> int:
        """Run without a deadline, streams passed through as they come; the exit code. ``stdin`` needs a descriptor.

        When interrupted, the command is killed before the interrupt goes on.
        """
        mark = secrets.token_hex(8)
        command = _bounded(argv, 0, env={_MARK: mark}, cwd=self._home, has_stdin=bool(stdin))
        try:
            result = self._connected().run(
                command, warn=True, in_stream=stdin or False, out_stream=stdout, err_stream=stderr, encoding=_BYTES
            )
        except KeyboardInterrupt:
            self._kill_marked(mark)
            raise
        except (SSHException, ThreadException, OSError, EOFError) as error:
            raise NodeError(f"{self._site}: lost the node while it ran {shlex.join(argv)}: {error}") from error
        if result.exited < 0:
            raise NodeError(f"{self._site}: the connection ended while {shlex.join(argv)} ran")
        return int(result.exited)

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> RemoteProcess:
        """Start a process in a session of its own, its streams appended to ``log_dir/name.log``.

        Raises NodeError when the program does not exist.
        """
        log = f"{self._log_dir}/{name}.log"
        program = shlex.quote(argv[0])
        script = (
            f"command -v -- {program} >/dev/null || {{ echo {program}: no such program >&2; exit 127; }}; "
            f"setsid {_with_environment(argv, env)} >>{shlex.quote(log)} 2>&1 </dev/null & echo $!"
        )
        answer = self.run(["sh", "-c", script], timeout_s=20.0, cwd=cwd)
        return RemoteProcess(name=name, pid=int(answer.stdout), log=log)

    def signal(self, pid: int, signal: str) -> bool:
        """Send TERM, KILL, STOP ... ; False when there is no such process. After KILL, returns when it is gone.

        Raises ValueError for an unknown name, NodeError when a killed process stays.
        """
        name = signal.removeprefix("SIG")
        if f"SIG{name}" not in signals.Signals.__members__:
            raise ValueError(f"no signal is called {signal!r}")
        script = f"kill -s {name} -- {int(pid)} 2>/dev/null || {{ test -d /proc/{int(pid)} && exit 2; exit 1; }}"
        answer = self.run(["sh", "-c", script], timeout_s=20.0, check=False)
        if answer.exit_code not in (0, 1):
            raise NodeError(f"{self._site}: cannot send {signal} to process {pid}: {answer.stderr}")
        if name == "KILL" and answer.exit_code == 0:
            gone = ["timeout", str(KILL_DEADLINE_S), "tail", f"--pid={int(pid)}", "-s", "0.02", "-f", "/dev/null"]
            if self.run(gone, timeout_s=KILL_DEADLINE_S + 10.0, check=False).exit_code:
                raise NodeError(f"{self._site}: process {pid} is still there {KILL_DEADLINE_S} s after SIGKILL")
        return answer.exit_code == 0

    def put(self, local: Path, remote: str) -> None:
        """Copy a file to the node, mode included."""

        def copy(sftp: SFTPClient) -> None:
            sftp.put(os.fspath(local), remote)
            sftp.chmod(remote, local.stat().st_mode & 0o7777)

        self._transfer(f"{local} to {remote}", copy)

    def get(self, remote: str, local: Path) -> None:
        """Copy a file from the node."""
        self._transfer(f"{remote} to {local}", lambda sftp: sftp.get(remote, os.fspath(local)))

    def close(self) -> None:
        """Close the SSH connection; a later command opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = self._sftp = None

    def ssh_command(self) -> list[str]:
        """The system's ssh client with the lab's key and pinned hosts, for an interactive session."""
        options = {
            "UserKnownHostsFile": str(self._known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "LogLevel": "ERROR",
        }
        flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "none", "-i", str(self._key), *flags, f"{self._user}@{self._address}"]

    def _execute(self, argv: Sequence[str], command: str, timeout_s: float, stdin: str | None) -> tuple[int, str, str]:
        connection = self._connected()
        try:
            result = connection.run(
                command,
                hide=True,
                warn=True,
                timeout=timeout_s + _GRACE_S,
                in_stream=stdin if stdin else False,
                encoding=_BYTES,
            )
        except CommandTimedOut as error:
            raise self._timed_out(argv, timeout_s, _text(error.result.stdout), _text(error.result.stderr)) from error
        except (SSHException, ThreadException, OSError, EOFError) as error:
            self._drop(connection)
            raise NodeError(f"{self._site}: lost the node while it ran {shlex.join(argv)}: {error}") from error
        if result.exited < 0:
            raise NodeError(f"{self._site}: the connection ended while {shlex.join(argv)} ran")
        return result.exited, _text(result.stdout), _text(result.stderr)

    def _kill_marked(self, mark: str) -> None:
        found = f"grep -lzsxF {_MARK}={mark} /proc/[0-9]*/environ"
        self.run(["sh", "-c", f"for file in $({found}); do kill -s KILL $(basename $(dirname $file)); done; true"])

    def _timed_out(self, argv: Sequence[str], timeout_s: float, stdout: str, stderr: str) -> RemoteTimeout:
        return RemoteTimeout(
            f"{self._site}: {shlex.join(argv)} did not end within {timeout_s:g} s and was killed"
            f"{_streams(stdout, stderr)}"
        )

    def _connected(self) -> Connection:
        with self._lock:
            if self._connection is None or not self._connection.is_connected:
                self._sftp = None
                self._connection = self._connect()
            return self._connection

    def _connect(self) -> Connection:
        # Nothing of the user's own SSH configuration may leak into a lab.
        config = Config(overrides={"runners": {"remote": _Runner}}, ssh_config=SSHConfig(), lazy=True)
        config.load_base_conf_files = False
        connection = Connection(
            self._address,
            user=self._user,
            config=config,
            connect_timeout=CONNECT_DEADLINE_S,
            connect_kwargs={
                "pkey": Ed25519Key.from_private_key_file(os.fspath(self._key)),
                "look_for_keys": False,
                "allow_agent": False,
                "banner_timeout": CONNECT_DEADLINE_S,
                "auth_timeout": CONNECT_DEADLINE_S,
            },
        )
        connection.client.load_host_keys(os.fspath(self._known_hosts))
        connection.client.set_missing_host_key_policy(RejectPolicy())
        try:
            connection.open()
        except (SSHException, OSError, EOFError) as error:
            connection.close()
            raise NodeError(
                f"{self._site}: no SSH to the node at {self._address}: {error}",
                hint=f"Its sshd logs to {self._log_dir}/sshd.log.",
            ) from error
        # Nagle's algorithm against delayed acknowledgements costs 40 ms for each command.
        connection.transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _transfer(self, what: str, act: Callable[[SFTPClient], Any]) -> None:
        connection = self._connected()
        try:
            with self._lock:
                if self._sftp is None:
                    self._sftp = connection.client.open_sftp()
                sftp = self._sftp
            act(sftp)
        except (SSHException, OSError, EOFError) as error:
            raise NodeError(f"{self._site}: cannot copy {what}: {error}") from error

    def _drop(self, connection: Connection) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = self._sftp = None
        connection.close()


def _bounded(argv: Sequence[str], timeout_s: float, *, env: Mapping[str, str] | None, cwd: str, has_stdin: bool) -> str:
    """The shell line that runs ``argv`` with its deadline enforced on the node itself.

    ``timeout`` kills the command's whole process group. The shell's own remarks ("Killed") go nowhere, the command's
    standard error goes through descriptor 3.
    """
    source = "" if has_stdin else " </dev/null"
    bounded = f"timeout -s KILL {timeout_s:.3f} {_with_environment(argv, env)}"
    return f"cd {shlex.quote(cwd)} || exit 1; {{ {bounded} 2>&3 3>&-{source}; }} 3>&2 2>/dev/null; exit $?"


def _with_environment(argv: Sequence[str], env: Mapping[str, str] | None) -> str:
    if not argv:
        raise ValueError("an empty command")
    settings = [f"{name}={value}" for name, value in (env or {}).items()]
    return shlex.join(["env", *settings, *argv] if settings else list(argv))


def _text(stream: str) -> str:
    return stream.encode(_BYTES).decode("utf-8", "surrogateescape")


def _streams(stdout: str, stderr: str) -> str:
    parts = [f"\n{name}: {text[-_TAIL:].rstrip()}" for name, text in (("stdout", stdout), ("stderr", stderr)) if text]
    return "".join(parts)
