"""SIGKILL at a chosen line of the product, without a hook in it: a trace function counts the lines."""

from __future__ import annotations

import os
import signal
import sys
import types
from collections.abc import Callable

PRODUCT = ("/syncer/files/", "/syncer/store/")


def killed_before_line(number: int, action: Callable[[], object]) -> bool:
    """Runs ``action`` in a child that is killed before its ``number``-th line of the file and store layers.

    False if it ended before that.
    """
    child = os.fork()
    if child == 0:
        lines = 0

        def on_line(frame: types.FrameType, event: str, argument: object) -> object:
            nonlocal lines
            if event == "line":
                lines += 1
                if lines == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return on_line

        def on_call(frame: types.FrameType, event: str, argument: object) -> object:
            return on_line if any(part in frame.f_code.co_filename for part in PRODUCT) else None

        try:
            sys.settrace(on_call)  # type: ignore[arg-type]
            action()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), f"the operation itself failed: {status}"
    return status != 0
