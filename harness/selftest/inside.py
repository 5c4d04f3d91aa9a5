"""What the guest of a self-test runs: the parts of its order one after another, each told to the host as it goes.

Usage: ``python -m harness.selftest.inside ORDER.json``. Exit status 0 when every part was run, whatever became of them.
Events, one JSON object a line on descriptor 3:

    {"event": "kernel", "release": ..., "lacks": ""}            once; with a lack no part is run
    {"event": "begin", "part": NAME}
    {"event": "line", "part": NAME, "text": ...}                each line that the part says
    {"event": "end", "outcome": {...}}                          a PartOutcome
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from harness.selftest.guest import EVENTS_DESCRIPTOR
from harness.selftest.parts import GuestOrder, PartOrder, PartOutcome, judge_part
from harness.wan.placement import host_report


def main() -> None:
    """Run the order that the first argument names."""
    order = GuestOrder.model_validate_json(Path(sys.argv[1]).read_text())
    os.environ.update(order.environment)
    report = host_report()
    _tell(event="kernel", release=report.kernel, lacks=report.netns_core)
    if report.netns_core:
        return
    for part in order.parts:
        _tell(event="begin", part=part.name)
        outcome = _perform(part, Path(order.results))
        _tell(event="end", outcome=outcome.model_dump(mode="json"))


def _perform(part: PartOrder, results: Path) -> PartOutcome:
    begin = time.monotonic()
    with (results / f"{part.name}.log").open("w") as log:
        process = subprocess.Popen(
            part.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            log.flush()
            _tell(event="line", part=part.name, text=line.rstrip())
        status = process.wait()
    tests, failures, skipped = _counts(part.junit)
    return judge_part(part, status, time.monotonic() - begin, tests, failures, skipped)


def _counts(junit: str | None) -> tuple[int, int, int]:
    """Tests that ran, failed (errors included) and were skipped; zeros without a file."""
    if junit is None or not Path(junit).exists():
        return 0, 0, 0
    total = failed = skipped = 0
    for suite in ElementTree.parse(junit).getroot().iter("testsuite"):
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return total - skipped, failed, skipped


def _tell(**event: Any) -> None:
    os.write(EVENTS_DESCRIPTOR, json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    main()
