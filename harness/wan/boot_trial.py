"""Boots the WAN core's machine many times, from cold, and says how often it came up and how fast.

    python -m harness.wan.boot_trial --count 30
    python -m harness.wan.boot_trial --count 30 --restored

With ``--restored`` each machine is restored from the saved state instead, which is made first. Exit code 0 when every
machine came up. Each is ended as soon as it has answered.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from harness.errors import CoreError, LonghaulError
from harness.wan.boot import FEWEST_PORTS, boot_machine, ready_machine
from harness.wan.image import ImagePaths, ensure_image
from harness.wan.machine import choose_accelerator
from harness.wan.qemu_command import Accelerator


def boot_once(image: ImagePaths, accelerator: Accelerator, sites: int = FEWEST_PORTS, *, restored: bool) -> float:
    """Seconds from the start of QEMU until a lab could have the machine. Raises CoreError."""
    started = time.monotonic()
    machine, transport = boot_machine(image, sites, accelerator, restored=restored)
    seconds = time.monotonic() - started
    transport.close()
    machine.end()
    return seconds


def main() -> int:
    """Run the trial; returns the exit code."""
    parser = argparse.ArgumentParser(description="Boot the WAN core's machine many times.")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--sites", type=int, default=FEWEST_PORTS)
    parser.add_argument("--restored", action="store_true")
    arguments = parser.parse_args()
    try:
        image = ensure_image(lambda step: print(step, file=sys.stderr))
        accelerator = choose_accelerator(image)
        if arguments.restored:
            _make_state(image, arguments.sites)
        times, failures = _trial(image, accelerator, arguments.count, arguments.sites, restored=arguments.restored)
    except LonghaulError as error:
        print(f"boot trial: {error}", file=sys.stderr)
        return int(error.exit_code)
    what = "restored" if arguments.restored else "booted"
    print(f"linux {image.release}, {accelerator}, {arguments.sites} sites: {len(times)} of {arguments.count} {what}")
    if times:
        print(f"seconds: fastest {min(times):.2f}, median {statistics.median(times):.2f}, slowest {max(times):.2f}")
    for failure in failures:
        print(failure)
    return 1 if failures else 0


def _make_state(image: ImagePaths, sites: int) -> None:
    machine, transport = ready_machine(image, sites, None, lambda step: print(step, file=sys.stderr))
    transport.close()
    machine.end()


def _trial(
    image: ImagePaths, accelerator: Accelerator, count: int, sites: int, *, restored: bool
) -> tuple[list[float], list[str]]:
    times, failures = [], []
    for number in range(1, count + 1):
        try:
            times.append(boot_once(image, accelerator, sites, restored=restored))
        except CoreError as error:
            failures.append(f"boot {number}: {error}")
    return times, failures


if __name__ == "__main__":
    sys.exit(main())
