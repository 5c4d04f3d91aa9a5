"""A restored machine is as good as one that booted: it answers, it keeps time, and its dice are its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import CoreError
from harness.model.resource import Resource
from harness.wan import machine as machine_module
from harness.wan import saved_state
from harness.wan.boot import FEWEST_PORTS, boot_machine, ready_machine
from harness.wan.image import ImagePaths, ensure_image
from harness.wan.kernel import Kernel
from harness.wan.machine import choose_accelerator
from harness.wan.placement import host_report
from harness.wan.saved_state import SavedState

pytestmark = [pytest.mark.root, pytest.mark.vm]

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImagePaths]:
    """This machine's image in a place of its own: what became of its saved states before is of no account here."""
    if host_report().vm_core:
        pytest.skip(host_report().vm_core)
    found = ensure_image()
    if choose_accelerator(found) != "tcg":
        pytest.skip("machines boot here, since that is as fast")
    place = tmp_path_factory.mktemp("image")
    for path in (found.kernel, found.initramfs):
        (place / path.name).symlink_to(path)
    yield ImagePaths(place / found.kernel.name, place / found.initramfs.name, found.release, found.key)
    shutil.rmtree(place)


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = Path(f"/run/longhaul-saved-{os.getpid()}")
    monkeypatch.setattr(machine_module, "CORES_DIRECTORY", directory)
    yield directory
    left = list(directory.glob("*"))
    shutil.rmtree(directory, ignore_errors=True)
    assert not left, "a machine outlived its test"


class KilledWhenRecorded:
    """A recorder that ends each machine as soon as it hears of its process, as an abandoned lab's undo does."""

    def __init__(self) -> None:
        self.killed = 0

    def record(self, resource: Resource) -> None:
        if resource.kind == "process":
            os.kill(int(resource.name), signal.SIGKILL)
            self.killed += 1

    def forget(self, resource: Resource) -> None: ...


def lacks_state(image: ImagePaths) -> bool:
    return not SavedState(image, "tap", FEWEST_PORTS, "tcg").exists


def test_two_machines_from_one_state_draw_different_numbers(image: ImagePaths) -> None:
    made = []
    if lacks_state(image):
        machine, transport = ready_machine(image, FEWEST_PORTS, None, print)
        transport.close()
        machine.end()
    for _ in range(2):
        machine, transport = boot_machine(image, FEWEST_PORTS, "tcg", restored=True)
        try:
            with contextlib.closing(Kernel(transport)) as kernel:
                with kernel.batch() as batch:
                    batch.link("add", ifname="one", kind="veth", peer="other")
                links = kernel.links()
                made.append({links[name].get_attr("IFLA_ADDRESS") for name in ("one", "other")})
        finally:
            machine.end()
    # The kernel draws such addresses from the numbers that netem draws its losses from.
    assert not made[0] & made[1]


def test_a_lease_runs_out_as_in_a_machine_that_booted(image: ImagePaths) -> None:
    machine, transport = ready_machine(image, FEWEST_PORTS, None, print)
    try:
        with contextlib.closing(transport):
            begin = time.monotonic()
            transport.lease(2)
        while machine.alive():
            assert time.monotonic() < begin + PATIENCE_S, "it still runs"
            time.sleep(0.01)
        assert time.monotonic() - begin > 1
    finally:
        machine.end()


def test_a_state_that_does_not_come_up_is_given_up(image: ImagePaths, tmp_path: Path) -> None:
    told: list[str] = []
    copy = ImagePaths(image.kernel, image.initramfs, image.release, image.key)
    state = SavedState(copy, "tap", FEWEST_PORTS, "tcg")
    state.path, state._unsound = tmp_path / "bad.state", tmp_path / "bad.unsound"
    state.path.write_bytes(b"no state of any machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.wan.boot.SavedState", lambda *_: state)
        machine, transport = ready_machine(copy, FEWEST_PORTS, None, told.append)
    transport.close()
    machine.end()
    assert machine_module.load_machine(machine.directory) is None
    assert "not restored" in told[0]
    assert not state.wanted
    assert not state.path.exists()


def test_a_machine_that_somebody_killed_says_nothing_of_its_state(image: ImagePaths) -> None:
    state = SavedState(image, "tap", FEWEST_PORTS, "tcg")
    if not state.exists:
        machine, transport = ready_machine(image, FEWEST_PORTS, None, print)
        transport.close()
        machine.end()
    notes = KilledWhenRecorded()
    with pytest.raises(CoreError, match="was killed"):
        ready_machine(image, FEWEST_PORTS, notes, print)
    assert notes.killed == 1
    assert SavedState(image, "tap", FEWEST_PORTS, "tcg").exists


def test_states_are_not_wanted_when_the_environment_says_so(image: ImagePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(saved_state._SWITCH, "0")
    assert not SavedState(image, "tap", FEWEST_PORTS, "tcg").wanted
