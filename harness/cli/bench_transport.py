"""``longhaul bench transport`` and ``longhaul bench sync``: what moves data fastest over the same link, in one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.lab_choice import JsonOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.model.bench import BenchRecord, Trial
    from harness.plan.bench_grid import Size

_QUICK_S, _DEFAULT_S = 8.0, 15.0

OutputOption = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="Directory for all results. Default: runs/bench-KIND-<time>.", show_default=False
    ),
]
QuickOption = Annotated[bool, typer.Option("--quick", help="A handful of cells, once each, 8 s.")]
FullOption = Annotated[bool, typer.Option("--full", help="The whole grid: hours.")]
RepeatsOption = Annotated[
    int | None, typer.Option(help="How often each; 3, with --quick 1.", min=1, max=100, show_default=False)
]
SecondsOption = Annotated[
    float | None, typer.Option(help="Of each transfer; 15, with --quick 8.", min=5, max=600, show_default=False)
]
PeersOption = Annotated[str, typer.Option(help="Only these, by name.", metavar="A,B", show_default=False)]
CellsOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Only cells with these conditions, as 'rtt=80ms,loss=1%'; again for more. Conditions: rtt, loss, burst, "
        "rate, buffer, trace, traffic, flows.",
        metavar="CONDITIONS",
        show_default=False,
    ),
]
RateOption = Annotated[
    str,
    typer.Option(
        "--rate",
        help="The link's rate at the grid's base point: less where this machine's core does not carry the standard one "
        "(the peer udp shows what it does).",
        metavar="RATE",
    ),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        help="Go on with the run in this directory: measure what it lacks.", metavar="DIR", show_default=False
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option("--report", help="Measure nothing: make the report of the run in this directory anew.", metavar="DIR"),
]
TcpOption = Annotated[
    Literal["cubic", "bbr"],
    typer.Option("--tcp", help="What the nodes' TCP uses where a program does not choose: ssh, Syncthing."),
]
ListOption = Annotated[bool, typer.Option("--list", help="Say what would be measured, and how long it takes.")]


def transport(
    output: OutputOption = None,
    quick: QuickOption = False,
    full: FullOption = False,
    peers: PeersOption = "",
    cells: CellsOption = None,
    repeats: RepeatsOption = None,
    seconds: SecondsOption = None,
    tcp: TcpOption = "bbr",
    rate: RateOption = "200 Mbit/s",
    resume: ResumeOption = None,
    report: ReportOption = None,
    list_only: ListOption = False,
    as_json: JsonOption = False,
) -> int:
    """Measure transports beside each other: our UDT, libudt, TCP cubic and BBR, rsync, lftp, uftp.

    One lab of two sites stays up; its link takes on one cell after another (round-trip time, loss, rate, buffer, mobile
    traces, two flows, cross traffic), read back from the kernel each time. In each cell one peer after another moves
    data for some seconds. Counted is what arrives after the first 3 s, as a share of the link's rate. Counters of the
    nodes' kernels say whether a peer used the transport that it claims; probes how much delay it adds.

    Every result is written at once: Ctrl-C keeps what was measured, --resume goes on. Other work of this machine makes
    every peer look slower than it is.

    Peers: longhaul (ours with BBR-like control), longhaul-fixed, longhaul-native, longhaul-background, libudt,
    libudt-fixed, cubic, bbr, rsync, lftp, uftp, and udp: plain UDP at the link's rate, which shows what the core
    carries in that cell.

    Examples:

        longhaul bench transport --quick

        longhaul bench transport --cells 'rtt=80ms,loss=1%' --peers longhaul,libudt,bbr --repeats 5

        longhaul bench transport --full --rate 100Mbit/s -o /srv/grid

        longhaul bench transport --full --resume /srv/grid    (what an interrupted run lacks)
    """
    size = _size(quick, full)
    return _bench(
        "transport", size, output, peers, cells, repeats, seconds, tcp, rate, resume, report, list_only, as_json
    )


def sync(
    output: OutputOption = None,
    quick: QuickOption = False,
    full: FullOption = False,
    peers: PeersOption = "",
    cells: CellsOption = None,
    repeats: RepeatsOption = None,
    seconds: SecondsOption = None,
    tcp: TcpOption = "bbr",
    rate: RateOption = "200 Mbit/s",
    resume: ResumeOption = None,
    report: ReportOption = None,
    list_only: ListOption = False,
    as_json: JsonOption = False,
) -> int:
    """Measure sync engines and file tools beside each other, end to end: syncer, Syncthing, rsync, lftp, uftp.

    One large file, then 10,000 files of 10 kB at 100 ms, from an engine's folder at one site into its folder at the
    other, encryption and disk included. What arrives is watched at the destination four times a second, temporary files
    too, so that goodput after the first 3 s can be told of any tool.

    Examples:

        longhaul bench sync --quick

        longhaul bench sync --peers syncer,syncthing --cells 'rtt=100ms'
    """
    size = _size(quick, full)
    return _bench("sync", size, output, peers, cells, repeats, seconds, tcp, rate, resume, report, list_only, as_json)


def _size(quick: bool, full: bool) -> Size:
    from harness.errors import InputError

    if quick and full:
        raise InputError("--quick and --full exclude each other")
    return "quick" if quick else "full" if full else "default"


def _bench(
    kind: Literal["transport", "sync"],
    size: Size,
    output: Path | None,
    peers: str,
    cells: Sequence[str] | None,
    repeats: int | None,
    seconds: float | None,
    tcp: str,
    rate: str,
    resume: Path | None,
    report: Path | None,
    list_only: bool,
    as_json: bool,
) -> int:
    from harness.cli.bench_display import BenchDisplay, tell_record, tell_trials
    from harness.cli.output import make_directory
    from harness.errors import ExitCode, InputError
    from harness.lab.signals import termination_as_interrupt
    from harness.run.bench_run import read_record, run_bench

    if report is not None:
        return _reported(read_record(report), report, as_json)
    many = repeats or (1 if size == "quick" else 3)
    lasting = seconds or (_QUICK_S if size == "quick" else _DEFAULT_S)
    trials = _trials(kind, size, peers, cells or (), many, lasting, rate)
    if not trials:
        raise InputError("no cell has these conditions with these peers", hint=f"longhaul bench {kind} --full --list")
    if list_only:
        tell_trials(trials, whole=True, as_json=as_json)
        return ExitCode.PASSED
    directory = resume or output or _new_directory(kind)
    if resume is not None and not (resume / "results.jsonl").exists():
        raise InputError(
            f"{resume} holds no run to go on with", hint="Name the directory of a run that was interrupted."
        )
    make_directory(directory)
    if resume is None and any(directory.iterdir()):
        raise InputError(f"{directory} is not empty", hint=f"--resume {directory} goes on with it, or name another.")
    tell_trials(trials, whole=False, as_json=False)
    interrupted = False
    with termination_as_interrupt(), BenchDisplay(trials) as display:
        try:
            run_bench(
                kind,
                trials,
                directory,
                repeats=many,
                congestion_control=tcp,
                tell=display.say,
                on_result=display.show,
            )
        except KeyboardInterrupt:
            if not (directory / "results.jsonl").exists():
                raise
            interrupted = True
    record = read_record(directory)
    if interrupted:
        tell_record(record, directory, interrupted=True)
        _reported(record, directory, as_json)
        return ExitCode.INTERRUPTED
    return _reported(record, directory, as_json)


def _reported(record: BenchRecord, directory: Path, as_json: bool) -> int:
    from harness.cli.bench_display import tell_record
    from harness.errors import ExitCode
    from harness.report.bench_report import summary, write_bench_report

    page = write_bench_report(record, directory)
    if as_json:
        import json

        print(json.dumps(summary(record), indent=2))
    else:
        tell_record(record, page)
    return ExitCode.PASSED


def _trials(
    kind: Literal["transport", "sync"],
    size: Size,
    peers: str,
    cells: Sequence[str],
    repeats: int,
    seconds: float,
    rate: str,
) -> list[Trial]:
    from harness.errors import InputError
    from harness.model.units import parse_rate
    from harness.plan.bench_grid import sync_trials, transport_trials
    from harness.suts.peers.registry import SYNC_PEERS, TRANSPORT_PEERS

    names = [name.strip() for name in peers.split(",") if name.strip()]
    known = TRANSPORT_PEERS if kind == "transport" else SYNC_PEERS
    for name in names:
        if name not in known:
            raise InputError(f"no peer of bench {kind} is called {name!r}", hint=f"accepted: {', '.join(known)}")
    make = transport_trials if kind == "transport" else sync_trials
    try:
        rate_bps = parse_rate(rate)
    except ValueError as error:
        raise InputError(f"--rate: {error}") from None
    try:
        return make(size, seconds=seconds, repeats=repeats, peers=names, cells=cells, rate_bps=rate_bps)
    except ValueError as error:
        raise InputError(f"--cells: {error}") from None


def _new_directory(kind: str) -> Path:
    from datetime import datetime
    from itertools import count

    name = f"bench-{kind}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    candidates = (Path("runs") / (name if number == 0 else f"{name}-{number}") for number in count())
    return next(path for path in candidates if not path.exists())
