"""One path that is not yet as the peers say it should be. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from msgspec.structs import replace

from syncer.core.reconcile import Verdict, reconcile, same_content
from syncer.core.records import Entry, Kind


class State(Enum):
    """How far a need has come."""

    IDLE = "idle"  # nothing to do yet: a parent, a child or another site's step is missing
    QUEUED = "queued"  # waits for room in a peer's window
    FETCHING = "fetching"
    FETCHED = "fetched"  # the content is here in full
    APPLYING = "applying"
    BLOCKED = "blocked"  # failed; waits for a rescan or for ``retry``


@dataclass(slots=True)
class Need:
    """``announced``: what each peer's index says of the path and is not settled. ``target``: the record to reach, None
    while another site has to act first. ``displaced``: reaching it needs a conflict copy of what stands here."""

    path: bytes
    announced: dict[str, Entry] = field(default_factory=dict)
    target: Entry | None = None
    displaced: bool = False
    state: State = State.IDLE
    job: int = 0
    job_site: str = ""
    refused: set[str] = field(default_factory=set)
    queued_at: set[str] = field(default_factory=set)
    use_local: bytes | None = None
    distrusts_local: bool = False
    aside: Entry | None = None
    recheck: bool = False

    def has_source(self, site: str) -> bool:
        """Whether the peer announced the target's content and has not refused it."""
        entry = self.announced.get(site)
        if entry is None or entry.content is None or site in self.refused:
            return False
        return (
            self.target is not None
            and self.target.content is not None
            and entry.content.digest == self.target.content.digest
        )

    def sources(self) -> list[str]:
        """The peers that announced the target's content and have not refused it, in name order."""
        return sorted(site for site in self.announced if self.has_source(site))


def choose(local: Entry | None, announced: dict[str, Entry]) -> tuple[Entry | None, bool]:
    """The record to reach next and whether it displaces ours; None when no announcement beats ours.

    Of several announcements that do, one that beats the others is taken first: the others are looked at again after it.
    """
    best: Entry | None = None
    for _, entry in sorted(announced.items()):
        if reconcile(local, entry).verdict is not Verdict.TAKE:
            continue
        if best is None or reconcile(best, entry).verdict is Verdict.TAKE:
            best = entry
    if best is None:
        return None, False
    outcome = reconcile(local, best)
    return outcome.target, outcome.displaced


def is_directory(entry: Entry | None) -> bool:
    """Whether a directory stands there."""
    return entry is not None and not entry.deleted and entry.kind is Kind.DIRECTORY


def needs_content(target: Entry, local: Entry | None) -> bool:
    """Whether bytes have to come from somewhere to reach ``target``."""
    return target.content is not None and not (local is not None and same_content(local, target))


def is_there(target: Entry, local: Entry | None) -> bool:
    """Whether the target differs from what stands here in its history alone."""
    if target.deleted:
        return local is None or local.deleted
    return local is not None and target == replace(local, vector=target.vector, dot=target.dot, origin=target.origin)
