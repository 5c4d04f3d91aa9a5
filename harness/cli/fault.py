"""``longhaul fault``: break links and nodes of a live lab, and see what is in force."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import complete
from harness.cli.lab_choice import JsonOption, LabOption, open_lab

if TYPE_CHECKING:
    from harness.lab.fault_journal import FaultBegin
    from harness.lab.lab import Lab
    from harness.model.timeline import TimelineEvent

ORIGIN = "command"

ForOption = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="Undo it after this time (10s) and return then. Default: it stays."),
]
NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="A site's name, or SITE.NODE.", autocompletion=complete.nodes)
]
SiteArgument = Annotated[str, typer.Argument(metavar="SITE", autocompletion=complete.sites)]
RoleOption = Annotated[
    str | None,
    typer.Option(metavar="ROLE", help="Processes with this word in their command line, such as coordinator."),
]
CommandOption = Annotated[
    str | None, typer.Option(metavar="REGEX", help="Processes whose command line this matches somewhere.")
]
EndsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SITE SITE]", help="The link's two ends; or --site, or --all.", autocompletion=complete.sites
    ),
]
OneWayOption = Annotated[bool, typer.Option("--one-way", help="Only from the first to the second.")]
AllOfSiteOption = Annotated[
    str | None,
    typer.Option("--site", metavar="SITE", help="All links from and to a site.", autocompletion=complete.sites),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every link.")]


def register(app: typer.Typer) -> None:
    """Add the command and its kinds."""
    group = typer.Typer(no_args_is_help=True, help=_HELP, rich_markup_mode="rich")
    for name, command in _COMMANDS.items():
        group.command(name)(command)
    app.add_typer(group, name="fault")


_HELP = """Break something while everything runs: links, processes, disks, clocks.

Each fault stands in the lab's journal before it is made, acts in its own name, and is undone by its --for, by
`longhaul fault end`, or by `longhaul heal`, from any shell. Ctrl-C during --for undoes it at once.

Examples:

    longhaul fault partition virginia,ireland tokyo,sydney --one-way

    longhaul fault kill tokyo --role coordinator

    longhaul fault ramp tokyo ireland --rate 1Mbit/s --over 30s

    longhaul fault list
"""


def list_(lab: LabOption = None, as_json: JsonOption = False) -> int:
    """Show the faults in force, and every link that is not as the topology says."""
    from harness.lab.fault_desk import FaultDesk
    from harness.model.impairment_text import describe
    from harness.model.timeline import subject_of

    opened = open_lab(lab)
    try:
        faults = FaultDesk(opened, origin=ORIGIN).in_force()
        links = {link: state for link, state in opened.link_states().items() if state != opened.initial_state(link)}
        if as_json:
            rows = [{"link": f"{a}>{b}", **state.model_dump(mode="json")} for (a, b), state in links.items()]
            told = [_as_json(fault) for fault in faults]
            print(json.dumps({"lab": opened.lab_id, "faults": told, "links": rows}, indent=2))
            return 0
        for fault in faults:
            age = time.monotonic() - fault.at_s
            print(
                f"{fault.id:>5}  {fault.event.do:<12}  {subject_of(fault.event)}   for {age:.0f} s, by {fault.origin}"
            )
        for (source, destination), state in links.items():
            print(f"       link          {source}>{destination}: {describe(state.in_force)}")
        if not faults and not links:
            print("no fault is in force; every link is as the topology says")
    finally:
        opened.close()
    return 0


def end(
    fault: Annotated[list[str], typer.Argument(metavar="FAULT...", help="As `longhaul fault list` names them: f3.")],
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Undo some faults, and verify.

    Example: longhaul fault end f3
    """
    from harness.cli.heal import tell
    from harness.errors import InputError
    from harness.lab.fault_desk import FaultDesk

    opened = open_lab(lab)
    try:
        desk = FaultDesk(opened, origin=ORIGIN)
        there = {one.id: one for one in desk.in_force()}
        for name in fault:
            if name not in there:
                raise InputError(f"no fault {name} is in force", hint=f"In force: {', '.join(there) or 'none'}.")
        return tell(opened.lab_id, desk.heal([there[name] for name in fault]), as_json)
    finally:
        opened.close()


def outage(site: SiteArgument, for_: ForOption = None, lab: LabOption = None, as_json: JsonOption = False) -> int:
    """Cut a site off: all its links, both ways.

    Example: longhaul fault outage sydney --for 10s
    """
    # An outage of the model always ends by itself.
    keys: dict[str, Any] = {"do": "black-hole"} if for_ is None else {"do": "outage"}
    return _do({**keys, "site": site}, for_, lab, as_json)


