"""Reconciling versions: the same result at all sites in any order, and nothing dropped that nobody superseded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncer.core.reconcile import (
    NAME_LIMIT,
    Outcome,
    Verdict,
    conflict_copy,
    conflict_path,
    copy_needed,
    is_conflict_copy,
    precedence,
    reconcile,
    seen,
)
from syncer.core.records import Content, Entry, Kind
from syncer.core.version_vector import advance, join

SITES = ("ana", "bo", "cy", "di")


def entry(site: str, value: int, *, base: Entry | None = None, path: bytes = b"d/file.txt", mtime: int = 0) -> Entry:
    """A write at ``site``: value 0 deletes, 1 makes a directory, 2 a symlink, others a file with that content."""
    vector = advance(base.vector if base else (), site)
    common = {"path": path, "vector": vector, "dot": (site, dict(vector)[site]), "origin": site}
    if value == 0:
        return Entry(kind=Kind.FILE, deleted=True, **common)  # type: ignore[arg-type]
    if value == 1:
        return Entry(kind=Kind.DIRECTORY, mode=0o755, **common)  # type: ignore[arg-type]
    if value == 2:
        return Entry(kind=Kind.SYMLINK, target=b"there", **common)  # type: ignore[arg-type]
    digest = bytes([value]) * 32
    content = Content(value, digest, 1 << 17, digest)
    return Entry(kind=Kind.FILE, mode=0o644, mtime_ns=mtime, content=content, **common)  # type: ignore[arg-type]


values = st.integers(0, 8)


def gossip(writes: list[Entry], order: list[tuple[int, int]]) -> tuple[list[Entry], set[bytes]]:
    """Each write is held by one site; the sites tell one another in ``order`` and then until nothing changes."""
    held = list(writes)
    kept: set[bytes] = set()

    def tell(source: int, target: int) -> bool:
        outcome = reconcile(held[target], held[source])
        if outcome.displaced:
            kept.add(conflict_path(held[target]))
        if outcome.verdict in (Verdict.TAKE, Verdict.JOIN):
            held[target] = outcome.target
            return True
        return False

    for source, target in order:
        tell(source % len(held), target % len(held))
    everyone = [(a, b) for a in range(len(held)) for b in range(len(held)) if a != b]
    while any(tell(a, b) for a, b in everyone):
        pass
    return held, kept


@given(st.lists(values, min_size=2, max_size=4), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_concurrent_writes_end_the_same_in_any_order(written: list[int], order: list[tuple[int, int]]) -> None:
    writes = [entry(site, value) for site, value in zip(SITES, written, strict=False)]
    held, kept = gossip(writes, order)
    winner = max(writes, key=precedence)
    assert {(one.dot, one.vector) for one in held} == {(winner.dot, join_all(writes))}
    digests = {path.rpartition(b"-")[2] for path in kept}
    lost = {conflict_path(one).rpartition(b"-")[2] for one in writes if copy_needed(one, winner)}
    assert digests == lost


def join_all(writes: list[Entry]) -> tuple[tuple[str, int], ...]:
    vector: tuple[tuple[str, int], ...] = ()
    for one in writes:
        vector = join(vector, one.vector)
    return vector


@given(values, values, values)
def test_a_later_write_is_never_undone_by_the_one_it_replaced(first: int, second: int, third: int) -> None:
    old = entry("ana", first)
    new = entry("ana", second, base=old)
    rival = entry("bo", third)
    outcome = reconcile(old, rival)
    merged = rival if outcome.verdict is Verdict.TAKE else old
    if outcome.verdict is not Verdict.THEIRS:
        merged = outcome.target
    after = reconcile(new, merged)
    assert after.target.dot in (new.dot, rival.dot)


@given(values, values)
def test_an_edit_wins_over_a_concurrent_delete(edit: int, other: int) -> None:
    alive = entry("ana", max(edit, 1))
    outcome = reconcile(entry("bo", 0), alive)
    assert outcome == Outcome(Verdict.TAKE, outcome.target, displaced=False)
    assert outcome.target.dot == alive.dot
    assert reconcile(alive, entry("bo", 0)).verdict is Verdict.JOIN


def test_time_stamps_do_not_decide_between_contents() -> None:
    early, late = entry("ana", 9, mtime=1), entry("bo", 5, mtime=1 << 60)
    assert reconcile(late, early).target.content == early.content
    assert reconcile(early, late).verdict is Verdict.THEIRS


def test_identical_content_joins_without_a_copy() -> None:
    left, right = entry("ana", 5), entry("bo", 5)
    taken = reconcile(left, right)
    assert taken.verdict is Verdict.TAKE
    assert not taken.displaced
    assert reconcile(right, left) == Outcome(Verdict.JOIN, taken.target)


def test_what_was_heard_before_says_nothing_new() -> None:
    old = entry("ana", 5)
    new = entry("bo", 6, base=old)
    assert reconcile(new, old) == Outcome(Verdict.SAME, new)
    assert reconcile(old, new) == Outcome(Verdict.TAKE, new)
    assert reconcile(None, new) == Outcome(Verdict.TAKE, new)


@given(st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_a_conflict_copys_name_fits_and_stands_beside_the_file(name: bytes) -> None:
    loser = entry("ana", 200, path=b"d/" + name)
    path = conflict_path(loser)
    assert path.startswith(b"d/")
    assert b"/" not in path[2:]
    assert len(path[2:]) <= NAME_LIMIT
    assert is_conflict_copy(path)
    assert path != conflict_path(entry("bo", 200, path=b"d/" + name))


def test_a_conflict_copys_name_keeps_the_extension() -> None:
    assert conflict_path(entry("ana", 200, path=b"d/a.tar.gz")) == b"d/a.tar.conflict-ana-c8c8c8c8.gz"
    assert conflict_path(entry("ana", 200, path=b".hidden")) == b".hidden.conflict-ana-c8c8c8c8"


def test_every_site_makes_the_same_record_of_a_conflict_copy() -> None:
    loser = entry("ana", 5)
    copy = conflict_copy(loser, conflict_path(loser))
    assert seen(copy.vector, copy.dot)
    assert copy.dot != loser.dot
    assert copy.content == loser.content
