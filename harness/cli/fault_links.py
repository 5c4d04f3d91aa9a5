"""``longhaul fault``: what is done to links and to a site's edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from harness.cli import complete
from harness.cli.fault_making import ForOption, make
from harness.cli.lab_choice import JsonOption, LabOption

SiteArgument = Annotated[str, typer.Argument(metavar="SITE", autocompletion=complete.sites)]
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


def outage(site: SiteArgument, for_: ForOption = None, lab: LabOption = None, as_json: JsonOption = False) -> int:
    """Cut a site off: all its links, both ways.

    Example: longhaul fault outage sydney --for 10s
    """
    # An outage of the model always ends by itself.
    keys: dict[str, Any] = {"do": "black-hole"} if for_ is None else {"do": "outage"}
    return make({**keys, "site": site}, for_, lab, as_json)


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
    return make({"do": "partition", "groups": parted, "one_way": one_way}, for_, lab, as_json)


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
    return make({"do": "black-hole", **_links(ends, one_way, site, all_)}, for_, lab, as_json)


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
    return make(keys | ({} if flaps is None else {"flaps": flaps}), for_, lab, as_json)


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
    return make(keys, for_, lab, as_json)


def nat_rebind(site: SiteArgument, lab: LabOption = None, as_json: JsonOption = False) -> int:
    """Let a site's NAT forget its mappings, as when a home router restarts.

    Example: longhaul fault nat-rebind sydney
    """
    return make({"do": "nat-rebind", "site": site}, None, lab, as_json)


def _links(ends: list[str] | None, one_way: bool, site: str | None, all_: bool) -> dict[str, Any]:
    from harness.errors import InputError

    if ends:
        if len(ends) != 2 or site is not None or all_:
            raise InputError("a link has two ends", hint="Or say --site SITE, or --all.")
        return {"from": ends[0], "to": ends[1]} if one_way else {"between": ends}
    return ({} if site is None else {"site": site}) | ({"all": True} if all_ else {})


COMMANDS: dict[str, Callable[..., int]] = {
    "outage": outage,
    "partition": partition,
    "black-hole": black_hole,
    "flap": flap,
    "ramp": ramp,
    "nat-rebind": nat_rebind,
}
