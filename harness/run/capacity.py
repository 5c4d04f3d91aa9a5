"""What the WAN core of this machine carries: as `longhaul bench core` measured it here, else as it is assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter, ValidationError

from harness.plan.lint_finding import ASSUMED_CORES, Capacity
from harness.wan.cache import cache_directory

if TYPE_CHECKING:
    from harness.run.core_benchmark import CoreBenchmark

_FILE = "core-capacity.json"
_MEASURED = TypeAdapter(dict[str, Capacity])
QUIET_SHARE = 0.1
"""Of its processors that a machine may have had in use by others for its benchmark to count."""


def capacity_of(wan: Literal["auto", "netns", "vm"]) -> Capacity:
    """The capacity of a core that is placed so; ``auto`` finds out where it would be placed."""
    placement = wan
    if placement == "auto":
        from harness.wan.placement import host_report

        placement = "vm" if host_report().netns_core else "netns"
    return _measured().get(placement, ASSUMED_CORES[placement])


def remember(result: CoreBenchmark) -> None:
    """Keep what a benchmark found, for every later check; not of a busy machine, which carries less than it could."""
    if result.host.busy_cores > QUIET_SHARE * result.host.processors:
        return
    found = _measured()
    for placement, assumed in ASSUMED_CORES.items():
        full = [load for load in result.throughput if load.path == placement and load.packet_bytes >= 1000]
        if full:
            best = max(full, key=lambda load: load.carried_packets_per_s)
            own_us = [core.forward_us for core in result.cores if core.path == placement]
            found[placement] = assumed.model_copy(
                update={
                    "forward_us": max(own_us, default=assumed.forward_us),
                    "packets_per_s": best.carried_packets_per_s,
                    "bits_per_s": best.carried_gbit_s * 1e9,
                    "source": "measured on this machine by longhaul bench core",
                }
            )
    path = cache_directory() / _FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_MEASURED.dump_json(found, indent=2))


def _measured() -> dict[str, Capacity]:
    try:
        return _MEASURED.validate_json((cache_directory() / _FILE).read_bytes())
    except (OSError, ValidationError):
        return {}
