"""The guest with this machine's own root: what it sees, what it cannot touch, and that it ends with its owner."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.errors import CoreError, InputError
from harness.selftest.guest import GuestProgram, run_guest
from harness.selftest.guest_image import GuestImage, ensure_guest_image

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.slow]

BOOT_S = 90

OWNER = """
import sys
from pathlib import Path
from harness.selftest.guest import GuestProgram, run_guest
from harness.selftest.guest_image import GuestImage
image = GuestImage(Path(sys.argv[1]), sys.argv[2])
program = GuestProgram(("/bin/sh", sys.argv[3]), Path("/"), Path(sys.argv[4]))
run_guest(image, program, "tcg", deadline_s=300, on_event=lambda event: print(event["event"], flush=True))
"""


@pytest.fixture(scope="module")
def image() -> GuestImage:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    return ensure_guest_image(print)


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], GuestProgram]:
    def made(script: str) -> GuestProgram:
        results = tmp_path / "results"
        results.mkdir()
        (tmp_path / "script").write_text(script)
        return GuestProgram(("/bin/sh", str(tmp_path / "script"), "two words"), tmp_path, results)

    return made


def test_it_runs_a_program_of_the_host_on_its_own_kernel(
    image: GuestImage, program: Callable[[str], GuestProgram], tmp_path: Path
) -> None:
    events: list[Any] = []
    script = f"""
        modprobe sch_netem && grep -q ^sch_netem /proc/modules && ip link add v0 type veth || exit 1
        echo changed > {tmp_path}/script && rm -r {tmp_path}/kept && touch /var/lib/longhaul/x /etc/x || exit 2
        test -e /run/longhaul && exit 3
        echo "$1 in $PWD" > /mnt/said
        echo "{{\\"event\\": \\"told\\", \\"release\\": \\"$(uname -r)\\"}}" >&3
        exit 7
    """
    (tmp_path / "kept").mkdir()
    ordered = program(script)
    status = run_guest(image, ordered, "tcg", deadline_s=BOOT_S, on_event=events.append)
    assert status == 7, (ordered.results / "guest.log").read_text()
    assert events == [{"event": "told", "release": image.release}]
    assert (ordered.results / "said").read_text() == f"two words in {tmp_path}\n"
    assert (tmp_path / "kept").is_dir()
    assert (tmp_path / "script").read_text() == script
    assert not Path("/etc/x").exists()


def test_it_ends_when_its_owner_is_killed(
    image: GuestImage, program: Callable[[str], GuestProgram], tmp_path: Path
) -> None:
    ordered = program('echo \'{"event": "running"}\' >&3; exec sleep 1000')
    arguments = [str(image.directory), image.release, ordered.argv[1], str(ordered.results)]
    with subprocess.Popen([sys.executable, "-c", OWNER, *arguments], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "running\n"
        (machine,) = psutil.Process(owner.pid).children()
        with _watched(machine.pid) as descriptor:
            owner.send_signal(signal.SIGKILL)
            assert select.select([descriptor], [], [], 20)[0], "QEMU outlived its owner"


def test_a_guest_that_hangs_is_ended_at_its_deadline(
    image: GuestImage, program: Callable[[str], GuestProgram], tmp_path: Path
) -> None:
    before = set(psutil.Process().children())
    with pytest.raises(CoreError, match="ended after 1 s, its deadline"):
        run_guest(image, program("exec sleep 1000"), "tcg", deadline_s=1, on_event=print)
    assert set(psutil.Process().children()) <= before, "the guest's machine outlived its deadline"


def test_what_the_kernels_command_line_cannot_say_is_refused(image: GuestImage, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="quotation mark"):
        run_guest(image, GuestProgram(('say "so"',), tmp_path, tmp_path), "tcg", deadline_s=1, on_event=print)
    with pytest.raises(InputError, match="too long"):
        run_guest(image, GuestProgram(("x" * 3000,), tmp_path, tmp_path), "tcg", deadline_s=1, on_event=print)


class _watched:
    """A descriptor that becomes readable when the process ends."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *failure: object) -> None:
        os.close(self._descriptor)
