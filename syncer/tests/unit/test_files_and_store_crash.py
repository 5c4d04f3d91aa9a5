"""A site that installs and commits, killed over and over: index and tree agree, but for the one batch under way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer.core.ports import Progress
from syncer.core.records import Entry, Fingerprint, Kind
from syncer.files.scan import Observed, observe, scan
from syncer.store.index import Index
from syncer.tests.unit.kill_at_line import killed_before_line
from syncer.tests.unit.sample_folder import Folder, content_of, file_entry

PATHS = [b"a", b"b", b"c", b"dir/d", b"dir/e"]
BATCH = 4
ROUNDS = 60

Model = dict[bytes, bytes | None]
"""Contents of all paths; None for what is deleted."""


def batch_of(seed: int, number: int) -> Model:
    """What batch ``number`` (from 1) puts at which paths; every content is unique."""
    chance = random.Random(seed * 1_000_003 + number)
    paths = chance.sample(PATHS, BATCH)
    return {path: None if chance.random() < 0.3 else b"%d of batch %d" % (at, number) for at, path in enumerate(paths)}


def model_after(seed: int, number: int) -> Model:
    model: Model = dict.fromkeys(PATHS)
    for earlier in range(1, number + 1):
        model.update(batch_of(seed, earlier))
    return model


def run_site(folder: Folder, index_path: Path, seed: int) -> None:
    """What a coordinator does, for ever: install a batch, flush, commit, acknowledge."""
    with Index(index_path, site="a") as index:
        while True:
            number = index.peer("b").received_seq + 1
            items = [
                (entry, carry_out(folder, entry, data)) for entry, data in entries_of(batch_of(seed, number), number)
            ]
            folder.installer.flush()
            index.upsert(items, peer_progress={"b": Progress(1, number, 0)})


def entries_of(batch: Model, number: int) -> Iterator[tuple[Entry, bytes | None]]:
    for path, data in batch.items():
        if data is None:
            yield Entry(path=path, kind=Kind.FILE, deleted=True, origin=str(number)), None
        else:
            yield file_entry(path, data), data


def carry_out(folder: Folder, entry: Entry, data: bytes | None) -> Fingerprint | None:
    """Against what stands there: a batch cut short is done again over its own first half."""
    found = observe(folder.root, entry.path)
    expected = found.fingerprint if isinstance(found, Observed) else None
    if data is not None:
        return folder.installer.install_file(folder.stage(entry.path, data), entry, expected)
    if expected is not None:
        folder.installer.remove(entry.path, Kind.FILE, expected)
    return None


@pytest.mark.parametrize("seed", [1, 2])
def test_index_and_tree_agree_after_every_kill(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    index_path = tmp_path / "index.db"
    folder = Folder(tmp_path / "folder")
    folder.at(b"dir").mkdir()
    reached = 0
    for _ in range(ROUNDS):
        lines = chance.randint(1, 1500)
        assert killed_before_line(lines, lambda: run_site(folder, index_path, seed))
        folder.installer.recover()
        reached = check(folder, index_path, seed, reached)
        folder.temps.clean()
        assert folder.leftovers() == []
    assert reached > ROUNDS / 4
    folder.close()


def check(folder: Folder, index_path: Path, seed: int, reached: int) -> int:
    """Returns the number of the last batch that is committed."""
    with Index(index_path, site="a") as index:
        number = index.peer("b").received_seq
        stored = {item.entry.path: item for item in index.entries()}
    assert number >= reached
    committed, under_way = model_after(seed, number), model_after(seed, number + 1)
    touched = batch_of(seed, number + 1)
    standing = {found.path: found for found in scan(folder.root) if isinstance(found, Observed)}
    assert standing.keys() <= {*PATHS, b"dir"}, "something is left over"
    for path in PATHS:
        item = stored.get(path)
        recorded = None if item is None or item.entry.deleted else item.entry.content
        expected = committed[path]
        assert recorded == (None if expected is None else content_of(expected)), "the index holds whole batches"
        data = folder.at(path).read_bytes() if path in standing else None
        assert data in (committed[path], under_way[path]), "only the batch under way may be ahead of the index"
        if path not in touched and path in standing:
            assert item is not None
            assert item.fingerprint == standing[path].fingerprint, "what is committed is known by its fingerprint"
    return number
