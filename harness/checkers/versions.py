"""Who wrote what, and what each writer had found there: the causal order of versions, without trusting an engine.

A version is a content at a path. Contents are unique (every workload write carries its own id), so a writer that found
content X at a path had seen the version that wrote X, and what it put there supersedes X. A conflict copy is one of the
places at which a version of its original may stand, so a path and its conflict copies form one *family*.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from harness.model.history import Event
from harness.model.tree import TreeEntry, entry_from_json, path_bytes

OriginalOf = Callable[[bytes], bytes | None]
"""The path of which a path is a conflict copy; None when it is none."""


class Effect(NamedTuple):
    """What one operation did to one path at one site. Times are seconds since the run began.

    ``before`` is what the writer found, ``after`` what it left (None: nothing). The true moment lies between
    ``began_s`` and ``ended_s``. ``visible`` is False when the site's engine replaced the path while the writer wrote:
    such a version may turn up, but nobody was promised that it does.
    """

    site: str
    path: bytes
    before: TreeEntry | None
    after: TreeEntry | None
    began_s: float
    ended_s: float
    visible: bool = True


def effects_of(events: Iterable[Event]) -> Iterator[Effect]:
    """The effects of all operations in a history, in its order.

    An operation's data holds ``ended_s`` and ``effects``: rows ``[path text, before, after, visible]``.
    """
    for event in events:
        if event.kind != "operation" or event.site is None:
            continue
        ended_s = float(event.data.get("ended_s", event.at_s))
        for path, before, after, visible in event.data.get("effects", ()):
            yield Effect(
                site=event.site,
                path=path_bytes(path),
                before=None if before is None else entry_from_json(before),
                after=None if after is None else entry_from_json(after),
                began_s=event.at_s,
                ended_s=ended_s,
                visible=bool(visible),
            )


class _Placed(NamedTuple):
    effect: Effect
    order: int


class Family:
    """All that was ever done to one path and its conflict copies."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self._effects: list[_Placed] = []
        self._parents: dict[TreeEntry, set[TreeEntry]] = defaultdict(set)

    def add(self, effect: Effect, order: int) -> None:
        """Take in the next effect; ``order`` grows with the history."""
        self._effects.append(_Placed(effect, order))
        if effect.after is not None:
            parents = self._parents[effect.after]
            if effect.before is not None and effect.before != effect.after:
                parents.add(effect.before)

    def required(self) -> Iterator[Effect]:
        """Visible writes of a new content that nobody can have seen and replaced or removed since."""
        for write in self._effects:
            after = write.effect.after
            if after is None or not write.effect.visible or _same_content(write.effect):
                continue
            superseded = any(
                other.effect.before is not None
                and other.effect.before.content == after.content
                and not _same_content(other.effect)
                and _may_follow(other, write)
                for other in self._effects
            )
            if not superseded:
                yield write.effect

    def allowed(self) -> set[str]:
        """Contents that may still stand: some write of them was not surely seen and then replaced or removed."""
        contents = set()
        for write in self._effects:
            after = write.effect.after
            if after is None or after.content in contents:
                continue
            superseded = any(
                other.effect.before == after and other.effect.after != after and _must_follow(other, write)
                for other in self._effects
            )
            if not superseded:
                contents.add(after.content)
        return contents

    def replaced(self, entry: TreeEntry) -> bool:
        """Whether exactly this (content and mode) was written, and each time surely seen and then replaced."""
        writes = [placed for placed in self._effects if placed.effect.after == entry]
        return bool(writes) and all(
            any(
                other.effect.visible
                and other.effect.before == entry
                and other.effect.after != entry
                and _must_follow(other, write)
                for other in self._effects
            )
            for write in writes
        )

    def written(self) -> set[str]:
        """Every content that was ever put here."""
        return {effect.after.content for effect, _ in self._effects if effect.after is not None}

    def modes(self) -> set[int]:
        """Every mode that was ever set here."""
        return {effect.after.mode for effect, _ in self._effects if effect.after is not None}

    def has_rival(self, content: str) -> bool:
        """Whether a version with this content and another version (content and mode) were written without either writer
        having seen the other."""
        return any(
            (other in self._ancestors(version)) == (version in self._ancestors(other))
            for version in self._parents
            if version.content == content
            for other in self._parents
            if other != version
        )

    def _ancestors(self, version: TreeEntry) -> set[TreeEntry]:
        found: set[TreeEntry] = set()
        pending = [version]
        while pending:
            for parent in self._parents.get(pending.pop(), ()):
                if parent not in found:
                    found.add(parent)
                    pending.append(parent)
        return found


class Versions:
    """The families of a whole history."""

    def __init__(self, effects: Iterable[Effect], original_of: OriginalOf) -> None:
        self._original_of = original_of
        self.families: dict[bytes, Family] = {}
        self._parents_of_paths: set[bytes] = set()
        for order, effect in enumerate(effects):
            path = self.family_path(effect.path)
            self.families.setdefault(path, Family(path)).add(effect, order)
            self._parents_of_paths.update(_parents(effect.path))

    def family_path(self, path: bytes) -> bytes:
        """The original of a conflict copy (of a conflict copy ...); the path itself when it is none."""
        while (original := self._original_of(path)) is not None:
            path = original
        return path

    def family(self, path: bytes) -> Family | None:
        """The family to which a path belongs; None when nothing was ever done to it."""
        return self.families.get(self.family_path(path))

    def ever_held_something(self, directory: bytes) -> bool:
        """Whether any operation ever concerned a path below this directory."""
        return directory in self._parents_of_paths


def _same_content(effect: Effect) -> bool:
    return effect.before is not None and effect.after is not None and effect.before.content == effect.after.content


def _may_follow(later: _Placed, earlier: _Placed) -> bool:
    if later.effect.site == earlier.effect.site:
        return later.order > earlier.order
    return later.effect.ended_s >= earlier.effect.began_s


def _must_follow(later: _Placed, earlier: _Placed) -> bool:
    if later.effect.site == earlier.effect.site:
        return later.order > earlier.order
    return later.effect.began_s >= earlier.effect.ended_s


def _parents(path: bytes) -> Iterator[bytes]:
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path
