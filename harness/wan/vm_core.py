"""The WAN core in a micro-VM, and a pool of warm machines that serve one lab after another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from harness.errors import CoreError, LabError
from harness.model.resource import Recorder
from harness.wan.boot import fitting, ready_machine
from harness.wan.cables import cables_of
from harness.wan.guest_transport import GuestTransport
from harness.wan.image import Progress, ensure_image
from harness.wan.kernel import Kernel
from harness.wan.machine import (
    CORES_DIRECTORY,
    Machine,
    discard,
    end_orphans,
    forget,
    is_warm,
    load_machine,
    make_warm,
    pool_lock,
    resources_of,
    running_directories,
    take_from_pool,
    warm_since,
)
from harness.wan.qemu_command import TRUNKS
from harness.wan.router import RouterCore

WARM_LEASE_S = 600
MOST_WARM_CORES = 2
_SWITCH = "LONGHAUL_WARM_CORE"
"""Of the environment: 0 means that every lab boots a machine of its own, and ends it."""
_HEALTH_DEADLINE_S = 2.0


class MachineCabling:
    """Cables a lab to one machine. ``recorder`` is told when the machine is no longer the lab's; None: nobody is."""

    placement: Literal["netns", "vm"] = "vm"

    def __init__(self, machine: Machine, kernel: Kernel, recorder: Recorder | None) -> None:
        self._machine = machine
        self._kernel = kernel
        self._recorder = recorder
        self._cables = cables_of(machine)
        wires = f"{machine.ports} ports" if machine.wiring == "tap" else f"{TRUNKS} trunks for {machine.ports} sites"
        self.detail = f"QEMU {machine.accelerator}, {wires}"

    def connect(self, netns_of_index: Mapping[int, str]) -> None:
        """See Cabling."""
        if len(netns_of_index) > self._machine.ports:
            raise CoreError(f"{len(netns_of_index)} sites; this core has room for {self._machine.ports}")
        self._cables.connect(self._kernel, netns_of_index)

    def release(self, netns_of_index: Mapping[int, str], kernel: Kernel, ports: Sequence[int]) -> None:
        """See Cabling: a machine that can be reset becomes warm, any other is ended."""
        try:
            if not _warm_wanted():
                raise CoreError("warm cores are not wanted")
            self._cables.disconnect(kernel, netns_of_index, ports)
            self._make_warm(kernel)
        except (LabError, OSError):
            kernel.close()
            discard(self._machine, self._recorder)

    def state(self) -> dict[str, Any]:
        """See Cabling."""
        return {"machine": self._machine.id}

    def _make_warm(self, kernel: Kernel) -> None:
        transport = kernel.transport
        assert isinstance(transport, GuestTransport)
        with pool_lock():
            transport.lease(WARM_LEASE_S)
            # In this order: the undo of a lab that dies here must not end a machine that serves the next one.
            if self._recorder is not None:
                forget(self._machine, self._recorder)
            make_warm(self._machine)
            warm = sorted((machine for machine in _machines() if is_warm(machine)), key=warm_since)
            for oldest in warm[:-MOST_WARM_CORES]:
                oldest.end()


def place_vm_core(sites: int, recorder: Recorder, seed: int | None, progress: Progress | None = None) -> RouterCore:
    """A warm machine with enough ports, else a fresh one, recorded and leased for ever. Raises CoreError."""
    image = ensure_image(progress)
    while _warm_wanted() and (machine := _claim(sites, image.key, recorder)) is not None:
        try:
            return _core(machine, machine.connect(_HEALTH_DEADLINE_S), recorder, seed)
        except (LabError, TimeoutError, OSError):
            discard(machine, recorder)
    machine, transport = ready_machine(image, sites, recorder, progress or _silent)
    try:
        return _core(machine, transport, recorder, seed)
    except BaseException:
        discard(machine, recorder)
        raise


def open_vm_core(state: dict[str, Any], recorder: Recorder | None) -> RouterCore:
    """The core of a lab that is up. Raises CoreError when its machine is gone."""
    machine = load_machine(CORES_DIRECTORY / state["machine"])
    if machine is None or not machine.alive():
        raise CoreError("the lab's WAN core has ended", hint="longhaul down --all, then build the lab again")
    kernel = Kernel(machine.connect(_HEALTH_DEADLINE_S * 5))
    return RouterCore(kernel, MachineCabling(machine, kernel, recorder), state["seed"], state)


def end_warm_cores(in_use: Callable[[], Collection[str]] | None = None) -> int:
    """End every warm machine, and remove what is left of those that ended; returns how many ran.

    ``in_use`` gives the ids of all machines that stand in a lab's ledger; asked in the pool's lock, in which labs take
    and start machines. Any other machine whose maker has died belongs to nobody, and is ended too.
    """
    with pool_lock():
        warm = [machine for machine in _machines() if is_warm(machine)]
        for machine in warm:
            machine.end()
        return len(warm) + (0 if in_use is None else end_orphans(in_use()))


@contextmanager
def without_warm_cores() -> Iterator[None]:
    """In this block no warm machine is taken, and none is left behind: what is measured begins with a boot."""
    before = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SWITCH]
        else:
            os.environ[_SWITCH] = before


def _warm_wanted() -> bool:
    return os.environ.get(_SWITCH) != "0"


def _silent(_: str) -> None:
    return


def _core(machine: Machine, transport: GuestTransport, recorder: Recorder, seed: int | None) -> RouterCore:
    try:
        transport.lease(0)
        kernel = Kernel(transport)
        return RouterCore(kernel, MachineCabling(machine, kernel, recorder), seed)
    except BaseException:
        transport.close()
        raise


def _claim(sites: int, image: str, recorder: Recorder) -> Machine | None:
    """Take a warm machine of the present image out of the pool, the smallest that suffices.

    It is recorded once nobody else can take it: a crash in between leaves it to its lease, which ends it."""
    with pool_lock():
        wiring, _ = fitting(sites)
        good = [m for m in _machines() if is_warm(m) and m.ports >= sites and (m.wiring, m.image) == (wiring, image)]
        if not good:
            return None
        machine = min(good, key=lambda one: one.ports)
        take_from_pool(machine)
        try:
            for resource in resources_of(machine):
                recorder.record(resource)
        except BaseException:
            discard(machine, recorder)
            raise
        return machine


def _machines() -> list[Machine]:
    """Every machine that runs and has a record that can be read, in the pool's lock; what is left of ended ones is
    removed. One that runs without such a record is left alone: another version's lab may be on it."""
    found = []
    others = []
    for directory in [entry for entry in CORES_DIRECTORY.iterdir() if entry.is_dir()]:
        machine = load_machine(directory)
        if machine is not None and machine.alive():
            found.append(machine)
        else:
            others.append(directory)
    in_use = running_directories() if others else frozenset()
    for directory in others:
        if directory not in in_use:
            shutil.rmtree(directory, ignore_errors=True)
    return found
