"""How fast two whole engines on this machine move a tree or a large file, and what CPU each process takes for it.

    python -m syncer.tests.contract.engine_bench --files 10000 --size 10000
    python -m syncer.tests.contract.engine_bench --files 1 --size 1000000000 --json result.json

Both sites run here over loopback with real circusd, coordinators, movers, AES-GCM, fsync and SQLite, so the figure is
what the engine's own work allows: there is no link to wait for. The files are made beside the folder and moved into it
at once; the clock runs from then until every file stands at the other site, and ``in_sync`` until both know it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from syncer.tests.contract.test_site_engine import EngineSite

DEADLINE_S = 170.0
FILES_PER_DIRECTORY = 500


def make_tree(place: Path, files: int, size: int) -> None:
    """``files`` files of random content, some hundred to a directory, on disk when this returns."""
    place.mkdir()
    for number in range(files):
        directory = place / f"d{number // FILES_PER_DIRECTORY:04d}"
        if number % FILES_PER_DIRECTORY == 0:
            directory.mkdir()
        with (directory / f"file-{number:06d}.bin").open("wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(secrets.token_bytes(min(1 << 20, size - start)))
    os.sync()


def count_files(place: Path) -> int:
    found = 0
    for _, _, files in os.walk(place):
        found += len(files)
    return found


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_by_process(sites: list[EngineSite]) -> dict[str, float]:
    return {
        f"{site.name} {role}": cpu_seconds(pid)
        for site in sites
        for role, pid in site.pids().items()
        if role.startswith(("coordinator", "mover"))
    }


def measure(base: Path, files: int, size: int) -> dict[str, Any]:
    """One run on two fresh sites, which are stopped when this returns."""
    subnet = f"127.{os.getpid() % 200 + 20}.251"
    sites = [EngineSite(name, base, f"{subnet}.{number + 1}") for number, name in enumerate(("source", "destination"))]
    try:
        sites[0].meet(sites[1])
        sites[1].meet(sites[0])
        for site in sites:
            site.start()
        (sites[0].folder / "first").write_text("both are up when this has arrived")
        deadline = time.monotonic() + DEADLINE_S
        while not (sites[1].folder / "first").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the sites do not come up")
            time.sleep(0.05)
        for site in sites:
            site.wait()
        make_tree(base / "tree", files, size)
        before = cpu_by_process(sites)
        began = time.monotonic()
        (base / "tree").rename(sites[0].folder / "tree")
        first, arrived = (at - began for at in _await_files(sites[1].folder / "tree", files, began + DEADLINE_S))
        sites[0].wait()
        in_sync = time.monotonic() - began
        after = cpu_by_process(sites)
        used = {name: round(after[name] - before[name], 2) for name in after if name in before}
        return {
            "files": files,
            "size": size,
            "first_seconds": round(first, 3),
            "seconds": round(arrived, 3),
            "in_sync_seconds": round(in_sync, 3),
            "files_per_second": round(files / arrived, 1),
            "mbit_per_second": round(files * size * 8 / arrived / 1e6, 1),
            "cpu_seconds": used,
            "cpu_us_per_file": {name: round(value / files * 1e6, 1) for name, value in used.items()},
        }
    finally:
        for site in sites:
            site.stop()


def _await_files(place: Path, files: int, deadline: float) -> tuple[float, float]:
    """When the first and when the last one stood there. Looks seldom in between, since looking costs what is
    measured."""
    first = 0.0
    while True:
        found = count_files(place) if place.exists() else 0
        now = time.monotonic()
        first = first or (now if found else 0.0)
        if found >= files:
            return first, now
        if now > deadline:
            raise TimeoutError(f"{found} of {files} files arrived")
        time.sleep(0.02 if not found or found > 0.9 * files else 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=10_000, help="bytes in each file")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    # All is removed at the end: ext4 is slow to make files for minutes after as many were removed.
    base = Path(tempfile.mkdtemp(prefix="engine-bench-"))
    try:
        for number in range(arguments.repeats):
            (base / str(number)).mkdir()
            results.append(measure(base / str(number), arguments.files, arguments.size))
            print(json.dumps(results[-1]), flush=True)
    finally:
        shutil.rmtree(base)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
