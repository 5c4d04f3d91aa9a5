"""The index: round trips, sequence numbers, durability, damage."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from syncer.core.ports import Progress
from syncer.core.records import Content, Entry, Fingerprint, Kind
from syncer.errors import DiskFailed, DiskFull, InputError, StoreError
from syncer.store import index as index_module
from syncer.store.index import Counts, Index, StoredEntry

FINGERPRINT = Fingerprint(1, 2, 3, 4, 5, 0o644)


def file_entry(path: bytes, *, size: int = 3, digest: bytes = b"d" * 32, blocks: bytes | None = None) -> Entry:
    content = Content(size, digest, 1 << 17, digest if blocks is None else blocks)
    return Entry(path=path, kind=Kind.FILE, mode=0o644, mtime_ns=7, content=content, vector=(("a", 1),), origin="a")


def tombstone(path: bytes) -> Entry:
    return Entry(path=path, kind=Kind.FILE, deleted=True, vector=(("a", 2),), origin="a")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "index.db", site="a") as opened:
        yield opened


paths = st.lists(
    st.binary(min_size=1, max_size=3).filter(lambda part: b"/" not in part and b"\0" not in part),
    min_size=1,
    max_size=3,
).map(b"/".join)
DIGESTS = [bytes([number]) * 32 for number in range(3)]


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    path, kind, deleted = draw(paths), draw(st.sampled_from(Kind)), draw(st.booleans())
    content = None
    if kind is Kind.FILE and not deleted:
        size = draw(st.integers(0, 1 << 40))
        digest = draw(st.sampled_from(DIGESTS))
        blocks = b"" if size == 0 else draw(st.one_of(st.just(digest), st.binary(min_size=64, max_size=64)))
        content = Content(size, digest, 1 << 17, blocks)
    return Entry(
        path=path,
        kind=kind,
        deleted=deleted,
        mode=draw(st.integers(0, 0o7777)),
        mtime_ns=draw(st.integers(-(2**62), 2**62)),
        content=content,
        target=draw(st.binary(max_size=8)),
        vector=tuple(sorted(draw(st.dictionaries(st.text(max_size=4), st.integers(1, 2**62), max_size=3)).items())),
        origin=draw(st.text(max_size=4)),
        dot=(draw(st.text(max_size=4)), draw(st.integers(0, 2**62))),
    )


fingerprints = st.one_of(
    st.none(),
    st.builds(
        Fingerprint, *[st.integers(0, 2**63 - 1)] * 3, st.integers(-(2**62), 2**62), *[st.integers(0, 2**62)] * 2
    ),
)


class IndexAgainstDict(RuleBasedStateMachine):
    """Whatever is done to it, the index holds what a dictionary would, also after it was closed and opened again."""

    written = Bundle("written")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.file = Path(self.directory.name) / "index.db"
        self.index = Index(self.file, site="a")
        self.epoch = self.index.epoch
        self.model: dict[bytes, StoredEntry] = {}
        self.peers: dict[str, Progress] = {}
        self.last_seq = 0

    def teardown(self) -> None:
        self.index.close()
        self.directory.cleanup()

    @rule(
        target=written,
        items=st.lists(st.tuples(entries(), fingerprints), min_size=1, max_size=6),
        peers=st.dictionaries(st.sampled_from("bc"), st.builds(Progress, *[st.integers(0, 2**62)] * 3)),
    )
    def upsert(self, items: list[tuple[Entry, Fingerprint | None]], peers: dict[str, Progress]) -> bytes:
        for seq, (entry, fingerprint) in enumerate(items, self.last_seq + 1):
            self.model[entry.path] = StoredEntry(seq, entry, fingerprint)
        self.last_seq += len(items)
        self.peers.update(peers)
        assert self.index.upsert(items, peer_progress=peers) == self.last_seq
        return items[0][0].path

    @rule(path=written, fingerprint=fingerprints)
    def refresh(self, path: bytes, fingerprint: Fingerprint | None) -> None:
        self.index.refresh_fingerprints({path: fingerprint})
        self.model[path] = self.model[path]._replace(fingerprint=fingerprint)

    @rule()
    def reopen(self) -> None:
        self.index.close()
        self.index = Index(self.file, site="a")
        assert self.index.epoch == self.epoch

    @rule(path=written)
    def look_below(self, path: bytes) -> None:
        directory = path.split(b"/")[0]
        below = sorted(name for name in self.model if name.startswith(directory + b"/"))
        assert [stored.entry.path for stored in self.index.entries(directory)] == below
        children = [name for name in below if b"/" not in name[len(directory) + 1 :]]
        assert [stored.entry.path for stored in self.index.children(directory)] == children

    @rule(seq=st.integers(0, 30), limit=st.integers(1, 5))
    def look_since(self, seq: int, limit: int) -> None:
        newer = {stored.seq: stored.entry for stored in self.model.values() if stored.seq > seq}
        assert self.index.since(seq, limit) == sorted(newer.items())[:limit]

    @invariant()
    def agrees(self) -> None:
        assert list(self.index.entries()) == [self.model[path] for path in sorted(self.model)]
        assert [s.entry.path for s in self.index.children(b"")] == sorted(p for p in self.model if b"/" not in p)
        live = [stored.entry for stored in self.model.values() if not stored.entry.deleted]
        size = sum(entry.content.size for entry in live if entry.content)
        assert self.index.counts() == Counts(len(live), size, len(self.model) - len(live))
        for digest in DIGESTS:
            expected = sorted(entry.path for entry in live if entry.content and entry.content.digest == digest)
            assert self.index.by_digest(digest) == expected
        for site in "bc":
            assert self.index.peer(site) == self.peers.get(site, Progress())
        assert self.index.last_seq == self.last_seq


IndexAgainstDict.TestCase.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
TestIndexAgainstDict = IndexAgainstDict.TestCase


def test_pages_and_jumps_over_subdirectories(index: Index) -> None:
    many = index_module._PAGE + 10
    names = [b"dir/%04d" % number for number in range(many)] + [b"dir/sub/%04d" % number for number in range(2 * many)]
    names += [b"dir/sub-", b"dir/sub", b"dir/sub0", b"dir", b"dir0", b"di"]
    index.upsert([(file_entry(name), None) for name in names])
    assert [stored.entry.path for stored in index.entries()] == sorted(names)
    assert [stored.entry.path for stored in index.entries(b"dir")] == sorted(n for n in names if n.startswith(b"dir/"))
    assert [s.entry.path for s in index.children(b"dir")] == sorted(
        n for n in names if n.startswith(b"dir/") and n.count(b"/") == 1
    )
    assert [s.entry.path for s in index.children(b"")] == [b"di", b"dir", b"dir0"]


def test_of_two_items_for_a_path_the_later_stays(index: Index) -> None:
    assert index.upsert([(file_entry(b"x", size=1), None), (tombstone(b"x"), FINGERPRINT)]) == 2
    assert list(index.entries()) == [StoredEntry(2, tombstone(b"x"), FINGERPRINT)]
    assert index.counts() == Counts(0, 0, 1)


def test_a_new_index_has_an_epoch_of_its_own(tmp_path: Path) -> None:
    with Index(tmp_path / "one", site="a") as one, Index(tmp_path / "two", site="a") as two:
        assert one.epoch != two.epoch
        assert one.epoch > 0


def test_a_renewed_epoch_forgets_acknowledgements(tmp_path: Path) -> None:
    with Index(tmp_path / "index", site="a") as index:
        before = index.epoch
        index.set_peer("b", Progress(7, 8, 9))
        assert index.renew_epoch() == index.epoch != before
    with Index(tmp_path / "index", site="a") as again:
        assert again.epoch == index.epoch
        assert again.peer("b") == Progress(7, 8, 0)


def test_one_process_at_a_time(tmp_path: Path, index: Index) -> None:
    with pytest.raises(InputError, match="in use") as refused:
        Index(tmp_path / "index.db", site="a")
    assert refused.value.hint


def test_another_sites_index_is_refused(tmp_path: Path) -> None:
    Index(tmp_path / "index", site="a").close()
    with pytest.raises(InputError, match="belongs to site 'a', not to 'b'"):
        Index(tmp_path / "index", site="b")
    Index(tmp_path / "index").close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index"
    Index(path, site="a").close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(InputError, match="newer syncer"):
        Index(path, site="a")


def test_an_older_schema_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "index"
    with Index(path, site="a") as index:
        index.upsert([(file_entry(b"x"), None)])
    monkeypatch.setattr(index_module, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(
        index_module, "MIGRATIONS", {1: lambda db: db.execute("ALTER TABLE peer ADD COLUMN seen INTEGER")}
    )
    with Index(path, site="a") as index:
        assert index.entry(b"x") is not None
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (2,)
    database.execute("SELECT seen FROM peer")
    database.close()


def test_something_else_in_its_place_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"not a database " * 1000)
    with pytest.raises(StoreError, match="is damaged") as refused:
        Index(text, site="a")
    assert str(text) in str(refused.value)
    assert "move" in (refused.value.hint or "")
    other = tmp_path / "other"
    database = sqlite3.connect(other)
    database.execute("CREATE TABLE theirs (x)")
    database.close()
    with pytest.raises(InputError, match="another program"):
        Index(other, site="a")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DiskFailed, match="could not be used"):
        Index(tmp_path / "nothing" / "index", site="a")


def test_no_flipped_byte_goes_unseen(tmp_path: Path) -> None:
    """Flips bytes all over the file: either opening or reading says so, or what is read is what was written."""
    path = tmp_path / "index"
    with Index(path, site="a") as index:
        index.upsert([(file_entry(b"file-%d" % number, size=number), FINGERPRINT) for number in range(40)])
        written = [stored.entry for stored in index.entries()]
    sound = path.read_bytes()
    caught = 0
    for offset in range(17, len(sound), 211):
        path.write_bytes(sound[:offset] + bytes([sound[offset] ^ 0x10]) + sound[offset + 1 :])
        try:
            with Index(path, site="a") as index:
                read = [stored.entry for stored in index.entries()]
        except StoreError as error:
            assert str(path) in str(error)
            caught += 1
        else:
            assert read == written
    assert caught > 10


BATCH = 7


def test_sigkill_leaves_whole_batches(tmp_path: Path) -> None:
    """A child commits batch after batch, says so on a pipe, and is killed at some moment, many times over."""
    path = tmp_path / "index"
    Index(path, site="a").close()
    committed = 0
    for round_number in range(12):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            _commit_batches(path, committed, writer)
        os.close(writer)
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            said = b""
            while len(said) < 1 + 3 * round_number:
                said += pipe.read(1)
            os.kill(child, signal.SIGKILL)
            said += pipe.read()
        os.waitpid(child, 0)
        with Index(path, site="a") as index:
            seen = [stored.seq for stored in index.entries()]
            assert len(seen) % BATCH == 0
            batches = len(seen) // BATCH
            # the last commit may have been done but not said
            assert committed + len(said) <= batches <= committed + len(said) + 1
            assert sorted(seen) == list(range(1, batches * BATCH + 1))
            assert index.peer("b") == Progress(1, batches, 0)
            assert index.counts().entries == len(seen)
        committed = batches


def _commit_batches(path: Path, number: int, writer: int) -> None:
    try:
        with Index(path, site="a") as index:
            while True:
                items = [(file_entry(b"%d/%d" % (number, item), blocks=bytes(3000)), None) for item in range(BATCH)]
                number += 1
                index.upsert(items, peer_progress={"b": Progress(1, number, 0)})
                os.write(writer, b".")
    finally:
        os._exit(1)


@pytest.mark.root
def test_a_full_disk_keeps_what_was_committed(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    try:
        with Index(place / "index", site="a") as index:
            with pytest.raises(DiskFull) as full:
                for number in range(1000):
                    index.upsert([(file_entry(b"%d" % number, blocks=bytes(9000)), None)])
            assert full.value.hint
            committed, counts = index.last_seq, index.counts()
            assert [stored.seq for stored in index.entries()] and counts.entries == committed > 10
        with Index(place / "index", site="a") as index:
            assert (index.last_seq, index.counts()) == (committed, counts)
    finally:
        subprocess.run(["umount", place], check=True)
