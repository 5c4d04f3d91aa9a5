"""The WAN core's port. Two adapters: a namespace on this host, a micro-VM. One contract suite runs on both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from harness.model.impairment import Impairment
from harness.model.measurement import LinkCounters
from harness.plan.addressing import LabPlan


class WanCore(Protocol):
    """A router with one port for each site. Safe to open from several processes at a time."""

    placement: Literal["netns", "vm"]
    kernel_release: str
    detail: str

    def attach(
        self,
        plan: LabPlan,
        netns_of_site: Mapping[str, str],
        initial: Mapping[tuple[str, str], Impairment] | None = None,
    ) -> None:
        """Wire every site: afterwards each named namespace has ``wan0``, configured as in ``plan`` (address, MTU, MAC,
        route to the WAN range, static neighbour, offloads off), and the core routes between all sites. Read back.

        Each link (source, destination) is from its first packet on what ``initial`` says; blocked where that says
        nothing."""

    def shape(self, changes: Sequence[tuple[str, str, Impairment]]) -> None:
        """Set each directed link (source, destination) to exactly this impairment, in one batch, then read every
        attribute back and compare. Raises ShapingError. Serves first shaping and live change alike."""

    def read_back(self, known: Iterable[Impairment] = ()) -> Mapping[tuple[str, str], Impairment]:
        """What the kernel says each directed link does now.

        The kernel names a custom distribution of the delay by a fingerprint only: it is found among those of the plan,
        of this process's changes and of ``known``, and has no quantiles when it is in none of them."""

    def counters(self) -> tuple[LinkCounters, ...]:
        """Packets, bytes and drops for each directed link."""

    def state(self) -> dict[str, Any]:
        """JSON-able; what ``open_core`` needs in another process."""

    def detach(self) -> None:
        """Give the core back: all wiring and shaping removed; a VM stays warm for the next lab."""

    def close(self) -> None:
        """Drop this process's handles only; the lab goes on."""
