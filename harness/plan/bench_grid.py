"""Which cells a benchmark of transports looks at, and who runs in them. Pure.

A full product of all conditions would take days. So it is a star: round-trip time and loss are crossed at one rate and
one buffer, and every other condition moves alone from a base point. What must be told apart most carefully, the cells
that goals are set for, is in every size of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from harness.model.bench import Cell, Traffic, Trial, Workload
from harness.model.units import parse_duration, parse_rate, parse_share

Size = Literal["quick", "default", "full"]

RTTS_US = (10_000, 80_000, 200_000, 300_000)
LOSSES = (0.0, 0.001, 0.01, 0.05)
BURST = 8.0
"""Packets in a row, of a mean loss of 1%."""

BASE_RTT_US, BASE_RATE_BPS = 80_000, 200_000_000
RATES_BPS: tuple[int | None, ...] = (20_000_000, 100_000_000, None)
BUFFERS_BDP = (0.1, 5.0)
TRACES = ("lte-driving", "5g-driving", "leo-satellite")
TRAFFIC: tuple[Traffic, ...] = ("udp-30%", "on-off-50%", "tcp-cubic")
SMALL_RTT_US = 100_000
SMALL_FILES, SMALL_BYTES = 10_000, 10_000
LEAST_TRACE_S, LEAST_PAIR_S = 30.0, 20.0
"""A trace is to show its ups and downs, and flows beside others are to find their shares."""

CEILING = "udp"
"""Plain UDP at the link's rate, without any control: what the core brings to the other side in that cell."""

STREAMS = ("longhaul", "libudt", "cubic", "bbr", CEILING)
FILES = ("rsync", "lftp", "uftp")
ENGINES = ("syncer", "syncthing")
OURS = "longhaul"

START_UP_S = {"stream": 7.5, "large": 12.0, "small": 16.0}
"""What a trial takes beside its transfer: settings, idle delay, programs that start, the queue that drains."""


def base(rtt_us: int = BASE_RTT_US, loss: float = 0.0, **changes: object) -> Cell:
    """The point that a star is drawn round."""
    return Cell(rtt_us=rtt_us, loss=loss, rate_bps=BASE_RATE_BPS).model_copy(update=changes)


GOALS: tuple[tuple[Cell, float], ...] = (
    (base(), 0.95),
    (base(loss=0.01), 0.93),
    (base(200_000, loss=0.01), 0.92),
    (base(loss=0.05), 0.85),
    (base(trace="lte-driving"), 0.85),
)
"""Cells, and the share of the link's rate that is to be reached in each."""


def goal_of(cell: Cell) -> float | None:
    """The share that is aimed at in a cell, whatever its rate; None where no goal is set."""
    alike = cell.model_copy(update={"rate_bps": BASE_RATE_BPS})
    return next((share for goal, share in GOALS if goal == alike), None)


def transport_trials(
    size: Size,
    *,
    seconds: float,
    repeats: int,
    peers: Sequence[str] = (),
    cells: Sequence[str] = (),
    rate_bps: int = BASE_RATE_BPS,
) -> list[Trial]:
    """Every trial of ``bench transport``, in order: all of a cell, then the next one; repeats last, so that a run that
    is cut short has something of everything. ``peers`` and ``cells`` restrict it; ``rate_bps`` is that of the base
    point. Raises ValueError for a bad filter."""
    streams, files = _wanted(STREAMS, peers, FILES), _wanted(FILES, peers, STREAMS)
    lineups: list[tuple[Cell, tuple[str, ...]]] = []
    for cell, with_files in _cells(size):
        lineups += [(cell, (peer,)) for peer in streams if peer != CEILING or _is_steady(cell)]
        lineups += [(cell, (peer,)) for peer in files] if with_files else []
    lineups += [(cell, pair) for cell, pair in _pairs(size, streams)]
    return _repeated(_chosen(_based(lineups, rate_bps), cells), seconds, repeats)


