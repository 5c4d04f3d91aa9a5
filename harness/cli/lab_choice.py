"""The option by which commands choose a lab, and opening the lab that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import complete
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.lab.lab import Lab
    from harness.nodes.namespace_node import NamespaceNode

LabOption = Annotated[
    str | None,
    typer.Option(
        "--lab", metavar="LAB", help="Which lab; needed only while several are up.", autocompletion=complete.labs
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def open_lab(lab_id: str | None) -> Lab:
    """The lab that was named, or the only one. Raises InputError that lists the labs."""
    from harness.lab.lab import Lab
    from harness.lab.state import choose_lab, resolve_state_root

    paths = choose_lab(resolve_state_root(), lab_id)
    return Lab.open(paths.lab_id, state_root=paths.state_root)


def open_site(lab_id: str | None, name: str) -> NamespaceNode:
    """One node of that lab, without opening its WAN core: a site's first by the site's name, another as SITE.NODE.

    Raises InputError that lists the labs or the nodes.
    """
    from harness.lab.state import choose_lab, read_summary, resolve_state_root
    from harness.nodes.namespace_node import open_node

    paths = choose_lab(resolve_state_root(), lab_id)
    summary = read_summary(paths)
    for plan, state in summary.nodes:
        if plan.name == name:
            return open_node(plan, root=paths.data, credentials=paths.credentials, state=state)
    nodes = ", ".join(plan.name for plan, _ in summary.nodes)
    raise InputError(f"lab {paths.lab_id} has no site {name!r}", hint=f"Its nodes: {nodes}.")
