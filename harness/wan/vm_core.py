"""The WAN core in a micro-VM: TAPs as cables, and a pool of warm machines that serve one lab after another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from harness.errors import CoreError, LabError, ShapingError
from harness.model.resource import Recorder
from harness.plan.addressing import WAN_INTERFACE
from harness.wan.guest_transport import GuestTransport
from harness.wan.image import ImagePaths, Progress, ensure_image
from harness.wan.kernel import Kernel
from harness.wan.local_transport import LocalTransport, netns_path
from harness.wan.machine import (
    CORES_DIRECTORY,
    MAX_PORTS,
    Machine,
    choose_accelerator,
    end_machines,
    end_orphans,
    is_warm,
    load_machine,
    make_warm,
    pool_lock,
    resources_of,
    start_machine,
    take_from_pool,
    wait_until_up,
)
from harness.wan.router import RouterCore, port_name

WARM_LEASE_S = 600
MOST_WARM_CORES = 2
FEWEST_PORTS = 4
_HEALTH_DEADLINE_S = 2.0


class TapCabling:
    """Cables a lab to one machine. ``recorder`` is told when the machine is no longer the lab's; None: nobody is."""

    placement: Literal["netns", "vm"] = "vm"

    def __init__(self, machine: Machine, recorder: Recorder | None) -> None:
        self._machine = machine
        self._recorder = recorder
        self.detail = f"QEMU {machine.accelerator}, {machine.ports} ports"

    def connect(self, netns_of_index: Mapping[int, str]) -> None:
        """See Cabling: a TAP stays attached to QEMU when it moves to another namespace."""
        if len(netns_of_index) > self._machine.ports:
            raise CoreError(f"{len(netns_of_index)} sites; this core has {self._machine.ports} ports")
        with closing(Kernel(LocalTransport())) as host:
            links = host.links()
            for index, netns in netns_of_index.items():
                tap = links.get(self._machine.tap(index))
                if tap is None:
                    raise CoreError(f"the WAN core's interface {self._machine.tap(index)} is missing")
                with _opened(netns_path(netns)) as there, host.batch() as batch:
                    batch.link("set", index=tap["index"], net_ns_fd=there, ifname=WAN_INTERFACE)

    def release(self, netns_of_index: Mapping[int, str], kernel: Kernel, ports: Sequence[int]) -> None:
        """See Cabling: a machine that can be reset becomes warm, any other is ended."""
        try:
            if os.environ.get("LONGHAUL_WARM_CORE") == "0":
                raise CoreError("warm cores are not wanted")
            _reset_guest(kernel, ports)
            for index, netns in netns_of_index.items():
                _pull_back(netns, self._machine.tap(index))
            self._make_warm(kernel)
        except (LabError, OSError):
            kernel.close()
            self._machine.end()
        if self._recorder is not None:
            for resource in resources_of(self._machine):
                self._recorder.forget(resource)

    def state(self) -> dict[str, Any]:
        """See Cabling."""
        return {"machine": self._machine.id}

    def _make_warm(self, kernel: Kernel) -> None:
        transport = kernel.transport
        assert isinstance(transport, GuestTransport)
        with pool_lock():
            warm = [machine for machine in _machines() if is_warm(machine)]
            if len(warm) >= MOST_WARM_CORES:
                raise CoreError("there are warm cores enough")
            transport.lease(WARM_LEASE_S)
            make_warm(self._machine)


def place_vm_core(sites: int, recorder: Recorder, seed: int | None, progress: Progress | None = None) -> RouterCore:
    """A warm machine with enough ports, else a fresh one, recorded and leased for ever. Raises CoreError."""
    if sites > MAX_PORTS:
        raise CoreError(
            f"{sites} sites; the micro-VM core has room for {MAX_PORTS}",
            hint="a host whose kernel has sch_netem runs the core in a namespace, which has no such limit",
        )
    image = ensure_image(progress)
    while (machine := _claim(sites, image.release, recorder)) is not None:
        try:
            return _core(machine, machine.connect(_HEALTH_DEADLINE_S), recorder, seed)
        except (LabError, TimeoutError, OSError):
            _discard(machine, recorder)
    try:
        return _boot(image, sites, recorder, seed)
    except CoreError as error:
        # Emulated CPUs have been seen to lose a boot in some hundred; nothing has been built on the machine by then.
        (progress or _silent)(f"a boot failed, trying once more: {error}")
        return _boot(image, sites, recorder, seed)


