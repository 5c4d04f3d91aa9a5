"""``longhaul link``: show a link, or change it while everything runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import complete
from harness.cli.lab_choice import JsonOption, LabOption, open_lab

if TYPE_CHECKING:
    from harness.lab.lab import Lab
    from harness.model.impairment import Impairment

HOLDER = "longhaul link"
_NONE = ("none", "unlimited")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("link")(link)


def link(
    source: Annotated[str, typer.Argument(metavar="SITE", help="One end.", autocompletion=complete.sites)],
    destination: Annotated[str, typer.Argument(metavar="SITE", help="The other end.", autocompletion=complete.sites)],
    loss: Annotated[str | None, typer.Option(help="Independent loss each way: 2%, or none.")] = None,
    delay: Annotated[str | None, typer.Option(help="Delay one way, so half of the RTT: 80ms.")] = None,
    jitter: Annotated[str | None, typer.Option(help="Spread of the delay: 5ms.")] = None,
    rate: Annotated[str | None, typer.Option(help="Bottleneck each way: 20Mbit/s, or unlimited.")] = None,
    buffer: Annotated[
        str | None, typer.Option(help="Queue before the bottleneck: 250kB, or none for the default.")
    ] = None,
    block: Annotated[
        bool | None, typer.Option("--block/--unblock", help="Drop every packet, or stop doing so.")
    ] = None,
    one_way: Annotated[bool, typer.Option("--one-way", help="Only from the first site to the second.")] = False,
    restore: Annotated[bool, typer.Option("--restore", help="Back to what the topology says.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show the link between two sites, or change it while everything runs.

    Changes go both ways unless --one-way; what is not named stays as it is.
    Every change is read back from the kernel and logged.

    Examples:

        longhaul link tokyo ireland

        longhaul link tokyo ireland --loss 2% --delay 80ms

        longhaul link tokyo ireland --block --one-way

        longhaul link tokyo ireland --restore
    """
    from harness.errors import InputError

    settings = {"loss": loss, "delay": delay, "jitter": jitter, "rate": rate, "buffer": buffer}
    given = {name: text for name, text in settings.items() if text is not None}
    if restore and (given or block is not None):
        raise InputError("--restore stands alone", hint="First restore, then change.")
    opened = open_lab(lab)
    try:
        links = [(source, destination)] if one_way else [(source, destination), (destination, source)]
        # Checks both names before anything is changed.
        changes = {pair: _changed(opened.impairment(*pair), given) for pair in links}
        if restore:
            changes = {pair: opened.topology.link(*pair).impairment for pair in links}
        if block is False:
            changes = {pair: impairment.model_copy(update={"blocked": False}) for pair, impairment in changes.items()}
        if given or restore or block is False:
            opened.change(changes, "longhaul link")
        if block:
            opened.hold(links, HOLDER, "longhaul link --block")
        elif restore or block is False:
            opened.let_go(links, HOLDER, "longhaul link --unblock")
        _tell(opened, links, as_json)
    finally:
        opened.close()
    return 0


def _changed(impairment: Impairment, given: dict[str, str]) -> Impairment:
    """The impairment with what the options say. Raises InputError."""
    from harness.errors import InputError
    from harness.model.impairment import Impairment, IndependentLoss
    from harness.model.units import parse_duration, parse_rate, parse_share, parse_size

    fields = {name: getattr(impairment, name) for name in Impairment.model_fields}
    try:
        for name, text in given.items():
            absent = text.strip().lower() in _NONE
            match name:
                case "loss":
                    share = 0.0 if absent else parse_share(text)
                    fields["loss"] = IndependentLoss(probability=share) if share else None
                case "delay" | "jitter":
                    fields[f"{name}_us"] = 0 if absent else parse_duration(text)
                case "rate":
                    fields["rate_bps"] = None if absent else parse_rate(text)
                case "buffer":
                    fields["buffer_bytes"] = None if absent else parse_size(text)
        if fields["rate_bps"] is None:
            if "buffer" in given and fields["buffer_bytes"] is not None:
                raise ValueError("a buffer needs a rate")
            fields["buffer_bytes"] = None
        return Impairment(**fields)
    except ValueError as error:
        raise InputError(str(error)) from error


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
