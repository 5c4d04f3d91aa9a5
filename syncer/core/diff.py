"""From what stands on disk to a new version of a path. Pure."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from syncer.core.records import Content, Entry, Fingerprint, Kind
from syncer.core.version_vector import advance


class LocalState(msgspec.Struct, frozen=True, kw_only=True):
    """What a scan found at a path; ``kind`` None: nothing. ``content`` is read for files. Not ``settled``: a write that
    follows may leave the fingerprint as it is (its clock is that coarse), so it is not kept and the file is read again.
    """

    path: bytes
    kind: Kind | None
    fingerprint: Fingerprint | None = None
    content: Content | None = None
    target: bytes = b""
    settled: bool = True


def local_version(known: Entry | None, state: LocalState, site: str, actor: str) -> Entry | None:
    """The new version that ``state`` is against ``known``, or None when it is the same."""
    base = known if known is not None else Entry(path=state.path, kind=state.kind or Kind.FILE)
    vector = advance(base.vector, actor)
    dot = (actor, dict(vector)[actor])
    if state.kind is None:
        if known is None or known.deleted:
            return None
        return Entry(path=base.path, kind=base.kind, deleted=True, vector=vector, dot=dot, origin=site)
    now = describe(state)
    if known is not None and not known.deleted and replace(known, vector=(), dot=("", 0), origin="") == now:
        return None
    return replace(now, vector=vector, dot=dot, origin=site)


def describe(state: LocalState) -> Entry:
    """The value that stands on disk, without vector, dot and origin."""
    if state.kind is None or state.fingerprint is None:
        raise ValueError(f"{state.path!r}: nothing stands there")
    if state.kind is Kind.SYMLINK:
        return Entry(path=state.path, kind=state.kind, target=state.target)
    mode = state.fingerprint.mode & 0o7777
    if state.kind is Kind.DIRECTORY:
        return Entry(path=state.path, kind=state.kind, mode=mode)
    return Entry(
        path=state.path, kind=state.kind, mode=mode, mtime_ns=state.fingerprint.mtime_ns, content=state.content
    )


def children_leave_first(state: LocalState) -> tuple[bool, bytes]:
    """Deletions first, the deepest before its parent; then the rest, parents before children."""
    if state.kind is None:
        return False, bytes(255 - byte for byte in state.path) + b"\xff"
    return True, state.path
