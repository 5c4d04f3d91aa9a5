"""Plays traces onto the links of a live lab, by a process of its own that is punctual."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from harness.config.trace_file import find_trace
from harness.errors import InputError, LabError, LonghaulError
from harness.lab.lab import Lab
from harness.lab.ledger import Ledger
from harness.lab.links import TRACE_HOLDER
from harness.lab.playback_process import Play
from harness.model.playback import PlaybackReport
from harness.model.resource import Resource
from harness.nodes.host_processes import start_ticks
from harness.plan.playback import LinkEnds, Target, as_access, onto_links

LOG_DIRECTORY = "playback"
_START_S = 30.0
_STOP_S = 30.0
_LEDGER_PATIENCE_S = 5.0
_LEDGER_RETRY_S = 0.05

Status = Callable[[dict[str, Any]], None]


class Playback:
    """One trace being played. ``status`` is what its process last said of it, ``report`` what it came to."""

    def __init__(self, number: int, holder: str, links: tuple[LinkEnds, ...]) -> None:
        self.number = number
        self.holder = holder
        self.links = links
        self.status: dict[str, Any] = {}
        self.report: PlaybackReport | None = None
        self.started = threading.Event()
        self.ended = threading.Event()
        self.error: LabError | InputError | None = None


class Player:
    """Plays traces onto a lab's links. Any number at a time, on different links or the same ones.

    While it plays, a link's base stays what it was: the trace lies over it (``Lab.overlay``) and is lifted at the end,
    also when this process dies, or the playing one. After a kill -9 of both, ``Lab.restore`` or ``longhaul heal`` gives
    the links back. Methods may be called from any thread.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._playbacks: dict[int, Playback] = {}
        self._failed: LabError | None = None
        self._ready = threading.Event()
        self._resource: Resource | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start its process, which takes a moment, ahead of the first ``play``. Idempotent. Raises LabError."""
        with self._lock:
            self._start()

    def play(
        self,
        trace: str | Path,
        links: Sequence[Target] | Sequence[LinkEnds],
        *,
        offset_s: float = 0.0,
        speed: float = 1.0,
        loop: bool = False,
        for_s: float | None = None,
        begin_s: float | None = None,
        holder: str | None = None,
    ) -> Playback:
        """Begin to play a trace, a file or a shipped one's name; returns when it plays.

        ``links`` are targets, or pairs that become the trace (of two opposite ones the first goes ``up``).
        ``begin_s`` is the monotonic time that counts as its begin (now), ``for_s`` ends it before the trace does,
        ``holder`` is in whose name it lies over the links. It ends when another process takes it off them.
        Raises InputError for a trace or links that do not fit, LabError when the lab or the process is broken.
        """
        targets = _targets(links)
        if not targets:
            raise InputError("no link to play onto")
        for target in targets:
            self._lab.impairment(*target.link)
        file = find_trace(str(trace)).absolute()
        with self._lock:
            self._start()
            number = 1 + max(self._playbacks, default=0)
            first = targets[0]
            name = holder or f"{TRACE_HOLDER}{file.stem} on {first.source}>{first.destination}"
            playback = Playback(number, name, tuple(target.link for target in targets))
            self._playbacks[number] = playback
            logs = self._lab.state_dir / LOG_DIRECTORY
            logs.mkdir(exist_ok=True)
            request = Play(
                id=number,
                file=str(file),
                holder=name,
                targets=tuple(targets),
                offset_s=offset_s,
                speed=speed,
                loop=loop,
                for_s=for_s,
                begin_s=begin_s,
                log=str(_free(logs, file.stem)),
            )
            self._tell(request.model_dump_json())
        if not playback.started.wait(_START_S):
            raise LabError("the process that plays traces does not answer")
        if playback.error is not None and playback.report is None:
            # It never began, so nobody need hear of it again.
            del self._playbacks[number]
            raise playback.error
        return playback

    def play_access(self, trace: str | Path, site: str, **options: Any) -> Playback:
        """As ``play``, with the trace as the site's access line, in the place of the one that it has."""
        try:
            targets = as_access(self._lab.topology, site)
        except KeyError:
            raise InputError(
                f"there is no site {site!r}", hint=f"Sites: {', '.join(self._lab.topology.site_names)}."
            ) from None
        return self.play(trace, targets, **options)

    def wait(self, playback: Playback, timeout_s: float | None = None) -> PlaybackReport | None:
        """Its report when it has ended by itself; None when it still plays. Raises what ended it early."""
        if not playback.ended.wait(timeout_s):
            return None
        return self._report(playback)

    def stop(self, playback: Playback) -> PlaybackReport:
        """End one, give its links back; what it came to. Idempotent. Raises LabError."""
        if not playback.ended.is_set():
            with self._lock:
                self._tell(json.dumps({"op": "stop", "id": playback.number}))
            if not playback.ended.wait(_STOP_S):
                raise LabError("the process that plays traces does not stop", hint="`longhaul heal` gives links back.")
        return self._report(playback)

    def close(self) -> tuple[PlaybackReport, ...]:
        """End all, and the process; what they came to, in the order of their begin. Idempotent. Raises LabError."""
        process = self._process
        if process is None:
            return tuple(one.report for one in self._playbacks.values() if one.report is not None)
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join()
        if process.stdout is not None:
            process.stdout.close()
        self._process = None
        self._ledger(lambda ledger: ledger.forget(self._resource) if self._resource else None)
        reports = [self._report(one) for one in self._playbacks.values() if one.started.is_set()]
        return tuple(report for report in reports if report is not None)

    def _report(self, playback: Playback) -> PlaybackReport:
        if playback.error is not None:
            raise playback.error
        if playback.report is None:
            raise self._failed or LabError("the process that plays traces ended without a word")
        return playback.report

    def _start(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.lab.playback_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._resource = Resource(
            kind="process",
            name=str(self._process.pid),
            start_ticks=start_ticks(self._process.pid),
            note="plays traces",
        )
        resource = self._resource
        self._ledger(lambda ledger: ledger.record(resource))
        self._reader = threading.Thread(target=self._read, args=(self._process,), name="player", daemon=True)
        self._reader.start()
        where = {"lab": self._lab.lab_id, "state_root": str(self._lab.paths.state_root)}
        self._tell(json.dumps(where))
        if not self._ready.wait(_START_S) or self._failed is not None:
            raise self._failed or LabError("the process that plays traces does not start")

    def _ledger(self, act: Callable[[Ledger], object]) -> None:
        """Write to the lab's ledger, which others hold for moments; a lab that is gone has none."""
        deadline_s = time.monotonic() + _LEDGER_PATIENCE_S
        while True:
            try:
                ledger = Ledger.open(self._lab.paths.ledger)
            except FileNotFoundError:
                return
            except LabError:
                if time.monotonic() >= deadline_s:
                    raise
                time.sleep(_LEDGER_RETRY_S)
                continue
            try:
                act(ledger)
            finally:
                ledger.close()
            return

    def _tell(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._failed or LabError("the process that plays traces has ended") from error

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._hear(json.loads(line))
        ended = LabError("the process that plays traces ended before its time")
        self._failed = self._failed or (None if process.poll() == 0 else ended)
        for playback in self._playbacks.values():
            if not playback.ended.is_set():
                # A lab that is gone or broken has nothing to give back.
                with suppress(LonghaulError, OSError):
                    self._lab.lift(playback.links, playback.holder, "what played a trace has ended")
                playback.error = self._failed or ended
                playback.ended.set()
                playback.started.set()
        self._ready.set()

    def _hear(self, said: dict[str, Any]) -> None:
        if "ready" in said:
            self._ready.set()
        elif "failed" in said:
            self._failed = LabError(said["failed"], hint=said["hint"])
        elif "started" in said:
            self._playbacks[said["started"]].started.set()
        elif "now" in said:
            self._playbacks[said["now"]].status = said
        elif "done" in said:
            playback = self._playbacks[said["done"]]
            if said["report"] is not None:
                playback.report = PlaybackReport.model_validate(said["report"])
            if said["error"] is not None:
                kind = InputError if said["input"] else LabError
                playback.error = kind(said["error"], hint=said["hint"])
            playback.ended.set()
            playback.started.set()


def _targets(links: Sequence[Target] | Sequence[LinkEnds]) -> list[Target]:
    given = [link for link in links if isinstance(link, Target)]
    return given or list(onto_links([link for link in links if not isinstance(link, Target)]))


def _free(directory: Path, name: str) -> Path:
    """A file that does not exist yet."""
    number = 1
    while (path := directory / f"{name}-{number}.csv").exists():
        number += 1
    return path
