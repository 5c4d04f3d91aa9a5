"""A synced folder for tests: real files, and short ways to make entries and temporary files for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from syncer.core.records import Content, Entry, Fingerprint, Kind, block_size_for
from syncer.files.install import Installer
from syncer.files.root import Root
from syncer.files.scan import Observed, observe
from syncer.files.temp_store import TempStore, partial_name

MTIME_NS = 1_234_567_890_123_456_789


def content_of(data: bytes) -> Content:
    block_size = block_size_for(len(data))
    blocks = [blake3(data[start : start + block_size]).digest() for start in range(0, len(data), block_size)]
    return Content(len(data), blake3(data).digest(), block_size, b"".join(blocks))


def file_entry(path: bytes, data: bytes, *, mode: int = 0o644, mtime_ns: int = MTIME_NS) -> Entry:
    return Entry(path=path, kind=Kind.FILE, mode=mode, mtime_ns=mtime_ns, content=content_of(data))


class Folder:
    """A folder at ``path`` with all that works on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = Root(path).create()
        self.installer = Installer(self.root)
        self.temps = TempStore(self.root)

    def close(self) -> None:
        self.root.close()

    def at(self, path: bytes) -> Path:
        return Path(os.fsdecode(self.root.absolute(path)))

    def write(self, path: bytes, data: bytes) -> Fingerprint:
        """As a user would."""
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_bytes(data)
        return self.fingerprint(path)

    def stage(self, path: bytes, data: bytes) -> bytes:
        """A finished temporary file, as a mover leaves it."""
        name = partial_name(path, blake3(data).digest())
        Path(os.fsdecode(self.temps.absolute(name))).write_bytes(data)
        return name

    def install(self, path: bytes, data: bytes, expected: Fingerprint | None, **options: bytes) -> Fingerprint:
        return self.installer.install_file(self.stage(path, data), file_entry(path, data), expected, **options)

    def observe(self, path: bytes) -> Observed:
        found = observe(self.root, path)
        assert isinstance(found, Observed)
        return found

    def fingerprint(self, path: bytes) -> Fingerprint:
        return self.observe(path).fingerprint

    def tree(self) -> dict[bytes, bytes | None]:
        """Path to content, of all but the private directory; None for a directory, the target of a symlink."""
        found: dict[bytes, bytes | None] = {}
        for directory, names, files in os.walk(self.path):
            if directory == str(self.path):
                names.remove(".syncer")
            for path in map(Path(directory).joinpath, names + files):
                relative = os.fsencode(path.relative_to(self.path))
                if path.is_symlink():
                    found[relative] = os.fsencode(path.readlink())
                else:
                    found[relative] = None if path.is_dir() else path.read_bytes()
        return found

    def leftovers(self) -> list[bytes]:
        return self.root.names_in(b".syncer/tmp")


def in_child_as_nobody(action: Callable[[], bool]) -> bool:
    """What ``action`` says in a child process without root's powers; a raised exception is False."""
    child = os.fork()
    if child == 0:
        said = False
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            said = action()
        finally:
            os._exit(0 if said else 1)
    return os.waitpid(child, 0)[1] == 0