def open_vm_core(state: dict[str, Any], recorder: Recorder | None) -> RouterCore:
    """The core of a lab that is up. Raises CoreError when its machine is gone."""
    machine = load_machine(CORES_DIRECTORY / state["machine"])
    if machine is None or not machine.alive():
        raise CoreError("the lab's WAN core has ended", hint="longhaul down --all, then build the lab again")
    kernel = Kernel(machine.connect(_HEALTH_DEADLINE_S * 5))
    return RouterCore(kernel, TapCabling(machine, recorder), state["seed"], state)


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


def _silent(_: str) -> None:
    return


def _boot(image: ImagePaths, sites: int, recorder: Recorder, seed: int | None) -> RouterCore:
    machine = start_machine(image, max(sites, FEWEST_PORTS), choose_accelerator(image), recorder)
    try:
        transport = wait_until_up(machine)
        name_ports(machine, Kernel(transport))
        return _core(machine, transport, recorder, seed)
    except BaseException:
        _discard(machine, recorder)
        raise


def _core(machine: Machine, transport: GuestTransport, recorder: Recorder, seed: int | None) -> RouterCore:
    try:
        transport.lease(0)
        kernel = Kernel(transport)
        found = kernel.links()
        missing = [port_name(index) for index in range(machine.ports) if port_name(index) not in found]
        if missing:
            raise CoreError(f"the WAN core lacks {', '.join(missing)}")
        return RouterCore(kernel, TapCabling(machine, recorder), seed)
    except BaseException:
        transport.close()
        raise


def _claim(sites: int, kernel: str, recorder: Recorder) -> Machine | None:
    """Take a warm machine of the present image out of the pool, the smallest that suffices; recorded before it is
    taken, so that no crash leaves it to nobody."""
    with pool_lock():
        fitting = [m for m in _machines() if is_warm(m) and m.ports >= sites and m.kernel == kernel]
        if not fitting:
            return None
        machine = min(fitting, key=lambda one: one.ports)
        for resource in resources_of(machine):
            recorder.record(resource)
        take_from_pool(machine)
        return machine


def _discard(machine: Machine, recorder: Recorder) -> None:
    machine.end()
    for resource in resources_of(machine):
        recorder.forget(resource)


def _machines() -> list[Machine]:
    """Every machine that runs, in the pool's lock; what is left of any other is removed."""
    running = []
    for directory in [entry for entry in CORES_DIRECTORY.iterdir() if entry.is_dir()]:
        machine = load_machine(directory)
        if machine is not None and machine.alive():
            running.append(machine)
        else:
            end_machines([directory])
            shutil.rmtree(directory, ignore_errors=True)
    return running


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CoreError(f"there is no {path}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def name_ports(machine: Machine, kernel: Kernel) -> None:
    """Name the guest's interfaces after the machine's ports, by the MACs that QEMU gave them."""
    by_mac = {link.get_attr("IFLA_ADDRESS"): link["index"] for link in kernel.links().values()}
    with kernel.batch() as batch:
        for index in range(machine.ports):
            number = by_mac.get(machine.mac(index))
            if number is None:
                raise CoreError(f"the WAN core's kernel does not see interface {index} of {machine.ports}")
            batch.link("set", index=number, ifname=port_name(index))


def _reset_guest(kernel: Kernel, ports: Sequence[int]) -> None:
    """Nothing of the lab stays: taking an interface down removes its routes and neighbours."""
    with kernel.batch() as batch:
        for port in ports:
            for address, length in kernel.addresses(port):
                batch.addr("del", index=port, address=address, prefixlen=length)
            batch.link("set", index=port, state="down")
            batch.tc("del", index=port, parent=0xFFFFFFFF, handle=0x0001_0000)
    for port in ports:
        if kernel.neighbours(port):
            raise ShapingError("the core keeps neighbours of the lab")


def _pull_back(netns: str, tap: str) -> None:
    """Bring a TAP home. Raises CoreError or ShapingError when it went with its namespace."""
    with closing(Kernel(LocalTransport(netns))) as site, _opened(Path("/proc/self/ns/net")) as home:
        link = site.links().get(WAN_INTERFACE)
        if link is None:
            raise CoreError(f"{netns} has no {WAN_INTERFACE}")
        with site.batch() as batch:
            batch.link("set", index=link["index"], state="down")
            batch.link("set", index=link["index"], net_ns_fd=home, ifname=tap)
