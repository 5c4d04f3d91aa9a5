"""Contents: hash a file as it stands, and find out which blocks of a partial one are right."""

from __future__ import annotations

from syncer.core.records import Content, Fingerprint
from syncer.files.root import Root


def read_content(root: Root, path: bytes, fingerprint: Fingerprint) -> Content:
    """Hashes file ``path``, which must have this fingerprint before and after (all fields).

    The block size is ``block_size_for(size)``; the number of blocks is ceil(size / block size), so none for an empty file,
    and the digest itself for a file of one block. Safe to call from several threads; lets go of the GIL while hashing.

    Raises:
        SourceChanged: it is gone or not what ``fingerprint`` says; observe it again.
        Unreadable: no permission or an I/O error.
    """
    raise NotImplementedError


def is_settled(fingerprint: Fingerprint, now_ns: int) -> bool:
    """Whether a write after ``now_ns`` (CLOCK_REALTIME, taken before hashing began) must change this fingerprint.

    Not so within the granularity of the file system's clock: a file's fingerprint that is not settled may be recorded only
    together with the resolve to hash again (same-second, same-size edits).
    """
    raise NotImplementedError


def verify_blocks(fd: int, content: Content) -> list[int]:
    """Indices of the blocks that the open file (a partial temporary one) already holds right, in order."""
    raise NotImplementedError
