"""The option by which commands choose a lab, and opening the lab that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import InputError

if TYPE_CHECKING:
    from harness.lab.lab import Lab
    from harness.nodes.namespace_node import NamespaceNode

LabOption = Annotated[
    str | None, typer.Option("--lab", metavar="LAB", help="Which lab; needed only while several are up.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def open_lab(lab_id: str | None) -> Lab:
    """The lab that was named, or the only one. Raises InputError that lists the labs."""
    from harness.lab.lab import Lab
    from harness.lab.state import choose_lab, resolve_state_root

    paths = choose_lab(resolve_state_root(), lab_id)
    return Lab.open(paths.lab_id, state_root=paths.state_root)


def open_site(lab_id: str | None, site: str) -> NamespaceNode:
    """One node of that lab, without opening its WAN core. Raises InputError that lists the labs or the sites."""
    from harness.lab.state import choose_lab, read_state, resolve_state_root
    from harness.nodes.namespace_node import open_node

    paths = choose_lab(resolve_state_root(), lab_id)
    state = read_state(paths)
    for node in state.nodes:
        if node.site == site:
            return open_node(state.plan.site(site), root=paths.data, credentials=paths.credentials, state=node)
    sites = ", ".join(node.site for node in state.nodes)
    raise InputError(f"lab {paths.lab_id} has no site {site!r}", hint=f"Its sites: {sites}.")
