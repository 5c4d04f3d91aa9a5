"""What this machine has and lacks for building labs, what each lack costs, and how to mend it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

from harness.model.base import Value

PROGRAMS = {
    "sshd": ("openssh-server", "nodes have no SSH, so no lab comes up"),
    "ip": ("iproute2", "nodes have no network, so no lab comes up"),
    "ssh": ("openssh-client", "`longhaul shell` does not work"),
    "rsync": ("rsync", "the rsync baseline cannot run"),
}
OPTIONAL_PROGRAMS = {
    "nft": ("nftables", "no site can be behind NAT"),
    "qemu-system-x86_64": ("qemu-system-x86", "the micro-VM core cannot boot"),
    "mmdebstrap": ("mmdebstrap", "the micro-VM's image cannot be built"),
}
PACKAGES = ("robotframework", "fabric", "pyroute2", "docker", "pyzmq", "circus", "apsw", "blake3", "cryptography")
CAP_SYS_ADMIN, CAP_NET_ADMIN = 21, 12
GIB = 1 << 30
UDT_SOCKET_BUFFER = 8 << 20
"""Bytes of kernel socket buffer that a UDT flow of 100 Mbit/s wants at 300 ms, with room for bursts (own choice)."""


class Finding(Value):
    """One thing looked at. ``cost`` and ``remedy`` are empty when it is ``ok``.

    ``lack``: a lab cannot be built without it. ``limit``: a lab works, but less well or with less choice.
    """

    subject: str
    state: Literal["ok", "limit", "lack"]
    found: str
    cost: str = ""
    remedy: str = ""


def examine() -> tuple[Finding, ...]:
    """Look at everything; takes a few seconds the first time, when KVM is put to the proof."""
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _platform,
        _privileges,
        _core_placements,
        _programs,
        _packages,
        _native_module,
        _docker,
        _sockets,
        _size,
    )
    return tuple(finding for look in looks for finding in look())


def _platform() -> Iterator[Finding]:
    uname = platform.uname()
    linux = uname.system == "Linux"
    yield Finding(
        subject="kernel",
        state="ok" if linux else "lack",
        found=f"{uname.system} {uname.release} {uname.machine}",
        cost="" if linux else "labs are made of Linux namespaces",
        remedy="" if linux else "run Longhaul in a Linux machine or VM",
    )
    yield Finding(subject="python", state="ok", found=f"{platform.python_version()} ({sys.executable})")


def _privileges() -> Iterator[Finding]:
    status = Path("/proc/self/status").read_text()
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), 16)
    missing = [
        name
        for name, bit in (("CAP_SYS_ADMIN", CAP_SYS_ADMIN), ("CAP_NET_ADMIN", CAP_NET_ADMIN))
        if not effective >> bit & 1
    ]
    enough = os.geteuid() == 0 and not missing
    yield Finding(
        subject="privileges",
        state="ok" if enough else "lack",
        found="root" if enough else f"uid {os.geteuid()}, without {', '.join(missing) or 'root'}",
        cost="" if enough else "namespaces, sshd and shaping need root; validate, graph and schema work without",
        remedy="" if enough else "run as root (sudo ./longhaul ...), or in a container with --privileged",
    )


def _core_placements() -> Iterator[Finding]:
    from harness.wan.placement import host_report

    host = host_report()
    netns, vm = host.netns_core, host.vm_core
    yield Finding(
        subject="qdiscs in this kernel",
        state="limit" if netns else "ok",
        found=netns or "netem, htb and cls_flow: the WAN core can be a namespace",
        cost="the WAN core runs in a micro-VM: about 1 Gbit/s in all, seconds to boot" if netns else "",
        remedy="modprobe sch_netem, or boot a kernel with CONFIG_NET_SCH_NETEM" if netns else "",
    )
    if not netns:
        lacks = {option: lack for option, lack in host.options.items() if lack}
        yield Finding(
            subject="options of a core in a namespace",
            state="limit" if lacks else "ok",
            found=f"this kernel has no {', '.join(lacks)}" if lacks else ", ".join(host.options),
            cost="topologies with such queues or duplicates run their core in a micro-VM" if lacks else "",
            remedy="modprobe sch_tbf sch_codel sch_fq_codel ifb cls_flower act_mirred" if lacks else "",
        )
    yield Finding(
        subject="micro-VM core",
        state="ok" if not vm else "lack" if netns else "limit",
        found=vm or ("usable" if not host.image else f"usable; its image is {host.image}"),
        cost="" if not vm else "no WAN at all" if netns else "only the namespace placement",
        remedy="apt-get install qemu-system-x86 mmdebstrap; modprobe tun" if vm else "",
    )
    yield _kvm()


def _kvm() -> Finding:
    from harness.wan.image import find_image
    from harness.wan.machine import choose_accelerator

    image = find_image()
    if not Path("/dev/kvm").exists():
        found, works = "there is no /dev/kvm", False
    elif image is None:
        found, works = "/dev/kvm exists; the proof by a boot waits for the image (longhaul image)", False
    else:
        works = choose_accelerator(image) == "kvm"
        found = "a kernel boots under it" if works else "/dev/kvm exists, but a kernel did not boot under it"
    return Finding(
        subject="KVM",
        state="ok" if works else "limit",
        found=found,
        cost="" if works else "a micro-VM core is emulated: more CPU for each packet",
        remedy="" if works else "enable virtualisation, or nesting in the outer hypervisor",
    )


def _programs() -> Iterator[Finding]:
    for table, state in ((PROGRAMS, "lack"), (OPTIONAL_PROGRAMS, "limit")):
        for program, (package, cost) in table.items():
            path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
            if path:
                yield Finding(subject=program, state="ok", found=path)
            else:
                yield Finding(
                    subject=program,
                    state="lack" if state == "lack" else "limit",
                    found="not found",
                    cost=cost,
                    remedy=f"apt-get install {package}",
                )


def _packages() -> Iterator[Finding]:
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    yield Finding(
        subject="Python packages",
        state="lack" if missing else "ok",
        found=", ".join(versions) if not missing else f"missing: {', '.join(missing)}",
        cost="this installation is not whole" if missing else "",
        remedy="pip install . (or ./longhaul, which does it)" if missing else "",
    )


def _native_module() -> Iterator[Finding]:
    from importlib.util import find_spec

    built = find_spec("syncer.native._udt") is not None
    yield Finding(
        subject="UDT module",
        state="ok" if built else "limit",
        found="built" if built else "not built",
        cost="" if built else "the bundled engine has no UDT mover",
        remedy="" if built else "apt-get install libudt-dev g++; pip install .",
    )


def _docker() -> Iterator[Finding]:
    from harness.nodes.docker_engine import find_engine

    engine = find_engine()
    if engine is None:
        yield Finding(
            subject="docker",
            state="limit",
            found="no engine answers",
            cost="no container nodes; namespace nodes need no docker",
            remedy="apt-get install docker.io, then start dockerd",
        )
    elif engine.bridges_filtered:
        yield Finding(
            subject="docker",
            state="limit",
            found=f"engine {engine.version}, which filters bridged packets",
            cost="traffic on bridges of your own is dropped by its FORWARD policy; labs route, so they are safe",
            remedy="sysctl net.bridge.bridge-nf-call-iptables=0",
        )
    else:
        yield Finding(subject="docker", state="ok", found=f"engine {engine.version}")


def _sockets() -> Iterator[Finding]:
    limits = {name: int(Path(f"/proc/sys/net/core/{name}").read_text()) for name in ("rmem_max", "wmem_max")}
    small = {name: value for name, value in limits.items() if value < UDT_SOCKET_BUFFER}
    yield Finding(
        subject="socket buffers",
        state="limit" if small else "ok",
        found=", ".join(f"net.core.{name} = {value:,}" for name, value in limits.items()),
        cost="UDP bursts overflow the kernel's buffer when the CPU is busy: UDT loses packets and slows down"
        if small
        else "",
        remedy="; ".join(f"sysctl net.core.{name}={UDT_SOCKET_BUFFER}" for name in small),
    )
    controls = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    yield Finding(
        subject="TCP congestion control",
        state="ok" if "bbr" in controls else "limit",
        found=", ".join(controls),
        cost="" if "bbr" in controls else "TCP baselines run without BBR",
        remedy="" if "bbr" in controls else "modprobe tcp_bbr",
    )


def _size() -> Iterator[Finding]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cpus = len(os.sched_getaffinity(0))
    free = shutil.disk_usage("/var/lib").free
    small = [
        text
        for text, short in (
            ("2 cores", cpus < 2),
            ("2 GiB of memory", memory < 2 * GIB),
            ("4 GiB of disk", free < 4 * GIB),
        )
        if short
    ]
    yield Finding(
        subject="size",
        state="limit" if small else "ok",
        found=f"{cpus} cores, {memory / GIB:.1f} GiB of memory, {free / GIB:.0f} GiB free on disk",
        cost=f"a four-site run wants {', '.join(small)}" if small else "",
        remedy="use fewer sites (--sites 2) and lower rates" if small else "",
    )
