"""What is scheduled to happen to links and nodes. Every event has its undo; times are seconds since the timeline began.

An event begins at ``at_s`` and is undone ``duration_s`` later, or when the timeline ends if that is None. It comes
again every ``every_s``, ``count`` times in all, or until the timeline ends when that is None.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from harness.model.base import Value


class LinkChoice(Value):
    """Directed links: those listed, all from and to a site, or all there are."""

    pairs: tuple[tuple[str, str], ...] = ()
    site: str | None = None
    all: bool = False


class Timed(Value):
    """When an event happens."""

    at_s: float = Field(default=0.0, ge=0)
    duration_s: float | None = Field(default=None, gt=0)
    every_s: float | None = Field(default=None, gt=0)
    count: int | None = Field(default=None, ge=1)


class Outage(Timed):
    """Both directions of every link of ``site`` are black holes."""

    do: Literal["outage"] = "outage"
    site: str
    duration_s: float = Field(gt=0)


class Change(Timed):
    """``fields`` of Impairment (JSON-able, by name) lie over what the links are otherwise set to."""

    do: Literal["change"] = "change"
    links: LinkChoice
    fields: dict[str, Any]


class Ramp(Timed):
    """As Change, but numbers move in a straight line to their targets over ``over_s``, in steps of ``step_s``.

    What has no line to move on (a distribution, a rate where the link had none) takes its target with the first step.
    The duration includes the ramp, and ends it where it has got to.
    """

    do: Literal["ramp"] = "ramp"
    links: LinkChoice
    fields: dict[str, Any]
    over_s: float = Field(gt=0)
    step_s: float = Field(default=0.1, gt=0)


class Flap(Timed):
    """The links are black holes for ``down_s``, open for ``up_s``, over again, ``flaps`` times or for the duration."""

    do: Literal["flap"] = "flap"
    links: LinkChoice
    down_s: float = Field(gt=0)
    up_s: float = Field(gt=0)
    flaps: int | None = Field(default=None, ge=1)


class Partition(Timed):
    """Links between sites of different groups are black holes; a site in no group keeps all its links.

    ``one_way``: only those from an earlier group to a later one.
    """

    do: Literal["partition"] = "partition"
    groups: tuple[tuple[str, ...], ...]
    one_way: bool = False


class BlackHole(Timed):
    """The links drop every packet."""

    do: Literal["black-hole"] = "black-hole"
    links: LinkChoice


class NatRebind(Timed):
    """The NAT of ``site`` forgets its mappings, and gives out other ports from then on. At an instant."""

    do: Literal["nat-rebind"] = "nat-rebind"
    site: str


class Play(Timed):
    """The links follow a trace, a shipped one by name or a file, from ``offset_s`` on at ``speed``."""

    do: Literal["play"] = "play"
    links: LinkChoice
    trace: str
    offset_s: float = Field(default=0.0, ge=0)
    speed: float = Field(default=1.0, gt=0)
    loop: bool = True


class Target(Value):
    """Processes of a node: by their role in the system under test, by a regular expression that matches somewhere in
    their command lines, or all of them."""

    role: str | None = None
    command: str | None = None


class NodeEvent(Timed):
    """Something that happens to one node; ``node`` is its name."""

    node: str


class Kill(NodeEvent):
    """SIGKILL. At an instant: whoever supervises the process starts it again, or nobody does."""

    do: Literal["kill"] = "kill"
    target: Target


class Restart(NodeEvent):
    """SIGKILL, and after the duration the same command lines again, in the same environments and directories."""

    do: Literal["restart"] = "restart"
    target: Target


class Pause(NodeEvent):
    """SIGSTOP, and SIGCONT at the end. Without a target, all processes but the node's own sshd."""

    do: Literal["pause"] = "pause"
    target: Target = Target()


class Reboot(NodeEvent):
    """Every process of the node ends at once, and after the duration the node comes back with its sshd; the system
    under test is then started as a service manager would. What was written to files stays."""

    do: Literal["reboot"] = "reboot"


class DiskFull(NodeEvent):
    """The file system of the node's data directory has ``free_bytes`` left."""

    do: Literal["disk-full"] = "disk-full"
    free_bytes: int = Field(default=0, ge=0)


class DiskSlow(NodeEvent):
    """The node reads and writes its disk at ``bytes_per_s`` at most, each."""

    do: Literal["disk-slow"] = "disk-slow"
    bytes_per_s: int = Field(gt=0)


class ClockSkew(NodeEvent):
    """The node's clock gains ``rate`` seconds in each second (-0.1: loses a tenth), and is right again at the end."""

    do: Literal["clock-skew"] = "clock-skew"
    rate: float = Field(gt=-1, le=10)


class ClockJump(NodeEvent):
    """The node's clock jumps by ``offset_s``, and back at the end."""

    do: Literal["clock-jump"] = "clock-jump"
    offset_s: float


class CorruptFile(NodeEvent):
    """One bit in each of ``bytes`` bytes is flipped, in one file below the node's data directory that ``path`` (a
    pattern with * and **) matches; ``seed`` decides which. The end puts back what nobody wrote over."""

    do: Literal["corrupt-file"] = "corrupt-file"
    path: str
    bytes: int = Field(default=1, ge=1, le=4096)
    seed: int = 0


class Descriptors(NodeEvent):
    """The processes may open ``spare`` more files than they have open, and no more."""

    do: Literal["descriptors"] = "descriptors"
    target: Target
    spare: int = Field(default=0, ge=0)


HoldEvent = Outage | BlackHole | Partition
NodeFault = Kill | Restart | Pause | Reboot | DiskFull | DiskSlow | ClockSkew | ClockJump | CorruptFile | Descriptors
TimelineEvent = Annotated[
    Outage
    | Change
    | Ramp
    | Flap
    | Partition
    | BlackHole
    | NatRebind
    | Play
    | Kill
    | Restart
    | Pause
    | Reboot
    | DiskFull
    | DiskSlow
    | ClockSkew
    | ClockJump
    | CorruptFile
    | Descriptors,
    Field(discriminator="do"),
]

INSTANTS = ("nat-rebind", "kill")
"""Events that are over at once: they have no duration and no undo."""


def subject_of(event: TimelineEvent) -> str:
    """What it happens to, in a few words: ``tokyo``, ``tokyo>ireland``, ``virginia,ireland | tokyo``."""
    match event:
        case Outage() | NatRebind():
            return event.site
        case Partition():
            arrow = " > " if event.one_way else " | "
            return arrow.join(",".join(group) for group in event.groups)
        case Change() | Ramp() | Flap() | BlackHole() | Play():
            choice = event.links
            if choice.all:
                return "all links"
            if choice.site is not None:
                return f"links of {choice.site}"
            return _pairs_in_words(choice.pairs)
        case Kill() | Restart() | Pause() | Descriptors():
            what = event.target.role or event.target.command
            return f"{what} at {event.node}" if what else event.node
        case CorruptFile():
            return f"{event.path} at {event.node}"
        case _:
            return event.node


def _pairs_in_words(pairs: tuple[tuple[str, str], ...]) -> str:
    """``tokyo>ireland, ireland>tokyo``; the links both ways between one site and several others are ``links of`` it."""
    hubs = set(pairs[0]).intersection(*pairs) if pairs else set()
    if len(hubs) == 1 and len(pairs) > 2 and {(b, a) for a, b in pairs} == set(pairs):
        return f"links of {hubs.pop()}"
    return ", ".join(f"{source}>{destination}" for source, destination in pairs)
