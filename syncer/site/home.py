"""A site's home directory: its configuration, keys, sockets, logs and index. No other module names files in it.

HOME/config.json   the site and the sites it knows       HOME/index.sqlite   the index
HOME/secret.key    0600                                  HOME/log/           one file per process
HOME/run/          0700: sockets, pids, circus.ini       HOME/lock           held while an engine runs
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path

import msgspec

from syncer.errors import InputError
from syncer.wire.control import SITE_PATTERN

SOCKET_PATH_LIMIT = 100
KEY_LENGTH = 40
DEFAULT_CONTROL_PORT = 7420
DEFAULT_DATA_PORT = 7421
AUTO = "auto"
TRANSPORTS = ("udt", "tcp")
"""Each has a mover, ``mover-udt`` and so on; all listen on the data port, each in its own protocol."""


class PeerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Another site. ``key`` is its public CURVE key (Z85). ``transport`` and ``rate_bps`` None: as this site's."""

    name: str
    address: str
    control_port: int = DEFAULT_CONTROL_PORT
    data_port: int = DEFAULT_DATA_PORT
    key: str
    transport: str | None = None
    rate_bps: int | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """This site. ``rate_bps``: what is sent to each other site at most, headers included; 0: as much as goes.
    ``transport``: ``auto`` (as measured), or the one to use."""

    site: str
    folder: str
    address: str
    control_port: int = DEFAULT_CONTROL_PORT
    data_port: int = DEFAULT_DATA_PORT
    rate_bps: int = 0
    transport: str = AUTO
    public_key: str
    sites: list[PeerConfig] = []

    def peer(self, name: str) -> PeerConfig | None:
        """The configured site of that name."""
        return next((peer for peer in self.sites if peer.name == name), None)

    def rate_to(self, name: str) -> int:
        """The cap on what is sent to a site, bits per second; 0: none."""
        peer = self.peer(name)
        return self.rate_bps if peer is None or peer.rate_bps is None else peer.rate_bps

    def transport_to(self, name: str) -> str:
        """The transport that the link to a site is pinned to, or AUTO."""
        peer = self.peer(name)
        return self.transport if peer is None or peer.transport is None else peer.transport


class Home:
    """The directory ``path``; nothing is read or made until asked for."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100  (a symlinked home keeps its short name)
        self.config_path = self.path / "config.json"
        self.secret_path = self.path / "secret.key"
        self.index_path = self.path / "index.sqlite"
        self.run = self.path / "run"
        self.log = self.path / "log"

    def endpoint(self, name: str) -> str:
        """The ipc endpoint ``name`` in the run directory."""
        return f"ipc://{self.run / name}.ipc"

    def create(self) -> None:
        """Make the directories. Raises InputError when there is a site already or the path is of no use."""
        if self.config_path.exists():
            raise InputError(f"{self.path} is a site's home already", hint="choose another --home")
        if len(os.fsencode(self.run)) > SOCKET_PATH_LIMIT - 20:
            raise InputError(f"the path {self.path} is too long for sockets in it", hint="choose a shorter --home")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.prepare()
        except OSError as error:
            raise InputError(f"{self.path} cannot be made: {error.strerror}") from error

    def prepare(self) -> None:
        """Make the run and log directories if they are missing, private to the user."""
        self.run.mkdir(mode=0o700, exist_ok=True)
        self.run.chmod(0o700)
        self.log.mkdir(mode=0o750, exist_ok=True)

    def load(self) -> Config:
        """The configuration. Raises InputError when there is none or it is malformed."""
        try:
            return msgspec.json.decode(self.config_path.read_bytes(), type=Config)
        except FileNotFoundError:
            raise InputError(
                f"{self.path} is no site's home", hint="make one with: syncer init --home HOME --site NAME ..."
            ) from None
        except (msgspec.DecodeError, OSError) as error:
            raise InputError(f"{self.config_path}: {error}", hint="mend it, or make the site anew") from error

    def save(self, config: Config) -> None:
        """Replace the configuration atomically and durably."""
        _write(self.config_path, msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n", 0o644)

    def save_secret(self, secret: bytes) -> None:
        """Keep the secret key, readable to its owner alone."""
        _write(self.secret_path, secret + b"\n", 0o600)

    def load_secret(self) -> bytes:
        """Raises InputError when the key is missing or others may read it."""
        try:
            if self.secret_path.stat().st_mode & 0o077:
                raise InputError(f"{self.secret_path} may be read by others", hint=f"chmod 600 {self.secret_path}")
            return self.secret_path.read_bytes().strip()
        except OSError as error:
            raise InputError(f"{self.secret_path}: {error.strerror}", hint="make the site anew") from error

    def lock(self) -> int | None:
        """Take the lock of a running engine; its descriptor, or None when another engine holds it."""
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def write_pid(self, role: str, pid: int) -> None:
        """Note the process of a role, for ``status``; on a full disk ``status`` does without."""
        with contextlib.suppress(OSError):
            (self.run / f"{role}.pid").write_text(f"{pid}\n")

    def read_pid(self, role: str) -> int | None:
        """The noted process, if it is alive."""
        try:
            pid = int((self.run / f"{role}.pid").read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid


def check_site_name(name: str) -> str:
    """The name itself. Raises InputError."""
    if not re.fullmatch(SITE_PATTERN, name):
        raise InputError(
            f"{name!r} is no site name", hint="use 1 to 32 letters, digits, '-' or '_', with a letter or digit first"
        )
    return name


def _write(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
