"""What the syncer adapter knows of the engine's names, and the registry."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace

import pytest

from harness.errors import InputError
from harness.model.topology import Nat
from harness.nodes.port import Completed
from harness.suts.registry import create_sut
from harness.suts.syncer_sut import SyncerSut
from harness.tests.lab_topologies import two_sites


@pytest.mark.parametrize(
    ("copy", "original"),
    [
        (b"a.conflict-tokyo-0123abcd.txt", b"a.txt"),
        (b"d/a.tar.conflict-tokyo-0123abcd.gz", b"d/a.tar.gz"),
        (b"no-extension.conflict-new-york-0123abcd", b"no-extension"),
        (b"new\nline \xff.conflict-tokyo-0123abcd", b"new\nline \xff"),
        (b"a.conflict-tokyo-0123abcd.conflict-oregon-deadbeef.txt", b"a.conflict-tokyo-0123abcd.txt"),
        (b"a.conflict-tokyo-0123abc.txt", None),
        (b"a.conflict-tokyo-0123ABCD.txt", None),
        (b"conflict.conflict", None),
        (b"a.conflict-tokyo-0123abcd/inside", None),
    ],
)
def test_conflict_copies_are_known_by_name(copy: bytes, original: bytes | None) -> None:
    assert SyncerSut().conflict_original(copy) == original


@pytest.mark.parametrize(
    ("path", "own"), [(b".syncer", True), (b".syncer/tmp/x", True), (b".syncerx", False), (b"d/.syncer", False)]
)
def test_only_the_engines_directory_at_the_root_is_ignored(path: bytes, own: bool) -> None:
    assert SyncerSut().ignored(path) is own


def test_an_unknown_system_is_answered_with_the_known_ones() -> None:
    assert create_sut("syncer").name == "syncer"
    with pytest.raises(InputError) as caught:
        create_sut("rsnyc")
    assert "syncer" in (caught.value.hint or "")


def test_a_site_that_can_only_dial_out_is_refused_before_a_lab_is_built() -> None:
    open_sites = two_sites()
    SyncerSut().check(open_sites)
    east, west = open_sites.sites
    hidden = open_sites.model_copy(update={"sites": (east, west.model_copy(update={"nat": Nat()}))})
    with pytest.raises(InputError, match="behind NAT, where west is"):
        SyncerSut().check(hidden)


class _HereRemote:
    def run(self, argv: list[str], *, check: bool = True) -> Completed:
        done = subprocess.run(argv, check=check, capture_output=True, text=True)
        return Completed(
            argv=tuple(argv), exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr, seconds=0.0
        )


def test_a_zombie_does_not_count_as_running() -> None:
    sut = SyncerSut()
    sut._nodes = {"here": SimpleNamespace(remote=_HereRemote())}  # type: ignore[dict-item]
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert sut._alive("here", child.pid)
    assert child.stdin is not None
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not sut._alive("here", child.pid), "a zombie was taken for alive"
    child.wait()
    assert not sut._alive("here", child.pid)
