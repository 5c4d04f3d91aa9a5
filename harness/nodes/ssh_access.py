"""Keys and sshd configuration of a lab: one client key for the lab, one host key for each node, all pinned."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

_AGAIN_S = 0.1
"""Pause before those are tried again whose server refused or hung up."""

CLIENT_KEY = "client_key"
KNOWN_HOSTS = "known_hosts"


def write_key(path: Path) -> str:
    """Make an Ed25519 key, write its private half (mode 0600), return its public half in one line."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(private)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def write_known_hosts(path: Path, key_of_address: Mapping[str, str]) -> None:
    """Pin every node's host key."""
    path.write_text("".join(f"{address} {key}\n" for address, key in key_of_address.items()))


def sshd_config(*, address: str, host_key: Path, authorized_keys: Path, environment: Mapping[str, str]) -> str:
    """The sshd configuration of one node: keys only, no PAM, no name service, no limit that a test would meet."""
    settings = " ".join(f'"{name}={value}"' for name, value in environment.items())
    # StrictModes looks at every parent directory of the keys, also those of the user's state root; the keys' own
    # directory is closed to others.
    return f"""\
Port 22
ListenAddress {address}
HostKey {host_key}
AuthorizedKeysFile {authorized_keys}
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
MaxStartups 1000
MaxSessions 1000
LoginGraceTime 30
AllowTcpForwarding no
AllowAgentForwarding no
X11Forwarding no
Compression no
PrintMotd no
PrintLastLog no
PidFile none
LogLevel INFO
Subsystem sftp internal-sftp
SetEnv {settings}
"""


def await_banners(addresses: Sequence[str], deadline_s: float) -> tuple[str, ...]:
    """Wait until an SSH server has greeted at each address; those that have not by then."""
    deadline = time.monotonic() + deadline_s
    waiting = _without_banner(addresses, deadline)
    while waiting and time.monotonic() < deadline:
        time.sleep(_AGAIN_S)
        waiting = _without_banner(waiting, deadline)
    return tuple(waiting)


def _without_banner(addresses: Sequence[str], deadline: float) -> list[str]:
    """Connect to all at once; those that refused, hung up, or had not greeted by the deadline."""
    silent = []
    poller = select.poll()
    opened: dict[int, tuple[socket.socket, str]] = {}
    try:
        for address in addresses:
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            opened[connection.fileno()] = connection, address
            connection.setblocking(False)
            connection.connect_ex((address, 22))
            poller.register(connection, select.POLLIN)
        pending = set(opened)
        while pending and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(left * 1000):
                connection, address = opened[descriptor]
                if not _greeted(connection):
                    silent.append(address)
                poller.unregister(descriptor)
                pending.discard(descriptor)
        return silent + [opened[descriptor][1] for descriptor in pending]
    finally:
        for connection, _ in opened.values():
            connection.close()


def _greeted(connection: socket.socket) -> bool:
    try:
        return connection.recv(64).startswith(b"SSH-2.0-")
    except OSError:
        return False
