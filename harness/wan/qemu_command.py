"""How QEMU is asked for a core: CPU, memory, control ports and network devices. Nothing here starts anything."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal, Protocol

from harness.wan.guest_transport import CONTROL_PORTS, control_socket
from harness.wan.image import ImagePaths

QEMU = "qemu-system-x86_64"
TRUNKS = 2
"""Network devices of a core whose sites share them: one for each of its two processors."""

Accelerator = Literal["kvm", "tcg"]
Wiring = Literal["tap", "trunk"]

_BASE_MEMORY_MIB = 512
_LINK_MEMORY_KIB = 96
"""For each directed link: its classes and qdiscs take about 8 KiB, a table of a delay distribution 32, and each packet
that is in flight 2. Memory that the guest does not touch costs the host nothing."""
_KERNEL_COMMAND_LINE = (
    # Zeroing every buffer is for machines with users; here it is a good part of the cost of a packet.
    "console=ttyS0 panic=-1 quiet mitigations=off init_on_alloc=0 init_on_free=0"
)
_OFFLOADS = "csum,gso,guest_csum,guest_tso4,guest_tso6,guest_ecn,guest_ufo,host_tso4,host_tso6,host_ecn,host_ufo"


class Draft(Protocol):
    """What has to be known of a machine before it runs."""

    @property
    def id(self) -> str:
        """Unique on this host."""

    @property
    def directory(self) -> Path:
        """Where its sockets and logs go."""

    @property
    def ports(self) -> int:
        """How many sites it has room for."""

    @property
    def wiring(self) -> Wiring:
        """A device for each site, or trunks that they share."""

    @property
    def accelerator(self) -> Accelerator:
        """How the guest's processors run."""

    def tap(self, index: int) -> str:
        """The host's end of a device."""

    def mac(self, index: int) -> str:
        """The guest's end of a device."""


def monitor_socket(directory: Path) -> Path:
    """Where QEMU's own monitor listens."""
    return directory / "monitor.sock"


def device_count(ports: int, wiring: Wiring) -> int:
    """How many network devices serve this many sites."""
    return TRUNKS if wiring == "trunk" else ports


def memory_mib(ports: int) -> int:
    """The guest's memory for a full mesh of that many sites."""
    return _BASE_MEMORY_MIB + ports * (ports - 1) * _LINK_MEMORY_KIB // 1024


def qemu_command(machine: Draft, image: ImagePaths, restore: Path | None = None) -> list[str]:
    """The command line, by which the process is recognised as well (name and console). ``restore``: a saved state."""
    command = [QEMU, "-name", f"longhaul-{machine.id}", "-M", "q35", *_processor(machine.accelerator)]
    command += ["-m", f"{memory_mib(machine.ports)}M", "-smp", "2"]
    command += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    command += ["-qmp", f"unix:{monitor_socket(machine.directory)},server=on,wait=off"]
    if restore is not None:
        command += ["-incoming", f"exec:cat {shlex.quote(str(restore))}"]
    command += ["-serial", f"file:{machine.directory}/console.log"]
    command += ["-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", _KERNEL_COMMAND_LINE]
    command += ["-device", f"virtio-serial-pci,max_ports={CONTROL_PORTS + 1}"]
    for number in range(CONTROL_PORTS):
        path = control_socket(machine.directory, number)
        command += ["-chardev", f"socket,id=control{number},path={path},server=on,wait=off"]
        command += ["-device", f"virtserialport,chardev=control{number},nr={number + 1},name=longhaul.{number}"]
    # A packet in the core must be one packet of the WAN: no segments that travel as one.
    plain = ",".join(f"{offload}=off" for offload in _OFFLOADS.split(","))
    for index in range(device_count(machine.ports, machine.wiring)):
        command += ["-netdev", f"tap,id=net{index},ifname={machine.tap(index)},script=no,downscript=no"]
        device = f"virtio-net-pci,netdev=net{index},mac={machine.mac(index)},rx_queue_size=1024,romfile=,{plain}"
        command += ["-device", device]
    return command


def _processor(accelerator: Accelerator) -> list[str]:
    if accelerator == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    # QEMU 7.2 loses the flags of cmpxchg16b on an interrupt: with it, about one boot in eight panics. Without erms and
    # fsrm the guest copies by words; "rep movsb" is emulated byte by byte.
    return ["-accel", "tcg,thread=multi", "-cpu", "max,-cx16,la57=off,-erms,-fsrm"]
