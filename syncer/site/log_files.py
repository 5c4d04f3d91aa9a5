"""Reading a site's log files."""

from __future__ import annotations

import time
from collections.abc import Callable

from syncer.errors import InputError
from syncer.site.home import Home

POLL_S = 0.3


def print_logs(home: Home, process: str | None, *, follow: bool, out: Callable[[str], None]) -> None:
    """Every line of every log, one file after the other (named before its lines when there are several).

    Raises InputError for a process without a log.
    """
    files = sorted(path for path in home.log.glob("*") if process is None or path.stem == process)
    if not files:
        known = sorted({path.stem for path in home.log.glob("*")})
        raise InputError(f"no log of {process or 'any process'} in {home.log}", hint=f"there are: {', '.join(known)}")
    positions = dict.fromkeys(files, 0)
    while True:
        for path in files:
            with path.open(errors="replace") as stream:
                stream.seek(positions[path])
                lines = stream.read()
                positions[path] = stream.tell()
            if lines and len(files) > 1:
                out(f"==> {path.name} <==")
            for line in lines.splitlines():
                out(line)
        if not follow:
            return
        time.sleep(POLL_S)
