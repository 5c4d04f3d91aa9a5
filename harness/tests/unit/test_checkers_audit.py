"""The audit against a reference model of a replicated folder: silent on what is right, loud on every mutation."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import assume, given
from hypothesis import strategies as st

from harness.checkers.audit import audit
from harness.checkers.convergence import check_convergence
from harness.checkers.finding import Finding, summary
from harness.checkers.timing import convergence_lags, last_write_s
from harness.checkers.versions import Effect, effects_of
from harness.model.history import Event
from harness.model.tree import TreeEntry, entry_to_json, path_bytes, path_text, tree_from_json, tree_to_json

SITES = ("tokyo", "oregon", "ireland")
PATHS = (b"a.txt", b"b", b"caf\xe9")


def original_of(path: bytes) -> bytes | None:
    stem, mark, _ = path.partition(b".conflict-")
    return stem if mark else None


def content(number: int) -> TreeEntry:
    return TreeEntry("file", f"{number:064x}", 0o644, number)


@dataclass
class Replica:
    """A site of the reference model: per path, what was ever added and ever removed. Merging is union."""

    added: dict[bytes, set[TreeEntry]] = field(default_factory=lambda: {path: set() for path in PATHS})
    removed: dict[bytes, set[TreeEntry]] = field(default_factory=lambda: {path: set() for path in PATHS})

    def standing(self) -> dict[bytes, TreeEntry]:
        tree = {}
        for path in PATHS:
            winner, *losers = sorted(self.added[path] - self.removed[path], reverse=True) or [None]
            if winner is not None:
                tree[path] = winner
            for loser in losers:
                assert loser is not None
                tree[path + b".conflict-x-" + loser.digest[-8:].encode()] = loser
        return tree

    def merge(self, other: Replica) -> None:
        for path in PATHS:
            self.added[path] |= other.added[path]
            self.removed[path] |= other.removed[path]


@dataclass
class World:
    replicas: dict[str, Replica] = field(default_factory=lambda: {site: Replica() for site in SITES})
    effects: list[Effect] = field(default_factory=list)
    clock: int = 0

    def put(self, site: str, path: bytes, after: TreeEntry | None) -> None:
        replica = self.replicas[site]
        before = replica.standing().get(path)
        if before is None and after is None:
            return
        self.clock += 1
        original = original_of(path) or path
        if before is not None:
            replica.removed[original].add(before)
        if after is not None:
            replica.added[original].add(after)
        self.effects.append(Effect(site, path, before, after, self.clock, self.clock))

    def settle(self) -> dict[str, dict[bytes, TreeEntry]]:
        for replica in self.replicas.values():
            for other in self.replicas.values():
                replica.merge(other)
        for replica in self.replicas.values():
            replica.merge(self.replicas[SITES[-1]])
        return {site: replica.standing() for site, replica in self.replicas.items()}


@st.composite
def worlds(draw: st.DrawFn) -> World:
    world = World()
    for number in range(draw(st.integers(1, 14))):
        site = draw(st.sampled_from(SITES))
        match draw(st.sampled_from(("write", "write", "remove", "sync"))):
            case "sync":
                world.replicas[site].merge(world.replicas[draw(st.sampled_from(SITES))])
            case "write":
                targets = sorted(set(PATHS) | set(world.replicas[site].standing()))
                world.put(site, draw(st.sampled_from(targets)), content(number))
            case "remove":
                if standing := sorted(world.replicas[site].standing()):
                    world.put(site, draw(st.sampled_from(standing)), None)
    return world


def judged(world: World, trees: dict[str, dict[bytes, TreeEntry]]) -> tuple[Finding, ...]:
    return audit(world.effects, trees, original_of)


@given(worlds())
def test_reference_model_passes(world: World) -> None:
    assert judged(world, world.settle()) == ()


@given(worlds(), st.data())
def test_a_version_dropped_everywhere_is_found(world: World, data: st.DataObject) -> None:
    trees = world.settle()
    assume(trees[SITES[0]])
    victim = data.draw(st.sampled_from(sorted(trees[SITES[0]])))
    for tree in trees.values():
        del tree[victim]
    assert any(f.checker == "durability" and "lost" in f.problem for f in judged(world, trees))


@given(worlds(), st.data())
def test_a_version_dropped_at_one_site_is_found(world: World, data: st.DataObject) -> None:
    trees = world.settle()
    assume(trees[SITES[0]])
    del trees[data.draw(st.sampled_from(SITES))][data.draw(st.sampled_from(sorted(trees[SITES[0]])))]
    assert {"convergence", "durability"} <= {finding.checker for finding in judged(world, trees)}


@given(worlds(), st.data())
def test_a_superseded_version_that_comes_back_is_found(world: World, data: st.DataObject) -> None:
    trees = world.settle()
    gone = [
        (effect.path, effect.before) for effect in world.effects if effect.before and original_of(effect.path) is None
    ]
    assume(gone)
    path, entry = data.draw(st.sampled_from(gone))
    for tree in trees.values():
        tree[path] = entry
    assert any(finding.checker == "durability" for finding in judged(world, trees))


@given(worlds(), st.data())
def test_bytes_that_nobody_wrote_are_found(world: World, data: st.DataObject) -> None:
    trees = world.settle()
    path = data.draw(st.sampled_from((*PATHS, b"never-written")))
    for tree in trees.values():
        tree[path] = content(10**6)
    assert any("never written" in finding.problem for finding in judged(world, trees))


def test_mode_that_nobody_set_is_found() -> None:
    world = World()
    world.put("tokyo", b"a.txt", content(1))
    trees = world.settle()
    for tree in trees.values():
        tree[b"a.txt"] = content(1)._replace(mode=0o600)
    assert [finding.problem for finding in judged(world, trees)] == [
        "file 00000000 of 1 bytes, mode 0600: nobody set this mode"
    ] * len(SITES)


def test_conflict_copy_without_a_conflict_is_found() -> None:
    world = World()
    world.put("tokyo", b"a.txt", content(1))
    trees = world.settle()
    for tree in trees.values():
        tree[b"a.txt.conflict-tokyo-00000000"] = content(1)
    assert [finding.checker for finding in judged(world, trees)] == ["conflicts"]


def test_a_mode_set_at_one_site_and_an_edit_at_another_are_in_conflict() -> None:
    old = content(1)
    new, closed = content(2), old._replace(mode=0o400)
    effects = [
        Effect("tokyo", b"a.txt", None, old, 1, 1),
        Effect("tokyo", b"a.txt", old, new, 2, 2),
        Effect("oregon", b"a.txt", old, closed, 2, 2),
    ]
    kept = {b"a.txt": closed, b"a.txt.conflict-tokyo-00000000": new}
    assert audit(effects, {"tokyo": kept}, original_of) == ()


def test_delete_loses_against_a_concurrent_edit() -> None:
    world = World()
    world.put("tokyo", b"a.txt", content(1))
    world.settle()
    world.put("oregon", b"a.txt", content(2))
    world.put("tokyo", b"a.txt", None)
    trees = world.settle()
    assert judged(world, trees) == ()
    assert any("lost" in finding.problem for finding in judged(world, {site: {} for site in SITES}))


def test_the_same_bytes_written_again_after_a_delete_must_stand() -> None:
    effects = [
        Effect("tokyo", b"empty", None, content(0), 1, 1),
        Effect("tokyo", b"empty", content(0), None, 2, 2),
        Effect("tokyo", b"empty", None, content(0), 3, 3),
    ]
    assert audit(effects, {"tokyo": {b"empty": content(0)}}, original_of) == ()
    assert [finding.checker for finding in audit(effects, {"tokyo": {}}, original_of)] == ["durability"]


def test_a_write_that_lost_a_race_with_its_own_engine_may_be_absent_or_present() -> None:
    effects = [Effect("tokyo", b"b", None, content(1), 1, 1, visible=False)]
    assert audit(effects, {"tokyo": {}}, original_of) == ()
    assert audit(effects, {"tokyo": {b"b": content(1)}}, original_of) == ()


def test_empty_directory_that_was_removed_must_stay_away() -> None:
    directory = TreeEntry("directory", mode=0o755)
    effects = [Effect("tokyo", b"d", None, directory, 1, 1), Effect("oregon", b"d", directory, None, 2, 2)]
    findings = audit(effects, {"tokyo": {b"d": directory}}, original_of)
    assert [finding.checker for finding in findings] == ["durability"]


def test_convergence_names_path_site_and_difference() -> None:
    findings = check_convergence({"tokyo": {b"caf\xe9": content(1)}, "oregon": {}})
    assert summary(findings) == (
        r"[convergence] oregon: caf\xe9: nothing, but file 00000000 of 1 bytes, mode 0644 at tokyo"
    )


@given(st.binary(max_size=40))
def test_path_text_is_printable_and_can_be_undone(raw: bytes) -> None:
    text = path_text(raw)
    assert path_bytes(text) == raw
    assert text.isprintable()
    text.encode()


@given(worlds())
def test_effects_and_trees_survive_json(world: World) -> None:
    events = [
        Event(
            at_s=effect.began_s,
            kind="operation",
            site=effect.site,
            action="change",
            data={
                "ended_s": effect.ended_s,
                "effects": [
                    [path_text(effect.path), entry_to_json(effect.before), entry_to_json(effect.after), effect.visible]
                ],
            },
        )
        for effect in world.effects
    ]
    again = [Event.model_validate_json(event.model_dump_json()) for event in events]
    assert list(effects_of(again)) == world.effects
    tree = world.settle()[SITES[0]]
    assert tree_from_json(tree_to_json(tree)) == tree


def test_lag_counts_from_the_end_of_the_last_write() -> None:
    events = [
        Event(at_s=1.0, kind="operation", site="tokyo", action="create", data={"ended_s": 2.0}),
        Event(at_s=1.5, kind="operation", site="oregon", action="create", data={"ended_s": 1.6}),
        Event(at_s=5.0, kind="sut", action="settled"),
        Event(at_s=6.0, kind="sut", action="settled"),
    ]
    assert [lag.lag_s for lag in convergence_lags(events)] == [3.0]


def test_a_mode_that_was_set_and_undone_by_nobody_is_found() -> None:
    old = content(1)
    new = old._replace(mode=0o600)
    world = World()
    world.put("tokyo", b"b", old)
    world.settle()
    world.put("tokyo", b"b", new)
    assert judged(world, world.settle()) == ()
    undone = {site: {b"b": old} for site in SITES}
    assert [finding.site for finding in judged(world, undone) if "another mode" in finding.problem] == list(SITES)
    world.put("oregon", b"b", old)
    assert judged(world, undone) == ()


def test_a_mode_set_where_the_engine_replaced_the_file_meanwhile_proves_nothing() -> None:
    old = content(1)
    effects = [
        Effect("tokyo", b"b", None, old, 1, 1),
        Effect("tokyo", b"b", old, old._replace(mode=0o600), 2, 2, visible=False),
    ]
    assert audit(effects, {"tokyo": {b"b": old}}, original_of) == ()


def test_the_last_write_is_of_one_site_and_path() -> None:
    def operation(site: str, path: str, ended_s: float) -> Event:
        return Event(at_s=0, kind="operation", site=site, action="create", path=path, data={"ended_s": ended_s})

    events = [
        operation("tokyo", "f", 1),
        operation("tokyo", "f", 3),
        operation("tokyo", "g", 5),
        operation("x", "f", 7),
    ]
    assert last_write_s(events, "tokyo", "f") == 3
    assert last_write_s(events, "oregon", "f") is None
