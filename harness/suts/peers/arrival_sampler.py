"""Watches what arrives below a directory. Stand-alone, run on a node: ``python -I -S arrival_sampler.py '{...}'`` with

    {"directory": "/data/in", "interval_s": 0.25, "seconds": 60, "file_bytes": 10000}

It writes one JSON array a line, ``[monotonic, bytes, files, first, last]``, first what was there before it began.
``bytes`` are those of all regular files, temporary ones too, that were really written: holes of a file whose size was
set first are not counted. ``files`` are those of exactly ``file_bytes`` whose names do not begin with a dot (0: none);
``first`` and ``last`` are the monotonic times of the earliest and the latest change of one of them, such as the rename
that put it there, which is more precise than the looks (0 when there is none). Ends after ``seconds``, or at SIGTERM.

Monotonic time is that of the whole machine, so that it can be compared with the other nodes' on the same host.
"""

# The import of pathlib would double the time that it takes to start.

from __future__ import annotations

import json
import os
import sys
import time

_SMALL = 1 << 20
"""Smaller files are counted by their size."""


def written(path: str, size: int) -> int:
    """Bytes of a file that are data: extents, without the holes between them."""
    if size < _SMALL:
        return size
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return 0
    total = at = 0
    try:
        while at < size:
            begin = os.lseek(descriptor, at, os.SEEK_DATA)
            at = os.lseek(descriptor, begin, os.SEEK_HOLE)
            total += min(at, size) - begin
    except OSError:
        # No data behind ``at``.
        return total
    finally:
        os.close(descriptor)
    return total


def totals(directory: str, file_bytes: int) -> tuple[int, int, float, float]:
    """Bytes and whole files below a directory, and when the first and the last of those changed, by the wall clock."""
    size = files = 0
    first = last = 0.0
    pending = [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        size += written(entry.path, status.st_size)
                        if file_bytes and status.st_size == file_bytes and not entry.name.startswith("."):
                            files += 1
                            first = min(first or status.st_ctime, status.st_ctime)
                            last = max(last, status.st_ctime)
        except FileNotFoundError:
            continue
    return size, files, first, last


def main() -> None:
    """Sample until the time is up."""
    spec = json.loads(sys.argv[1])
    begin = time.monotonic()
    due = begin
    while due - begin < spec["seconds"]:
        time.sleep(max(0.0, due - time.monotonic()))
        at = time.monotonic()
        size, files, first, last = totals(spec["directory"], spec["file_bytes"])
        shift = time.monotonic() - time.time()
        changed = [round(when + shift, 4) if when else 0 for when in (first, last)]
        print(json.dumps([round(at, 4), size, files, *changed]), flush=True)
        # A look that takes longer than the interval makes the next one later, not many at once.
        due = max(due + spec["interval_s"], time.monotonic())


if __name__ == "__main__":
    main()