def sync_trials(
    size: Size,
    *,
    seconds: float,
    repeats: int,
    peers: Sequence[str] = (),
    cells: Sequence[str] = (),
    rate_bps: int = BASE_RATE_BPS,
) -> list[Trial]:
    """Every trial of ``bench sync``: one large file, then many small ones, through engines and tools."""
    names = [*_wanted(ENGINES, peers, FILES), *_wanted(FILES, peers, ENGINES)]
    everybody = names if peers or size != "quick" else ["syncer", "syncthing", "rsync"]
    large = [GOALS[1][0]] if size == "quick" else [cell for cell, _ in GOALS]
    if size == "full":
        large += [cell for cell, _ in _cells("full") if cell not in large and cell.traffic is None]
    # As many files a second as are aimed at need the standard rate at least.
    few = base(SMALL_RTT_US, rate_bps=max(rate_bps, BASE_RATE_BPS))
    small = [few] if size == "quick" else [few, few.model_copy(update={"loss": 0.01})]
    lineups = _based([(cell, (name,)) for cell in large for name in everybody], rate_bps)
    trials = _repeated(_chosen(lineups, cells), seconds, repeats)
    workload = Workload(kind="small", files=SMALL_FILES, bytes=SMALL_BYTES)
    for trial in _repeated(_chosen([(cell, (name,)) for cell in small for name in everybody], cells), seconds, repeats):
        trials.append(trial.model_copy(update={"workload": workload, "seconds": max(60.0, seconds)}))
    return [
        one if one.workload.kind == "small" else one.model_copy(update={"workload": Workload(kind="large")})
        for one in trials
    ]


def _based(lineups: Sequence[tuple[Cell, tuple[str, ...]]], rate_bps: int) -> list[tuple[Cell, tuple[str, ...]]]:
    """The star round another rate: it changes places with the standard one."""
    exchanged: dict[int | None, int] = {BASE_RATE_BPS: rate_bps, rate_bps: BASE_RATE_BPS}
    return [
        (cell.model_copy(update={"rate_bps": exchanged.get(cell.rate_bps, cell.rate_bps)}), names)
        for cell, names in lineups
    ]


def expected_seconds(trials: Iterable[Trial]) -> float:
    """About how long they take, without the building of the lab. Small files end when they have arrived."""
    return sum(
        (trial.seconds / 2 if trial.workload.kind == "small" else trial.seconds) + START_UP_S[trial.workload.kind]
        for trial in trials
    )


