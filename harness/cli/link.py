"""``longhaul link``: show a link, or change it while everything runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import complete
from harness.cli.lab_choice import JsonOption, LabOption, open_lab

if TYPE_CHECKING:
    from harness.lab.fault_desk import FaultDesk
    from harness.lab.lab import Lab
    from harness.model.impairment import Impairment

ORIGIN = "longhaul link"


def _key(text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=text, rich_help_panel="Keys of a link, or none")
    return option


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("link")(link)


def link(
    source: Annotated[str, typer.Argument(metavar="SITE", help="One end.", autocompletion=complete.sites)],
    destination: Annotated[str, typer.Argument(metavar="SITE", help="The other end.", autocompletion=complete.sites)],
    delay: Annotated[str | None, _key("Delay one way, so half of the RTT: 80ms.")] = None,
    jitter: Annotated[str | None, _key("Spread of the delay: 5ms.")] = None,
    distribution: Annotated[str | None, _key("Of the jitter: uniform, normal, pareto, paretonormal, x.dist.")] = None,
    delay_correlation: Annotated[str | None, _key("Of one packet's jitter with the last one's: 25%.")] = None,
    in_order: Annotated[str | None, _key("true, or false: jitter reorders.")] = None,
    loss: Annotated[str | None, _key("2%, or '{mean: 1%, burst: 8 packets}', or another model's keys.")] = None,
    ecn_marks: Annotated[str | None, _key("true: mark packets that know ECN where others are lost.")] = None,
    duplicate: Annotated[str | None, _key("Share of packets that come twice: 1%.")] = None,
    corrupt: Annotated[str | None, _key("Share of packets with a wrong bit: 0.1%.")] = None,
    reorder: Annotated[str | None, _key("Share of packets that overtake: 5%.")] = None,
    slots: Annotated[str | None, _key("'{min: 10 ms, packets: 20 packets}'.")] = None,
    rate: Annotated[str | None, _key("Bottleneck: 20Mbit/s, or unlimited.")] = None,
    framing: Annotated[str | None, _key("What the link layer adds: ethernet, docsis, adsl-pppoe ...")] = None,
    buffer: Annotated[str | None, _key("Queue before the bottleneck: 250kB, 200ms, 100packets.")] = None,
    queue: Annotated[str | None, _key("drop-tail, codel, fq_codel.")] = None,
    block: Annotated[
        bool | None, typer.Option("--block/--unblock", help="Drop every packet, or stop doing so.")
    ] = None,
    one_way: Annotated[bool, typer.Option("--one-way", help="Only from the first site to the second.")] = False,
    restore: Annotated[bool, typer.Option("--restore", help="Back to what the topology says.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show the link between two sites, or change it while everything runs.

    Changes go both ways unless --one-way; what is not named stays as it is. Values are written as in topology files;
    `none` takes away what a key set. Every change is read back from the kernel and logged.

    Examples:

        longhaul link tokyo ireland

        longhaul link tokyo ireland --loss 2% --delay 80ms

        longhaul link tokyo ireland --loss '{mean: 1%, burst: 8 packets}' --one-way

        longhaul link tokyo ireland --block --one-way

        longhaul link tokyo ireland --restore
    """
    from harness.errors import InputError
    from harness.lab.fault_desk import FaultDesk

    settings = {
        "delay": delay,
        "jitter": jitter,
        "distribution": distribution,
        "delay_correlation": delay_correlation,
        "in_order": in_order,
        "loss": loss,
        "ecn_marks": ecn_marks,
        "duplicate": duplicate,
        "corrupt": corrupt,
        "reorder": reorder,
        "slots": slots,
        "rate": rate,
        "framing": framing,
        "buffer": buffer,
        "queue": queue,
    }
    given = {name: text for name, text in settings.items() if text is not None}
    if restore and (given or block is not None):
        raise InputError("--restore stands alone", hint="First restore, then change.")
    opened = open_lab(lab)
    try:
        links = [(source, destination)] if one_way else [(source, destination), (destination, source)]
        # Checks both names and all values before anything is changed.
        changes = {pair: _changed(opened.impairment(*pair), given) for pair in links}
        if restore:
            changes = {pair: opened.topology.link(*pair).impairment for pair in links}
        if block is False:
            changes = {pair: impairment.model_copy(update={"blocked": False}) for pair, impairment in changes.items()}
        if given or restore or block is False:
            opened.change(changes, ORIGIN)
        desk = FaultDesk(opened, origin=ORIGIN)
        if block:
            _block(desk, links)
        elif restore or block is False:
            _unblock(desk, links)
        _tell(opened, links, as_json)
    finally:
        opened.close()
    return 0


def _block(desk: FaultDesk, links: list[tuple[str, str]]) -> None:
    """A fault for each direction, so that each can be opened by itself."""
    from harness.model.timeline import BlackHole, LinkChoice

    closed = _blocks(desk)
    for pair in links:
        if pair not in closed:
            desk.begin(BlackHole(links=LinkChoice(pairs=(pair,))))


def _unblock(desk: FaultDesk, links: list[tuple[str, str]]) -> None:
    closed = _blocks(desk)
    for pair in links:
        if pair in closed:
            desk.end(closed[pair])


def _blocks(desk: FaultDesk) -> dict[tuple[str, str], str]:
    """The links that this command holds, and its faults' ids."""
    return {
        fault.event.links.pairs[0]: fault.id
        for fault in desk.in_force()
        if fault.origin == ORIGIN and fault.event.do == "black-hole"
    }


def _changed(impairment: Impairment, given: dict[str, str]) -> Impairment:
    """The impairment with what the options say. Raises InputError."""
    from harness.config.link_text import parse_impairment_fields

    return impairment.model_copy(update=parse_impairment_fields(given, impairment)) if given else impairment


def _tell(lab: Lab, links: list[tuple[str, str]], as_json: bool) -> None:
    from harness.model.impairment_text import describe

    found = lab.read_back()
    if as_json:
        rows = [
            {
                "source": source,
                "destination": destination,
                "in_force": lab.in_force(source, destination).model_dump(),
                "base": lab.impairment(source, destination).model_dump(),
                "topology": lab.topology.link(source, destination).impairment.model_dump(),
                "kernel": found[source, destination].model_dump(),
            }
            for source, destination in links
        ]
        print(json.dumps({"lab": lab.lab_id, "links": rows}, indent=2))
        return
    for source, destination in links:
        now, wanted = lab.in_force(source, destination), lab.topology.link(source, destination).impairment
        note = "" if now == wanted else f"   (topology: {describe(wanted)})"
        print(f"{source} > {destination}: {describe(now)}{note}")
