"""``syncer wait``: asks the running engine again and again, also through restarts of its processes."""

from __future__ import annotations

import time

from syncer.errors import NotInSync, NotRunning
from syncer.site.agreement import SCANNING, SILENT
from syncer.site.home import Home
from syncer.site.status import ask

SLICE_S = 5.0
LONGEST_SLICE_S = 160.0
"""Doubled up to this while some site needs longer to scan its folder: each question begins with a new scan."""

GRACE_S = 5.0
PAUSE_S = 0.5


def wait_until_in_sync(home: Home, timeout_s: float) -> None:
    """Return when all sites agree on all that was written before this call. Raises NotInSync, naming who lags, or
    NotRunning when no engine answered at all."""
    home.load()
    deadline = time.monotonic() + timeout_s
    scanned: int = 0
    lagging: dict[str, str] | None = None
    slice_s = SLICE_S
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        question = {"ask": "confirm", "for_s": min(left, slice_s), "scanned": scanned}
        try:
            answer = ask(home, question, timeout_s=left, answer_s=min(left, slice_s) + GRACE_S)
        except NotRunning:
            if lagging is None and time.monotonic() >= deadline:
                raise
            lagging, scanned = {"this site": "its engine does not answer"}, 0
            continue
        if "error" in answer:
            lagging, scanned = {"this site": answer["error"]}, 0
            time.sleep(min(left, PAUSE_S))
            continue
        if answer["in_sync"]:
            return
        lagging, scanned = answer["lagging"], answer["scanned"]
        if not scanned and not {SCANNING, SILENT}.isdisjoint(lagging.values()):
            slice_s = min(2 * slice_s, LONGEST_SLICE_S)
    who = "; ".join(f"{site}: {reason}" for site, reason in sorted((lagging or {}).items()))
    raise NotInSync(f"not in sync after {timeout_s:g} s ({who or 'nothing was heard'})", hint="see: syncer status")
