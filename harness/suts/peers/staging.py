"""What a file transfer needs at both ends: content at the source, an empty place at the destination, SSH on the WAN."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from harness.model.bench import Workload
from harness.nodes.port import Node, RemoteProcess
from harness.suts.peers.port import Ends

SSH_PORT = 2222
_LOCK = threading.Lock()
_SMALL_SCRIPT = """
import os, sys
root, files, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(files):
    if number % 100 == 0:
        os.makedirs(f"{root}/{number // 100:04d}")
    with open(f"{root}/{number // 100:04d}/{number:06d}.dat", "wb") as out:
        out.write(os.urandom(size))
"""


def staged(node: Node, workload: Workload) -> str:
    """Where the content is on the source, made at its first use: random, so that compression gains nothing."""
    what = f"small-{workload.files}x{workload.bytes}" if workload.kind == "small" else f"large-{workload.bytes}"
    place = f"{node.data_dir}/stage/{what}"
    with _LOCK:
        if node.remote.run(["test", "-e", place], check=False).exit_code == 0:
            return place
        node.remote.run(["mkdir", "-p", f"{node.data_dir}/stage"])
        if workload.kind == "small":
            argv = ["python3", "-I", "-c", _SMALL_SCRIPT, f"{place}.part", str(workload.files), str(workload.bytes)]
        else:
            argv = ["sh", "-c", f"head -c {workload.bytes} /dev/urandom > {place}.part"]
        node.remote.run(argv, timeout_s=180)
        node.remote.run(["mv", f"{place}.part", place])
    return place


def empty_place(node: Node, name: str) -> str:
    """A new directory at the destination."""
    place = f"{node.data_dir}/in/{name}"
    node.remote.run(["mkdir", "-p", place])
    return place


def cleared(node: Node, place: str) -> None:
    """Take it away again: the next transfer must not find a full disk."""
    node.remote.run(["rm", "-rf", "--", place], timeout_s=120)


class WanSsh:
    """An sshd of its own at each end, on the WAN address; made once for a lab."""

    def __init__(self) -> None:
        self._running: dict[str, RemoteProcess] = {}

    def prepare(self, ends: Ends) -> None:
        """Keys at both ends, and a server that lets either in."""
        with _LOCK:
            if self._running:
                return
            both = (ends.source, ends.destination)
            for node in both:
                for key in ("wan_key", "wan_host_key"):
                    node.remote.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], cwd=node.data_dir)
            public = [node.remote.run(["cat", "wan_key.pub"], cwd=node.data_dir).stdout for node in both]
            for node in both:
                node.remote.run(["sh", "-c", "cat > wan_authorized"], cwd=node.data_dir, stdin="".join(public))
                self._running[node.name] = node.remote.start("wan-sshd", sshd_argv(node.wan_address, node.data_dir))


def sshd_argv(address: str, home: str) -> list[str]:
    """A server with Debian's own ciphers, for the WAN alone."""
    options = [
        f"ListenAddress={address}",
        f"HostKey={home}/wan_host_key",
        f"AuthorizedKeysFile={home}/wan_authorized",
        "StrictModes=no",
        "PidFile=none",
        "UseDNS=no",
        "Subsystem=sftp internal-sftp",
    ]
    return [
        *("/usr/sbin/sshd", "-D", "-f", "/dev/null", "-p", str(SSH_PORT)),
        *(part for option in options for part in ("-o", option)),
    ]


def ssh_argv(home: str) -> list[str]:
    """The client's side, without a host."""
    return [
        *("ssh", "-p", str(SSH_PORT), "-i", f"{home}/wan_key", "-o", "StrictHostKeyChecking=no"),
        *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"),
    ]


def end_group(node: Node, pid: int) -> None:
    """Kill a program that was started on the node, and all that it started."""
    node.remote.run(["sh", "-c", f"kill -s KILL -- -{int(pid)}"], check=False)


def end_named(node: Node, words: Sequence[str]) -> None:
    """Kill what a program of the other end has left on the node, whose processes have a namespace of their own. Words
    are regular expressions that must not match themselves: the command that looks for them would be killed as well."""
    for word in words:
        node.remote.run(["pkill", "-KILL", "-f", word], check=False)


def has_ended(node: Node, pid: int) -> bool:
    """Whether a program that was started on the node is gone, or waits for nothing but to be noticed."""
    state = node.remote.run(["ps", "-o", "state=", "-p", str(pid)], check=False)
    return state.exit_code != 0 or state.stdout.strip() in ("", "Z", "X")
