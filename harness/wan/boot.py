"""From nothing to a machine that is ready for a lab: restored from a saved state where there is one, else booted."""

from __future__ import annotations

import secrets

from harness.errors import CoreError, ShapingError
from harness.model.resource import Recorder
from harness.wan.cables import cables_of
from harness.wan.guest_transport import GuestTransport
from harness.wan.image import ImagePaths, Progress
from harness.wan.kernel import Kernel
from harness.wan.machine import (
    BOOT_CPU_S,
    MAX_TAPS,
    Machine,
    choose_accelerator,
    discard,
    start_machine,
    wait_until_up,
)
from harness.wan.qemu_command import Accelerator, Wiring
from harness.wan.saved_state import SavedState

FEWEST_PORTS = 4
_RESTORE_CPU_S = 6.0
_BOOTS = 2
"""Emulated processors have been seen to lose a boot in some hundred."""
_SEED_BYTES = 64

Ready = tuple[Machine, GuestTransport]


def fitting(sites: int) -> tuple[Wiring, int]:
    """How a machine for that many sites is wired, and for how many it is made: few sizes, so that a warm machine or a
    saved state serves many labs."""
    room = max(FEWEST_PORTS, 1 << (sites - 1).bit_length())
    return ("tap" if room <= MAX_TAPS else "trunk"), room


class _Killed(CoreError):
    """Somebody else ended the machine while it started."""


def ready_machine(image: ImagePaths, sites: int, recorder: Recorder | None, tell: Progress) -> Ready:
    """A machine with room for that many sites, and a connection to it. Raises CoreError.

    The first of its kind boots, leaves its state, and makes room for one that is restored from that, so that every lab
    has a machine with the same past.
    """
    accelerator = choose_accelerator(image)
    wiring, ports = fitting(sites)
    state = SavedState(image, wiring, ports, accelerator)
    if state.wanted and not state.exists:
        _leave_state(image, state, recorder, tell)
    if state.exists:
        try:
            return _started(image, state, recorder, restored=True)
        except _Killed:
            # That says nothing of the state.
            raise
        except CoreError as error:
            tell(f"machines of this kind are booted from now on, since one was not restored: {error}")
            state.reject()
    return _booted(image, state, recorder, tell)


def boot_machine(image: ImagePaths, sites: int, accelerator: Accelerator, *, restored: bool) -> Ready:
    """One attempt, recorded nowhere. Raises CoreError, also when there is no state to restore."""
    state = SavedState(image, *fitting(sites), accelerator)
    if restored and not state.exists:
        raise CoreError("there is no saved state of such a machine")
    return _started(image, state, None, restored=restored)


def _leave_state(image: ImagePaths, state: SavedState, recorder: Recorder | None, tell: Progress) -> None:
    machine, transport = _booted(image, state, recorder, tell)
    try:
        transport.close()
        state.save(machine)
    except CoreError as error:
        tell(f"booting, since no state was kept: {error}")
    finally:
        discard(machine, recorder)


def _booted(image: ImagePaths, state: SavedState, recorder: Recorder | None, tell: Progress) -> Ready:
    for attempt in range(1, _BOOTS + 1):
        try:
            return _started(image, state, recorder, restored=False)
        except CoreError as error:
            if attempt == _BOOTS:
                raise
            tell(f"a boot failed, trying once more: {error}")
    raise AssertionError("not reached")


def _started(image: ImagePaths, state: SavedState, recorder: Recorder | None, *, restored: bool) -> Ready:
    source = state.path if restored else None
    machine = start_machine(image, state.ports, state.accelerator, recorder, state.wiring, source)
    try:
        transport = wait_until_up(machine, _RESTORE_CPU_S if restored else BOOT_CPU_S)
        try:
            transport.add_entropy(secrets.token_bytes(_SEED_BYTES))
            cables_of(machine).prepare(Kernel(transport))
        except BaseException:
            transport.close()
            raise
    except BaseException as error:
        foreseen = isinstance(error, CoreError | ShapingError | OSError)
        killed = foreseen and machine.was_killed()
        discard(machine, recorder)
        if killed:
            raise _Killed("the WAN core's machine was killed while it started") from error
        if foreseen and not isinstance(error, CoreError):
            raise CoreError(f"the WAN core's machine came up, but cannot be prepared: {error}") from error
        raise
    return machine, transport
