"""Takes a lab down, whatever state it is in: from its ledger alone when need be."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

from harness.errors import LabError, LonghaulError
from harness.lab.claims import SLOTS_DIRECTORY, claims
from harness.lab.ledger import Ledger, replay
from harness.lab.signals import uninterrupted
from harness.lab.state import LabPaths, lab_ids, read_state
from harness.lab.undo import undo
from harness.nodes.host_lock import host_lock
from harness.wan.machine import CORE_NOTE


def take_down(paths: LabPaths) -> float:
    """Undo everything that the lab made; seconds that it took. Idempotent.

    Raises LabError when something is left (the ledger then stays, to try again), or while another process works on it.
    """
    begin = time.monotonic()
    with uninterrupted():
        try:
            ledger = Ledger.open(paths.ledger)
        except FileNotFoundError:
            _remove_without_ledger(paths)
            return time.monotonic() - begin
        try:
            undo_all(paths, ledger)
        finally:
            ledger.close()
    return time.monotonic() - begin


def undo_all(paths: LabPaths, ledger: Ledger) -> None:
    """As ``take_down``, by the process that holds the ledger."""
    problems = []
    core_error = _give_core_back(paths, ledger)
    leftovers = undo(ledger.content())
    if core_error is not None and leftovers:
        problems.append(f"WAN core: {core_error}")
    problems += [f"{left.resource.kind} {left.resource.name}: {left.reason}" for left in leftovers]
    if problems:
        raise LabError(
            f"lab {paths.lab_id} is not all down; left: " + "; ".join(problems),
            hint=f"Mend that and call `longhaul down {paths.lab_id}` again; the ledger is {paths.ledger}.",
        )
    for path in paths.directory.iterdir():
        # The ledger goes last: a directory without one never made anything.
        if path != paths.ledger:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    paths.ledger.unlink()
    _remove_without_ledger(paths)


def take_all_down(state_root: Path) -> tuple[dict[str, float], list[LonghaulError]]:
    """Every lab below the state root: seconds by lab id, and what went wrong with the others."""
    seconds: dict[str, float] = {}
    errors: list[LonghaulError] = []
    for lab_id in lab_ids(state_root):
        try:
            seconds[lab_id] = take_down(LabPaths(state_root=state_root, lab_id=lab_id))
        except LonghaulError as error:
            errors.append(error)
    return seconds, errors


def end_idle_cores() -> int:
    """End the WAN cores that no lab of this host uses, whatever its state root; how many ran."""
    from harness.wan.placement import end_warm_cores

    ended = end_warm_cores(_machines_in_use)
    with host_lock():
        # Leaving it removes the host's directory if that is empty now.
        return ended


def _machines_in_use() -> frozenset[str]:
    """Ids of the machines in the ledgers of all labs of this host."""
    with host_lock():
        ledgers = [claim.ledger for claim in claims().values()]
    contents = [replay(path.read_bytes()) for path in ledgers if path.exists()]
    return frozenset(
        Path(resource.name).name
        for content in contents
        for resource in content.outstanding
        if resource.kind == "directory" and resource.note == CORE_NOTE
    )


def _give_core_back(paths: LabPaths, ledger: Ledger) -> Exception | None:
    """Detach the core of a lab that came up, so that a warm one can serve again; one that was cut short while it was
    wired is left to the ledger. Returns what went wrong, since the undo goes on anyway and ends such a core."""
    if not paths.state.exists():
        return None
    try:
        from harness.wan.placement import open_core

        core = open_core(read_state(paths).core_with_plan(), ledger)
        try:
            core.detach()
        finally:
            core.close()
    except Exception as error:
        # Whatever is wrong with a core, perhaps one of another version: the ledger's undo must go on.
        return error
    return None


def _remove_without_ledger(paths: LabPaths) -> None:
    """Remove the empty shell of a lab, and the directories above that nobody needs any more."""
    with host_lock():
        if paths.ledger.exists():
            return
        if paths.directory.is_dir():
            shutil.rmtree(paths.directory)
        emptied = (
            paths.directory.parent,
            paths.data.parent,
            paths.data.parent.parent,
            SLOTS_DIRECTORY,
            paths.state_root,
        )
        for directory in emptied:
            with suppress(OSError):
                directory.rmdir()
