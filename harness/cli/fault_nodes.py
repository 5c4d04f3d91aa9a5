"""``longhaul fault``: what is done to nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from harness.cli import complete
from harness.cli.fault_making import ForOption, make
from harness.cli.lab_choice import JsonOption, LabOption

NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="A site's name, or SITE.NODE.", autocompletion=complete.nodes)
]
RoleOption = Annotated[
    str | None,
    typer.Option(metavar="ROLE", help="Processes with this word in their command line, such as coordinator."),
]
CommandOption = Annotated[
    str | None, typer.Option(metavar="REGEX", help="Processes whose command line this matches somewhere.")
]


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
    return make({"do": "kill", "node": node, **_target(role, command)}, None, lab, as_json)


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
    return make({"do": "restart", "node": node, **_target(role, command)}, for_, lab, as_json)


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
    return make({"do": "pause", "node": node, **_target(role, command)}, for_, lab, as_json)


def reboot(node: NodeArgument, for_: ForOption = "5s", lab: LabOption = None, as_json: JsonOption = False) -> int:
    """End every process of a node; it comes back, with its sshd, after --for. Nothing else is started there.

    Example: longhaul fault reboot tokyo --for 10s
    """
    return make({"do": "reboot", "node": node}, for_, lab, as_json)


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
    return make(keys, for_, lab, as_json)


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
    return make({"do": "disk-slow", "node": node, "rate": rate}, for_, lab, as_json)


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
    return make({"do": "clock-skew", "node": node, "gains": gains}, for_, lab, as_json)


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
    return make({"do": "clock-jump", "node": node, "offset": offset}, for_, lab, as_json)


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
    return make(keys, for_, lab, as_json)


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
    return make(keys, for_, lab, as_json)


def _target(role: str | None, command: str | None) -> dict[str, str]:
    return {key: text for key, text in (("role", role), ("command", command)) if text is not None}


COMMANDS: dict[str, Callable[..., int]] = {
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
