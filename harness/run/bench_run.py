"""A run of a benchmark: trials one after another, each written down at once: an interrupted run loses nothing."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from harness.errors import InputError, LabError, LonghaulError
from harness.lab.lab import Lab
from harness.model.bench import BenchRecord, Trial, TrialResult
from harness.nodes.network_settings import RECORDED_ONLY
from harness.run.bench_lab import BenchLab, bench_lab
from harness.run.bench_trial import carry_out
from harness.suts.peers.port import Peer
from harness.suts.peers.registry import create_peers

RESULTS, HEADER = "results.jsonl", "bench.json"
_SHOWN = ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.tcp_congestion_control", *RECORDED_ONLY)

Tell = Callable[[str], None]
Measured = Callable[[TrialResult], None]


def run_bench(
    kind: Literal["transport", "sync"],
    trials: Sequence[Trial],
    directory: Path,
    *,
    repeats: int,
    congestion_control: str,
    tell: Tell,
    on_result: Measured,
    state_root: Path | None = None,
) -> BenchRecord:
    """Take every trial that the directory's ``results.jsonl`` lacks; all results, old ones first. Raises LabError.

    An interrupt ends it; what was measured is in the directory, from which ``read_record`` makes the record.
    """
    results = list(read_results(directory))
    done = {result.trial.key for result in results if not _to_be_taken_again(result)}
    open_trials = [trial for trial in trials if trial.key not in done]
    peers = create_peers(sorted({name for trial in trials for name in trial.peers}))
    if not open_trials:
        return read_record(directory)
    with bench_lab(congestion_control=congestion_control, tell=tell, state_root=state_root) as bench:
        _need_programs(bench.lab, peers)
        ceiling = bench.measure_ceiling(tell)
        earlier = read_record(directory) if (directory / HEADER).exists() else None
        if earlier is not None:
            # A cell at the fastest rate stays what it was.
            bench.fastest_bps = earlier.fastest_bps
        record = BenchRecord(
            kind=kind,
            started_at=earlier.started_at if earlier else datetime.now(UTC).isoformat(timespec="seconds"),
            host=f"{len(os.sched_getaffinity(0))} processors, linux {platform.release()}",
            core=f"linux {bench.lab.core.kernel_release}, {bench.lab.core.detail}",
            ceiling=ceiling,
            fastest_bps=bench.fastest_bps,
            congestion_control=congestion_control,
            settings=_settings(bench.lab),
            versions={name: peer.version(bench.ends.source) for name, peer in peers.items()},
            repeats=repeats,
        )
        (directory / HEADER).write_text(record.model_dump_json(indent=2, exclude={"results"}) + "\n")
        # Anew, without the line that an interrupt may have cut short.
        with (directory / RESULTS).open("w", encoding="utf-8") as out:
            out.writelines(result.model_dump_json() + "\n" for result in results)
            out.flush()
            for number, trial in enumerate(trials):
                if trial.key in done:
                    continue
                tell(trial.key)
                result = _taken(bench, trial, peers, number)
                out.write(result.model_dump_json() + "\n")
                out.flush()
                on_result(result)
    return read_record(directory)


def read_results(directory: Path) -> Iterator[TrialResult]:
    """What was measured, the last of each trial. A line that an interrupt cut short is left out.

    Raises InputError for a file that is no benchmark's.
    """
    path = directory / RESULTS
    if not path.exists():
        return
    found: dict[str, TrialResult] = {}
    text = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(text, 1):
        try:
            result = TrialResult.model_validate_json(line)
        except ValidationError as error:
            if number == len(text):
                break
            raise InputError(
                f"no result of a benchmark: {error.errors()[0]['msg']}", where=f"{path}:{number}"
            ) from None
        found[result.trial.key] = result
    yield from found.values()


def read_record(directory: Path) -> BenchRecord:
    """A run as it stands in its directory. Raises InputError when there is none."""
    try:
        header = json.loads((directory / HEADER).read_text(encoding="utf-8"))
        record = BenchRecord.model_validate(header)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{directory} holds no benchmark: {error}", hint="Name the directory of a run of `longhaul bench`."
        ) from None
    return record.model_copy(update={"results": tuple(read_results(directory))})


def _taken(bench: BenchLab, trial: Trial, peers: dict[str, Peer], number: int) -> TrialResult:
    """Its result; a trial whose cell could not be set or whose peer could not be prepared is one with a problem. Raises
    LabError when the lab itself is broken."""
    try:
        return carry_out(bench, trial, peers, number)
    except LonghaulError as error:
        if bench.lab.broken is not None:
            raise
        at = datetime.now(UTC).isoformat(timespec="seconds")
        rate = float(trial.cell.rate_bps or bench.fastest_bps)
        said = error.message if error.hint is None else f"{error.message} ({error.hint[-500:]})"
        return TrialResult(trial=trial, at=at, rate_bps=rate, problem=said)


def _to_be_taken_again(result: TrialResult) -> bool:
    return not result.flows


def _need_programs(lab: Lab, peers: dict[str, Peer]) -> None:
    node = next(iter(lab.nodes.values()))
    lacking = {
        program: name
        for name, peer in peers.items()
        for program in peer.programs
        if node.remote.run(["sh", "-c", f"command -v {program}"], check=False).exit_code
    }
    if lacking:
        names = ", ".join(f"{program} (for {peer})" for program, peer in lacking.items())
        raise LabError(
            f"the nodes lack {names}",
            hint=f"apt-get install {' '.join(sorted(set(lacking)))}, or leave them out with --peers.",
        )


def _settings(lab: Lab) -> dict[str, str]:
    node = next(iter(lab.nodes.values()))
    return {name: value for name in _SHOWN if (value := node.state.sysctls.get(name)) is not None}
