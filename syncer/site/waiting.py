"""``syncer wait``: asks the running engine again and again, also through restarts of its processes."""

from __future__ import annotations

import time

from syncer.errors import NotInSync, NotRunning
from syncer.site.home import Home
from syncer.site.status import ask

SLICE_S = 5.0
GRACE_S = 5.0


def wait_until_in_sync(home: Home, timeout_s: float) -> None:
    """Return when all sites agree on all that was written before this call. Raises NotInSync, naming who lags, or
    NotRunning when no engine answered at all."""
    home.load()
    deadline = time.monotonic() + timeout_s
    scanned: int = 0
    lagging: dict[str, str] | None = None
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        question = {"ask": "confirm", "for_s": min(left, SLICE_S), "scanned": scanned}
        try:
            answer = ask(home, question, timeout_s=left, answer_s=min(left, SLICE_S) + GRACE_S)
        except NotRunning:
            if lagging is None and time.monotonic() >= deadline:
                raise
            lagging, scanned = {"this site": "its engine does not answer"}, 0
            continue
        if answer["in_sync"]:
            return
        lagging, scanned = answer["lagging"], answer["scanned"]
    who = "; ".join(f"{site}: {reason}" for site, reason in sorted((lagging or {}).items()))
    raise NotInSync(f"not in sync after {timeout_s:g} s ({who or 'nothing was heard'})", hint="see: syncer status")
