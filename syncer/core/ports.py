"""What the core needs of its surroundings to remember: the index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from syncer.core.records import Entry, Fingerprint


class Stored(Protocol):
    """One row of the index."""

    @property
    def seq(self) -> int: ...
    @property
    def entry(self) -> Entry: ...
    @property
    def fingerprint(self) -> Fingerprint | None: ...


class Progress(NamedTuple):
    """Of one peer: its index's epoch, its last sequence number durable here, and ours durable there."""

    epoch: int = 0
    received_seq: int = 0
    acked_seq: int = 0


class IndexPort(Protocol):
    """The durable index. Every write is durable when the call returns, all or nothing."""

    @property
    def epoch(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    def entry(self, path: bytes, /) -> Stored | None: ...
    def children(self, path: bytes, /) -> Iterable[Stored]: ...
    def since(self, seq: int, limit: int, /) -> Sequence[tuple[int, Entry]]: ...
    def by_digest(self, digest: bytes, /) -> Sequence[bytes]: ...
    def peer(self, site: str, /) -> Progress: ...
    def upsert(
        self,
        items: Sequence[tuple[Entry, Fingerprint | None]],
        /,
        *,
        peer_progress: Mapping[str, Progress] | None = None,
    ) -> int: ...
    def refresh_fingerprints(self, fingerprints: Mapping[bytes, Fingerprint | None], /) -> None: ...