def partition(
    groups: Annotated[list[str], typer.Argument(metavar="GROUP GROUP...", help="Sites, joined by commas.")],
    one_way: Annotated[
        bool, typer.Option("--one-way", help="Only packets from an earlier group to a later one are lost.")
    ] = False,
    for_: ForOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Part groups of sites from each other. A site in no group keeps all its links.

    Examples:

        longhaul fault partition virginia,ireland tokyo,sydney --for 30s

        longhaul fault partition tokyo virginia,ireland --one-way
    """
    parted = [group.split(",") for group in groups]
    return _do({"do": "partition", "groups": parted, "one_way": one_way}, for_, lab, as_json)


def black_hole(
    ends: EndsArgument = None,
    one_way: OneWayOption = False,
    site: AllOfSiteOption = None,
    all_: AllOption = False,
    for_: ForOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Drop every packet on some links.

    Example: longhaul fault black-hole tokyo ireland --one-way --for 5s
    """
    return _do({"do": "black-hole", **_links(ends, one_way, site, all_)}, for_, lab, as_json)


def flap(
    ends: EndsArgument = None,
    down: Annotated[str, typer.Option(metavar="TIME", help="How long down each time.")] = "1s",
    up: Annotated[str, typer.Option(metavar="TIME", help="How long up in between.")] = "1s",
    flaps: Annotated[int | None, typer.Option(min=1, help="How often; else for --for.")] = None,
    one_way: OneWayOption = False,
    site: AllOfSiteOption = None,
    all_: AllOption = False,
    for_: ForOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Take links down and up again, and return when that is over.

    Example: longhaul fault flap tokyo ireland --down 500ms --up 2s --flaps 5
    """
    keys = {"do": "flap", "down": down, "up": up, **_links(ends, one_way, site, all_)}
    return _do(keys | ({} if flaps is None else {"flaps": flaps}), for_, lab, as_json)


def ramp(
    ends: EndsArgument = None,
    over: Annotated[str, typer.Option(metavar="TIME", help="How long the way takes.")] = "10s",
    rate: Annotated[str | None, typer.Option(help="Bottleneck to arrive at: 1Mbit/s.")] = None,
    delay: Annotated[str | None, typer.Option(help="Delay one way to arrive at: 300ms.")] = None,
    jitter: Annotated[str | None, typer.Option(help="Jitter to arrive at: 20ms.")] = None,
    loss: Annotated[str | None, typer.Option(help="Independent loss to arrive at: 5%.")] = None,
    one_way: OneWayOption = False,
    site: AllOfSiteOption = None,
    all_: AllOption = False,
    for_: ForOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Move links to other settings in a straight line. They stay there; --for counts from the begin.

    Example: longhaul fault ramp tokyo ireland --rate 1Mbit/s --delay 200ms --over 30s
    """
    targets = {"rate": rate, "delay": delay, "jitter": jitter, "loss": loss}
    given = {key: text for key, text in targets.items() if text is not None}
    keys = {"do": "ramp", "over": over, **given, **_links(ends, one_way, site, all_)}
    return _do(keys, for_, lab, as_json)


def nat_rebind(site: SiteArgument, lab: LabOption = None, as_json: JsonOption = False) -> int:
    """Let a site's NAT forget its mappings, as when a home router restarts.

    Example: longhaul fault nat-rebind sydney
    """
    return _do({"do": "nat-rebind", "site": site}, None, lab, as_json)


def kill(
    node: NodeArgument,
    role: RoleOption = None,
    command: CommandOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """SIGKILL processes of a node.

    Example: longhaul fault kill tokyo --role coordinator
    """
    return _do({"do": "kill", "node": node, **_target(role, command)}, None, lab, as_json)


def restart(
    node: NodeArgument,
    role: RoleOption = None,
    command: CommandOption = None,
    for_: ForOption = "1s",
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """SIGKILL processes, and start the same command lines again after --for.

    Example: longhaul fault restart tokyo --command 'postgres -D' --for 5s
    """
    return _do({"do": "restart", "node": node, **_target(role, command)}, for_, lab, as_json)


def pause(
    node: NodeArgument,
    role: RoleOption = None,
    command: CommandOption = None,
    for_: ForOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """SIGSTOP processes, and SIGCONT at the end; without --role or --command all of the node.

    Example: longhaul fault pause tokyo --for 20s
    """
    return _do({"do": "pause", "node": node, **_target(role, command)}, for_, lab, as_json)


def reboot(node: NodeArgument, for_: ForOption = "5s", lab: LabOption = None, as_json: JsonOption = False) -> int:
    """End every process of a node; it comes back, with its sshd, after --for. Nothing else is started there.

    Example: longhaul fault reboot tokyo --for 10s
    """
    return _do({"do": "reboot", "node": node}, for_, lab, as_json)


def disk_full(
    node: NodeArgument,
    free: Annotated[str | None, typer.Option(metavar="SIZE", help="What is left: 1MB. Default: nothing.")] = None,
    for_: ForOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Fill a node's own disk (its site needs `disk: 1 GB` in the topology).

    Example: longhaul fault disk-full tokyo --for 30s
    """
    keys = {"do": "disk-full", "node": node} | ({} if free is None else {"free": free})
    return _do(keys, for_, lab, as_json)


def disk_slow(
    node: NodeArgument,
    rate: Annotated[str, typer.Option(help="Reads and writes, each: 8Mbit/s.")] = "8Mbit/s",
    for_: ForOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Throttle what a node reads from and writes to its disk.

    Example: longhaul fault disk-slow tokyo --rate 4Mbit/s --for 1200s
    """
    return _do({"do": "disk-slow", "node": node, "rate": rate}, for_, lab, as_json)


def clock_skew(
    node: NodeArgument,
    gains: Annotated[str, typer.Option(metavar="SHARE", help="What it gains in each second: 0.5%, -2%.")],
    for_: ForOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Let a node's clock run fast or slow (its site needs `clock: adjustable` in the topology).

    Example: longhaul fault clock-skew tokyo --gains 0.1% --for 60s
    """
    return _do({"do": "clock-skew", "node": node, "gains": gains}, for_, lab, as_json)


def clock_jump(
    node: NodeArgument,
    offset: Annotated[str, typer.Option(metavar="TIME", help="By how much: 3600s, or --offset=-30s.")],
    for_: ForOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Let a node's clock jump (its site needs `clock: adjustable` in the topology).

    Example: longhaul fault clock-jump tokyo --offset=-3600s --for 60s
    """
    return _do({"do": "clock-jump", "node": node, "offset": offset}, for_, lab, as_json)


def corrupt_file(
    node: NodeArgument,
    path: Annotated[str, typer.Argument(help="A pattern below the node's data directory: 'run1/folder/**'.")],
    bytes_: Annotated[int, typer.Option("--bytes", min=1, max=4096, help="In how many bytes a bit is flipped.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Decides file, bytes and bits.")] = 0,
    for_: ForOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Flip bits in a file, as a bad disk does; its size and times stay.

    Example: longhaul fault corrupt-file tokyo 'run1/folder/**' --bytes 3
    """
    keys = {"do": "corrupt-file", "node": node, "path": path, "bytes": bytes_, "seed": seed}
    return _do(keys, for_, lab, as_json)


def descriptors(
    node: NodeArgument,
    role: RoleOption = None,
    command: CommandOption = None,
    spare: Annotated[int, typer.Option(min=0, help="How many more they may open.")] = 0,
    for_: ForOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Let processes run out of file descriptors.

    Example: longhaul fault descriptors tokyo --role coordinator --for 10s
    """
    keys = {"do": "descriptors", "node": node, "spare": spare, **_target(role, command)}
    return _do(keys, for_, lab, as_json)


_COMMANDS: dict[str, Callable[..., int]] = {
    "list": list_,
    "end": end,
    "outage": outage,
    "partition": partition,
    "black-hole": black_hole,
    "flap": flap,
    "ramp": ramp,
    "nat-rebind": nat_rebind,
    "kill": kill,
    "restart": restart,
    "pause": pause,
    "reboot": reboot,
    "disk-full": disk_full,
    "disk-slow": disk_slow,
    "clock-skew": clock_skew,
    "clock-jump": clock_jump,
    "corrupt-file": corrupt_file,
    "descriptors": descriptors,
}


def _links(ends: list[str] | None, one_way: bool, site: str | None, all_: bool) -> dict[str, Any]:
    from harness.errors import InputError

    if ends:
        if len(ends) != 2 or site is not None or all_:
            raise InputError("a link has two ends", hint="Or say --site SITE, or --all.")
        return {"from": ends[0], "to": ends[1]} if one_way else {"between": ends}
    return ({} if site is None else {"site": site}) | ({"all": True} if all_ else {})


def _target(role: str | None, command: str | None) -> dict[str, str]:
    return {key: text for key, text in (("role", role), ("command", command)) if text is not None}


def _do(keys: dict[str, Any], for_: str | None, lab_id: str | None, as_json: bool) -> int:
    from harness.config.timeline_events import event_of_keys
    from harness.lab.by_hand import carry_out
    from harness.lab.fault_desk import FaultDesk
    from harness.lab.signals import termination_as_interrupt

    opened = open_lab(lab_id)
    try:
        event = event_of_keys(keys if for_ is None else {**keys, "for": for_}, opened.topology)
        desk = FaultDesk(opened, origin=ORIGIN)
        with termination_as_interrupt():
            fault_id = carry_out(desk, event, time.sleep)
        _tell(opened, desk, fault_id, event, as_json)
    finally:
        opened.close()
    return 0


def _tell(lab: Lab, desk: Any, fault_id: str, event: TimelineEvent, as_json: bool) -> None:
    from harness.model.timeline import subject_of

    span = next(span for span in desk.spans() if span.begin.id == fault_id)
    if as_json:
        print(json.dumps({"lab": lab.lab_id, **_as_json(span.begin), "in_force": span.ended_s is None}, indent=2))
        return
    after = "in force until `longhaul heal`" if span.ended_s is None else "and undone"
    if event.do in ("kill", "nat-rebind"):
        after = "done"
    print(f"{fault_id}: {event.do} of {subject_of(event)}: {after}")


def _as_json(fault: FaultBegin) -> dict[str, Any]:
    return {
        "id": fault.id,
        "fault": fault.event.do,
        "event": fault.event.model_dump(mode="json"),
        "begun_s": round(fault.at_s, 6),
        "by": fault.origin,
    }
