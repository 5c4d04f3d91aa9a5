"""Changes to the user's tree, each atomic to a reader and none able to destroy what a user writes at the same moment.

Whatever is displaced or removed goes to ``.syncer/tmp`` first, is compared there with what the index knew, and is put
back if it differs. ``flush()`` makes the changes durable; only after it may the index be told.
"""

from __future__ import annotations

from syncer.core.records import Content, Entry, Fingerprint, Kind
from syncer.files.root import Root


class Installer:
    """Applies entries to the folder. Safe to use from several threads, one at a time for one path.

    ``expected`` is always the fingerprint that the index has for what stands at the path; None: nothing may stand there.
    Of a directory only device and inode are compared (and it must be empty to go).
    Returned fingerprints describe what was installed, to be recorded in the index: a later write by a user differs.

    All methods raise:
        DestinationChanged: what stands there is not ``expected``, a writer has it open, or a parent is missing or is not a
            directory. The tree is as it was; observe the path (and its parents) again.
        DiskFull: no space or quota; the tree is as it was.
        DiskFailed: the disk refused; the temporary file is thrown away, fetch it again.
    """

    def __init__(self, root: Root) -> None:
        raise NotImplementedError

    def install_file(self, temp: bytes, entry: Entry, expected: Fingerprint | None) -> Fingerprint:
        """Puts the finished file ``temp`` (a name in the temporary directory, verified and fsynced) at ``entry.path`` with
        its mode and mtime. What stands there (of any kind) is replaced without a moment in which there is nothing.

        On DestinationChanged ``temp`` is still there, to be used or discarded by the caller.
        """
        raise NotImplementedError

    def make_directory(self, entry: Entry, expected: Fingerprint | None = None) -> Fingerprint:
        """Makes an empty directory. For a new mode of an existing directory use ``set_metadata``."""
        raise NotImplementedError

    def make_symlink(self, entry: Entry, expected: Fingerprint | None = None) -> Fingerprint:
        raise NotImplementedError

    def remove(self, path: bytes, kind: Kind, expected: Fingerprint) -> None:
        """Removes what ``expected`` describes. A directory must be empty."""
        raise NotImplementedError

    def rename_aside(self, path: bytes, new_path: bytes, expected: Fingerprint) -> Fingerprint:
        """Moves within the tree, never onto something. For a moment nothing stands at ``path``: where a new version is to
        be put there, use ``copy_local`` and two ``install_file`` instead. Returns the fingerprint at ``new_path``."""
        raise NotImplementedError

    def set_metadata(self, entry: Entry, expected: Fingerprint) -> Fingerprint:
        """Gives an existing file or directory the entry's mode and (files) mtime; the content stays."""
        raise NotImplementedError

    def copy_local(self, source_path: bytes, content: Content, temp: bytes) -> None:
        """Makes ``temp`` (a name in the temporary directory) from a file of this folder: shares extents where the file
        system can, keeps holes, verifies the copy against ``content``, and fsyncs it.

        Raises SourceChanged if the source is gone or has other content; ``temp`` is then gone.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """fsyncs every directory that was changed since the last flush. When it raises, the changes of this batch must not
        be committed to the index: scan their directories again."""
        raise NotImplementedError

    def recover(self) -> list[bytes]:
        """Puts back what an interrupted operation had moved out of the tree, before the first scan after a start.

        What can't go back to its place, since something else stands there now, is put beside it under a name of its own.
        Returns the paths at which something was put.
        """
        raise NotImplementedError
