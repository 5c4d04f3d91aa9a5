"""Where the WAN core runs: chosen by what this host's kernel is proven to do, and found again from a lab's state."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from harness.errors import CoreError, LabError, LonghaulError, PrivilegeError
from harness.model.resource import Recorder
from harness.plan.core_needs import CORE_OPTIONS, CoreOption
from harness.plan.qdisc_settings import CodelSettings, NetemSettings, TbfSettings
from harness.plan.shaping import ROOT_HANDLE
from harness.wan.image import find_image
from harness.wan.kernel import Kernel
from harness.wan.local_transport import LocalTransport, enter_new_netns
from harness.wan.machine import known_kvm
from harness.wan.namespace_core import open_namespace_core, place_namespace_core
from harness.wan.port import WanCore
from harness.wan.qemu_command import QEMU
from harness.wan.tc_messages import (
    TC_H_ROOT,
    add_ifb,
    add_sorter,
    codel_options,
    redirect_one_interface,
    set_qdisc,
    sort_by_interface,
    sort_one_interface,
    tbf_options,
)
from harness.wan.vm_core import end_warm_cores, open_vm_core, place_vm_core

__all__ = ["HostReport", "end_warm_cores", "host_report", "open_core", "place_core"]

Kind = Literal["auto", "netns", "vm"]
_TRY_HANDLE = 0x0010_0000


@dataclass(frozen=True)
class HostReport:
    """What this host can do for a WAN core. An empty reason: it works. ``kvm`` None: nobody has tried yet.

    ``options``: what only some topologies need of a core in a namespace; a core in a micro-VM has them all.
    """

    kernel: str
    root: bool
    namespaces: str
    veth: str
    htb: str
    flow: str
    netem: str
    tun: str
    qemu: str
    image: str
    kvm: bool | None
    options: Mapping[CoreOption, str]

    @property
    def netns_core(self) -> str:
        """Why the core cannot run in a namespace; empty when it can."""
        lacks = [name for name in ("namespaces", "veth", "htb", "flow", "netem") if getattr(self, name)]
        return f"this host's kernel lacks {', '.join(lacks)}" if lacks else ""

    def netns_core_with(self, needs: Collection[CoreOption]) -> str:
        """Why a core with these options cannot run in a namespace; empty when it can."""
        lacks = [f"{need} ({self.options[need]})" for need in sorted(needs) if self.options[need]]
        return self.netns_core or (f"this topology needs {', '.join(lacks)} of this host's kernel" if lacks else "")

    @property
    def vm_core(self) -> str:
        """Why the core cannot run in a micro-VM; empty when it can."""
        return "; ".join(reason for reason in (self.namespaces, self.tun, self.qemu) if reason)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "netns_core": self.netns_core, "vm_core": self.vm_core}


def place_core(
    kind: Kind,
    sites: int,
    recorder: Recorder,
    run_dir: Path,
    seed: int | None,
    needs: Collection[CoreOption] = (),
) -> WanCore:
    """A core with room for ``sites`` that has all that is in ``needs``. ``auto``: a namespace when the host's kernel
    can do all of it, else a micro-VM.

    Everything on the host goes through ``recorder`` first. ``run_dir`` gets ``wan-core.log``, what building and booting
    said. ``seed`` fixes netem's packet lottery. Raises CoreError, PrivilegeError.
    """
    report = host_report()
    if not report.root:
        raise PrivilegeError("building a WAN needs root", hint="run it with sudo")
    lack = report.netns_core_with(needs)
    if kind == "netns" and lack:
        raise CoreError(lack, hint="use --wan vm: the same netem in a micro-VM")
    if kind == "netns" or (kind == "auto" and not lack):
        return place_namespace_core(recorder, seed)
    if report.vm_core:
        raise CoreError(
            f"no WAN core can run here: {f'{lack}; ' if lack else ''}{report.vm_core}", hint="see longhaul doctor"
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "wan-core.log").open("a") as log:
        return place_vm_core(sites, recorder, seed, lambda line: print(line, file=log, flush=True))


def open_core(state: dict[str, Any], recorder: Recorder | None = None) -> WanCore:
    """The core of a lab that another process built, from ``WanCore.state()``. Raises CoreError when it is gone.

    ``recorder`` is told by ``detach`` that the core is no longer the lab's.
    """
    if state["placement"] == "vm":
        return open_vm_core(state, recorder)
    return open_namespace_core(state, recorder)


@lru_cache(maxsize=1)
def host_report() -> HostReport:
    """Tries everything out in a namespace without a name, which is gone afterwards; once in each process."""
    tried = _try_kernel()
    return HostReport(
        kernel=os.uname().release,
        root=os.geteuid() == 0,
        tun="" if Path("/dev/net/tun").exists() else "there is no /dev/net/tun (modprobe tun)",
        qemu="" if shutil.which(QEMU) else f"{QEMU} is not installed (apt-get install qemu-system-x86)",
        image="" if find_image() else "not built yet (longhaul image)",
        kvm=known_kvm(),
        options={option: tried.pop(option) for option in CORE_OPTIONS},
        **tried,
    )


def _try_kernel() -> dict[str, str]:
    result: dict[str, str] = dict.fromkeys(("namespaces", "veth", "htb", "flow", "netem", *CORE_OPTIONS), "not tried")

    def in_namespace() -> None:
        try:
            enter_new_netns()
            transport = LocalTransport()
        except LabError as error:
            result["namespaces"] = str(error)
            return
        result["namespaces"] = ""
        with closing(Kernel(transport)) as kernel:
            result.update(_try_features(kernel))
            result.update(_try_options(kernel))

    # A thread of its own: its new namespace ends with it.
    thread = threading.Thread(target=in_namespace)
    thread.start()
    thread.join()
    return result


def _try_features(kernel: Kernel) -> dict[str, str]:
    veth = _tried(kernel, lambda batch: batch.link("add", ifname="try0", kind="veth", peer="try1"))
    links = kernel.links()
    one, other = (links.get(name, links["lo"])["index"] for name in ("try0", "try1"))
    settings = NetemSettings(limit=10, latency_ns=1)
    return {
        "veth": veth,
        "htb": _tried(kernel, lambda batch: batch.tc("add", "htb", one, handle=ROOT_HANDLE, default=1)),
        "flow": _tried(kernel, lambda _: kernel.transact([sort_by_interface(one, ROOT_HANDLE, 1, 1, ROOT_HANDLE + 1)])),
        "netem": _tried(kernel, lambda batch: batch.tc("add", "netem", other, handle=ROOT_HANDLE, settings=settings)),
    }


def _try_options(kernel: Kernel) -> dict[str, str]:
    """On an interface of their own. A part that is missing fails what is made of it."""
    lacks = _tried(kernel, lambda batch: batch.link("add", ifname="try2", kind="veth", peer="try3"))
    if lacks:
        return dict.fromkeys((str(option) for option in CORE_OPTIONS), lacks)
    links = kernel.links()
    port, source = links["try2"]["index"], "try3"
    bucket = set_qdisc(port, _TRY_HANDLE, TC_H_ROOT, "tbf", tbf_options(TbfSettings(rate=125_000, burst=3000)))
    found: dict[str, str] = {}
    kinds: tuple[Literal["codel", "fq_codel"], ...] = ("codel", "fq_codel")
    for handle, kind in enumerate(kinds, 1):
        queue = codel_options(CodelSettings(kind=kind, limit=100, target_us=5000, interval_us=100_000))
        inner = set_qdisc(port, _TRY_HANDLE + (handle << 16), _TRY_HANDLE + 1, kind, queue)
        found[kind] = _answered(kernel, [bucket, inner])
    doubling = [
        add_sorter(links[source]["index"], ROOT_HANDLE, ROOT_HANDLE + 1, 0),
        add_ifb("try4"),
        redirect_one_interface(links[source]["index"], ROOT_HANDLE, 1, 1, "try2", port),
        sort_one_interface(links[source]["index"], ROOT_HANDLE, 1, 2, "lo", ROOT_HANDLE + 1),
    ]
    found["doubling"] = _answered(kernel, doubling)
    return found


def _answered(kernel: Kernel, messages: Sequence[bytes]) -> str:
    return _tried(kernel, lambda _: kernel.transact(messages))


def _tried(kernel: Kernel, step: Callable[[Any], object]) -> str:
    try:
        with kernel.batch() as batch:
            step(batch)
    except LonghaulError as error:
        return str(error)
    return ""
