"""Boots the WAN core's machine many times, from cold, and says how often it came up and how fast.

    python -m harness.wan.boot_trial --count 30

Exit code 0 when every boot succeeded. Each machine is ended as soon as it has answered.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import closing

from harness.errors import CoreError, LonghaulError
from harness.wan.cables import cables_of
from harness.wan.image import ImagePaths, ensure_image
from harness.wan.kernel import Kernel
from harness.wan.machine import choose_accelerator, start_machine, wait_until_up
from harness.wan.qemu_command import Accelerator
from harness.wan.vm_core import FEWEST_PORTS, fitting


def boot_once(image: ImagePaths, accelerator: Accelerator, ports: int = FEWEST_PORTS) -> float:
    """Seconds from the start of QEMU until every interface is there and named. Raises CoreError."""
    started = time.monotonic()
    wiring, room = fitting(ports)
    machine = start_machine(image, room, accelerator, wiring=wiring)
    try:
        with closing(Kernel(wait_until_up(machine))) as kernel:
            cables_of(machine).prepare(kernel)
        return time.monotonic() - started
    finally:
        machine.end()


def main() -> int:
    """Run the trial; returns the exit code."""
    parser = argparse.ArgumentParser(description="Boot the WAN core's machine many times.")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--ports", type=int, default=FEWEST_PORTS)
    arguments = parser.parse_args()
    try:
        image = ensure_image(lambda step: print(step, file=sys.stderr))
        accelerator = choose_accelerator(image)
        times, failures = _trial(image, accelerator, arguments.count, arguments.ports)
    except LonghaulError as error:
        print(f"boot trial: {error}", file=sys.stderr)
        return int(error.exit_code)
    print(f"linux {image.release}, {accelerator}, {arguments.ports} ports: {len(times)} of {arguments.count} boots")
    if times:
        print(f"seconds: fastest {min(times):.2f}, median {statistics.median(times):.2f}, slowest {max(times):.2f}")
    for failure in failures:
        print(failure)
    return 1 if failures else 0


def _trial(image: ImagePaths, accelerator: Accelerator, count: int, ports: int) -> tuple[list[float], list[str]]:
    times, failures = [], []
    for number in range(1, count + 1):
        try:
            times.append(boot_once(image, accelerator, ports))
        except CoreError as error:
            failures.append(f"boot {number}: {error}")
    return times, failures


if __name__ == "__main__":
    sys.exit(main())
