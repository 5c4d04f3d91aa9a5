"""The network sysctls of a node: set explicitly in each node's namespace, so that the host's own never leak in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import NodeError
from harness.model.resource import Recorder, Resource

DEFAULT_CONGESTION_CONTROL = "cubic"
CONGESTION_CONTROL = "net.ipv4.tcp_congestion_control"
ALLOWED_CONGESTION_CONTROLS = "net.ipv4.tcp_allowed_congestion_control"
AVAILABLE_CONGESTION_CONTROLS = "net.ipv4.tcp_available_congestion_control"
TCP_BUFFER_MAX = 64 << 20
"""Bytes that TCP may use for one socket: four times the BDP of 100 Mbit/s at 1.3 s, so that it never is the limit."""

RECORDED_ONLY = ("net.core.rmem_max", "net.core.wmem_max", AVAILABLE_CONGESTION_CONTROLS)
"""The host's own, not settable in a namespace; they bound what software on a node can ask for."""


def node_settings(congestion_control: str, ipv6: bool) -> dict[str, str]:
    """What every node's kernel is told, by name. Raises NodeError for a congestion control that it does not have."""
    available = read_setting(AVAILABLE_CONGESTION_CONTROLS).split()
    if congestion_control not in available:
        raise NodeError(
            f"this kernel has no TCP congestion control {congestion_control!r}",
            hint=f"It has: {', '.join(available)}. Others may need `modprobe tcp_{congestion_control}`.",
        )
    settings = {
        CONGESTION_CONTROL: congestion_control,
        # A path's cached metrics would carry one test's WAN into the next.
        "net.ipv4.tcp_no_metrics_save": "1",
        "net.ipv4.tcp_rmem": f"4096 131072 {TCP_BUFFER_MAX}",
        "net.ipv4.tcp_wmem": f"4096 65536 {TCP_BUFFER_MAX}",
        "net.ipv4.ip_forward": "0",
        "net.ipv4.conf.all.rp_filter": "0",
        "net.ipv4.conf.default.rp_filter": "0",
        "net.ipv6.conf.all.disable_ipv6": "0" if ipv6 else "1",
        "net.ipv6.conf.default.disable_ipv6": "0" if ipv6 else "1",
    }
    if ipv6:
        settings |= {
            # Addresses are the plan's alone: none by itself, none asked for, none waited for.
            "net.ipv6.conf.default.addr_gen_mode": "1",
            "net.ipv6.conf.default.accept_ra": "0",
            "net.ipv6.conf.default.accept_redirects": "0",
            "net.ipv6.conf.default.router_solicitations": "0",
            "net.ipv6.conf.default.accept_dad": "0",
            "net.ipv6.conf.all.forwarding": "0",
        }
    return settings


@contextmanager
def allowed_in_namespaces(congestion_control: str, recorder: Recorder) -> Iterator[None]:
    """Let namespaces choose this congestion control for a moment: the kernel lets them choose only from the host's
    allowed ones, but a choice made stays. Hold the host's lock."""
    before = read_setting(ALLOWED_CONGESTION_CONTROLS)
    if congestion_control in before.split():
        yield
        return
    change = Resource(kind="sysctl", name=ALLOWED_CONGESTION_CONTROLS, note=before)
    recorder.record(change)
    write_setting(ALLOWED_CONGESTION_CONTROLS, f"{before} {congestion_control}")
    try:
        yield
    finally:
        write_setting(ALLOWED_CONGESTION_CONTROLS, before)
        recorder.forget(change)


def read_setting(name: str) -> str:
    """A sysctl of the calling thread's namespace, white space normalised."""
    return " ".join(_path(name).read_text().split())


def write_setting(name: str, value: str) -> None:
    """Set a sysctl in the calling thread's namespace."""
    _path(name).write_text(value)


def _path(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")
