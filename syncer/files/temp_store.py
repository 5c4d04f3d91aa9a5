"""Temporary files in ``.syncer/tmp``: their names, and what is left of them after a crash."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache

from blake3 import blake3

from syncer.errors import DiskFailed
from syncer.files.disk import changing
from syncer.files.root import PRIVATE, TEMPORARY, Root

_PARTIAL = b"get-"
_STAGED = b"new-"

_BLOCK = 512
"""The unit of st_blocks."""


@lru_cache(maxsize=8192)
def partial_name(path: bytes, digest: bytes) -> bytes:
    """The name under which the content ``digest`` for ``path`` is gathered.

    The same after a restart, so that a broken transfer is resumed. One name has one job at a time.
    """
    return _PARTIAL + blake3(digest + path).hexdigest(length=16).encode()


def staged_name() -> bytes:
    """A fresh name for something that is made whole in the temporary directory and then moved into the tree."""
    return _STAGED + secrets.token_hex(8).encode()


def remove_any(directory: int, name: bytes) -> None:
    """Unlinks a file or symlink, or removes an empty directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=directory)


class TempStore:
    """The temporary directory of a folder. Names are single components, as ``partial_name`` makes them."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._fd = root.temporary_fd

    def absolute(self, name: bytes) -> bytes:
        """The path for a mover (ExpectFile.temp_path)."""
        return self._root.absolute(PRIVATE + b"/" + TEMPORARY + b"/" + name)

    def open_partial(self, name: bytes) -> int | None:
        """A descriptor for reading what an earlier attempt left, for ``verify_blocks``; None if there is nothing."""
        try:
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DiskFailed(f"the temporary file {name.decode()} cannot be read: {error.strerror}") from error

    def partials(self) -> dict[bytes, int]:
        """Names of partial files and the bytes that each takes on disk."""
        sizes = {}
        for name in self._names():
            if name.startswith(_PARTIAL):
                with suppress(FileNotFoundError):
                    sizes[name] = os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_blocks * _BLOCK
        return sizes

    def discard(self, name: bytes) -> None:
        """Removes one partial file if it is there."""
        with changing(name), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def clean(self, keep: Collection[bytes] = ()) -> int:
        """Removes partial files but those in ``keep``, and what interrupted operations staged. Returns how many.

        Never touches what was moved out of the user's tree: ``Installer.recover()`` sees to that.
        """
        stale = [name for name in self._names() if name.startswith((_PARTIAL, _STAGED)) and name not in keep]
        for name in stale:
            with changing(name), suppress(FileNotFoundError):
                remove_any(self._fd, name)
        return len(stale)

    def _names(self) -> list[bytes]:
        with changing(TEMPORARY):
            return self._root.names_in(PRIVATE + b"/" + TEMPORARY)