def fastest_rate(ceiling_packets_per_s: float) -> int:
    """A rate that a core with this ceiling carries with room to spare: packets of 1,500 bytes one way and an answer to
    every second one back, at 70% of what it could. Whole 10 Mbit/s, at least 10."""
    full_packets = ceiling_packets_per_s * 0.7 / 1.5
    return max(1, int(full_packets * 1500 * 8 // 10_000_000)) * 10_000_000


def _cells(size: Size) -> Iterator[tuple[Cell, bool]]:
    """Cells in which peers run alone, and whether the tools that move files take part."""
    goals = [cell for cell, _ in GOALS]
    if size == "quick":
        yield from ((cell, False) for cell in goals[:3])
        return
    yield from ((cell, True) for cell in goals)
    if size == "full":
        cross = [base(rtt, loss) for rtt in RTTS_US for loss in LOSSES]
        cross += [base(rtt, 0.01, burst=BURST) for rtt in RTTS_US]
        yield from ((cell, True) for cell in cross if cell not in goals)
        yield from ((base(trace=trace), True) for trace in TRACES if base(trace=trace) not in goals)
    else:
        yield base(loss=0.01, burst=BURST), False
    losses = (0.0, 0.01) if size == "full" else (0.01,)
    for loss in losses:
        yield from ((base(loss=loss, rate_bps=rate), False) for rate in RATES_BPS)
        yield from ((base(loss=loss, buffer_bdp=buffer), False) for buffer in BUFFERS_BDP)
    yield from ((base(traffic=traffic), False) for traffic in (TRAFFIC if size == "full" else TRAFFIC[:1]))


def _pairs(size: Size, streams: Sequence[str]) -> Iterator[tuple[Cell, tuple[str, str]]]:
    """Two flows at once over one bottleneck."""
    others = [name for name in streams if name not in (OURS, CEILING)]
    beside = [name for name in ("cubic", "bbr") if name in others] if OURS in streams else []
    if size == "quick":
        yield from ((base(), (OURS, name)) for name in beside[:1])
        return
    yield from ((base(), (OURS, other)) for other in ([OURS] if OURS in streams else []) + beside)
    if size == "full":
        yield from ((base(), (name, name)) for name in others)
        if {"libudt", "cubic"} <= set(streams):
            yield base(), ("libudt", "cubic")
        for rtt_us in (10_000, 200_000):
            yield from ((base(rtt_us), (OURS, other)) for other in ([OURS] if OURS in streams else []) + beside)


def _is_steady(cell: Cell) -> bool:
    """Whether one rate fills it."""
    return cell.trace is None and cell.traffic is None


def _wanted(standard: Sequence[str], peers: Sequence[str], of_others: Sequence[str]) -> list[str]:
    """The standard ones, or those asked for; an unknown name counts as one of the first group that looks for it."""
    if not peers:
        return list(standard)
    return [
        name for name in dict.fromkeys(peers) if name not in of_others and (name in standard or _kin(name, standard))
    ]


def _kin(name: str, standard: Sequence[str]) -> bool:
    """A variant such as ``longhaul-fixed`` belongs where ``longhaul`` does."""
    return any(name.startswith(f"{known}-") for known in standard)


def _repeated(lineups: Sequence[tuple[Cell, tuple[str, ...]]], seconds: float, repeats: int) -> list[Trial]:
    return [
        Trial(
            cell=cell, peers=names, workload=_workload_of(names), seconds=_lasting(cell, names, seconds), repeat=number
        )
        for number in range(repeats)
        for cell, names in lineups
    ]


def _workload_of(names: Sequence[str]) -> Workload:
    return Workload(kind="large" if names[0] in FILES else "stream")


def _lasting(cell: Cell, names: Sequence[str], seconds: float) -> float:
    if cell.trace is not None:
        return max(seconds, LEAST_TRACE_S)
    return max(seconds, LEAST_PAIR_S) if len(names) > 1 or cell.traffic is not None else seconds


def _chosen(
    lineups: Sequence[tuple[Cell, tuple[str, ...]]], filters: Sequence[str]
) -> list[tuple[Cell, tuple[str, ...]]]:
    """Those that match one of the filters; all without a filter."""
    wanted = [_conditions(text) for text in filters]
    return [one for one in lineups if not wanted or any(_matches(one, conditions) for conditions in wanted)]


def _conditions(text: str) -> dict[str, object]:
    """``rtt=80ms,loss=1%`` as values."""
    found: dict[str, object] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or name not in _READERS:
            raise ValueError(
                f"{part!r} is no condition of a cell; accepted: {', '.join(f'{key}=...' for key in _READERS)},"
                " joined by commas (for example rtt=80ms,loss=1%)"
            )
        found[name] = _READERS[name](value)
    return found


def _matches(lineup: tuple[Cell, tuple[str, ...]], conditions: dict[str, object]) -> bool:
    cell, names = lineup
    has = {
        "rtt": cell.rtt_us,
        "loss": cell.loss,
        "burst": cell.burst,
        "rate": cell.rate_bps,
        "buffer": cell.buffer_bdp,
        "trace": cell.trace,
        "traffic": cell.traffic,
        "flows": len(names),
    }
    # A cell under a trace has neither the round-trip time nor the loss of its base.
    moving = {"rtt", "loss", "rate", "burst"} if cell.trace is not None else set()
    return all(name not in moving and has[name] == value for name, value in conditions.items())


def _none_or(text: str) -> str | None:
    return None if text == "none" else text


_READERS: Mapping[str, Callable[[str], object]] = {
    "rtt": parse_duration,
    "loss": parse_share,
    "burst": float,
    "rate": lambda text: None if text == "fastest" else parse_rate(text),
    "buffer": lambda text: float(text.lower().removesuffix("bdp")),
    "trace": _none_or,
    "traffic": _none_or,
    "flows": int,
}
