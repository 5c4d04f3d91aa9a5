"""What a topology declares to go on for the whole of its timeline: traces that links follow, and cross traffic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from harness.config.trace_file import digest
from harness.errors import FidelityError, InputError, LonghaulError
from harness.lab.cross_traffic import CrossTraffic
from harness.lab.lab import Lab
from harness.lab.links import LinkKey
from harness.lab.player import Player
from harness.model.cross_traffic import FlowReport
from harness.model.playback import PlaybackReport
from harness.model.topology import Topology
from harness.model.trace import TracePlay
from harness.plan.playback import as_access, onto_links


class SceneryReport(NamedTuple):
    """What it came to."""

    playbacks: tuple[PlaybackReport, ...] = ()
    flows: tuple[FlowReport, ...] = ()


def packets_by_link(flows: Iterable[FlowReport]) -> dict[LinkKey, int]:
    """Packets that cross traffic sent over each link, acknowledgements included."""
    found: dict[LinkKey, int] = {}
    for flow in flows:
        for link, packets in (
            ((flow.source, flow.destination), flow.packets_out),
            ((flow.destination, flow.source), flow.packets_back),
        ):
            found[link] = found.get(link, 0) + packets
    return found


class Scenery:
    """The traces and the cross traffic of ``topology`` on a lab, from ``start`` until ``stop``. Once each."""

    def __init__(self, lab: Lab, topology: Topology | None = None, *, seed: int = 0) -> None:
        self._topology = lab.topology if topology is None else topology
        self._player = Player(lab)
        self._traffic = CrossTraffic(lab, self._topology.cross_traffic, seed=seed)

    def start(self) -> None:
        """Begin now. Nothing where the topology declares nothing.

        Raises InputError for a trace that has changed since the topology was read, or a congestion control that this
        kernel lacks; LabError. What had begun is ended again then.
        """
        for play in self._topology.traces:
            _unchanged(play)
        try:
            self._traffic.start()
            for play in self._topology.traces:
                targets = onto_links(play.pairs) if play.site is None else as_access(self._topology, play.site)
                self._player.play(play.file, targets, offset_s=play.offset_s, speed=play.speed, loop=play.loop)
        except BaseException:
            self._end()
            raise

    def sent_packets(self) -> Mapping[LinkKey, int]:
        """See ``CrossTraffic.sent_packets``."""
        return self._traffic.sent_packets()

    def stop(self) -> SceneryReport:
        """End it all and give every link back. Raises the first thing that went wrong, after ending everything."""
        report, error = self._end()
        if error is not None:
            raise error
        return report

    def _end(self) -> tuple[SceneryReport, LonghaulError | None]:
        error: LonghaulError | None = None
        playbacks: tuple[PlaybackReport, ...] = ()
        flows: tuple[FlowReport, ...] = ()
        try:
            playbacks = self._player.close()
            ended = [playback.trace for playback in playbacks if playback.taken_off]
            if ended:
                error = FidelityError(f"taken off its links before its end: the trace {', '.join(ended)}")
        except LonghaulError as failure:
            error = failure
        try:
            flows = self._traffic.stop()
        except LonghaulError as failure:
            error = error or failure
        return SceneryReport(playbacks, flows), error


def _unchanged(play: TracePlay) -> None:
    if digest(Path(play.file)) != play.digest:
        raise InputError(
            f"the trace {play.file} has changed since the topology was read", hint="Validate it, and begin anew."
        )
