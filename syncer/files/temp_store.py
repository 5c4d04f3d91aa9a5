"""Temporary files in ``.syncer/tmp``: their names, and what is left of them after a crash."""

from __future__ import annotations

from collections.abc import Collection

from syncer.files.root import Root


def partial_name(path: bytes, digest: bytes) -> bytes:
    """The name under which the content ``digest`` for ``path`` is gathered: the same after a restart, so that a broken
    transfer is resumed. One name has one job at a time."""
    raise NotImplementedError


class TempStore:
    """The temporary directory of a folder. Names are single components, as ``partial_name`` makes them."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def absolute(self, name: bytes) -> bytes:
        """The path for a mover (ExpectFile.temp_path)."""
        raise NotImplementedError

    def open_partial(self, name: bytes) -> int | None:
        """A descriptor for reading what an earlier attempt left, for ``verify_blocks``; None if there is nothing."""
        raise NotImplementedError

    def partials(self) -> dict[bytes, int]:
        """Names of partial files and the bytes that each takes on disk."""
        raise NotImplementedError

    def discard(self, name: bytes) -> None:
        """Removes one partial file if it is there."""
        raise NotImplementedError

    def clean(self, keep: Collection[bytes] = ()) -> int:
        """Removes partial files but those in ``keep``, and what interrupted operations left. Returns how many.

        Never touches what was moved out of the user's tree: ``Installer.recover()`` puts that back, so call it first.
        """
        raise NotImplementedError
