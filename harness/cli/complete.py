"""What a shell offers after TAB for arguments of commands. Whatever goes wrong, it offers nothing and says nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path

import typer

Completer = Callable[[typer.Context, str], list[str]]


def _offered(names: Callable[[typer.Context], Iterable[str]]) -> Completer:
    """Those names that begin as the word does. A word that looks like a path is left to the shell."""

    @wraps(names)
    def offer(ctx: typer.Context, incomplete: str) -> list[str]:
        if "/" in incomplete or incomplete.startswith("."):
            return []
        try:
            return sorted({name for name in names(ctx) if name.startswith(incomplete)})
        except Exception:
            # A traceback in the middle of a line that somebody types helps nobody.
            return []

    # Typer looks at the annotations to see what to pass.
    offer.__annotations__ = {"ctx": typer.Context, "incomplete": str, "return": list[str]}
    offer.__dict__.pop("__wrapped__", None)
    return offer


@_offered
def labs(_ctx: typer.Context) -> Iterable[str]:
    """Labs of this host."""
    from harness.lab.state import lab_ids, resolve_state_root

    return lab_ids(resolve_state_root())


@_offered
def nodes(ctx: typer.Context) -> Iterable[str]:
    """Nodes of the lab that ``--lab`` names, or of the only one."""
    from harness.lab.state import choose_lab, read_summary, resolve_state_root

    summary = read_summary(choose_lab(resolve_state_root(), ctx.params.get("lab")))
    return [plan.name for plan, _ in summary.nodes]


@_offered
def sites(ctx: typer.Context) -> Iterable[str]:
    """Sites of that lab."""
    from harness.lab.state import choose_lab, read_summary, resolve_state_root

    summary = read_summary(choose_lab(resolve_state_root(), ctx.params.get("lab")))
    return [site.site for site in summary.sites]


@_offered
def topologies(_ctx: typer.Context) -> Iterable[str]:
    """Shipped topologies, and topology files here."""
    from harness.config.shipped import shipped_topologies

    return [*shipped_topologies(), *_files(".yaml")]


@_offered
def traces(_ctx: typer.Context) -> Iterable[str]:
    """Shipped traces, and trace files here."""
    from harness.config.trace_file import shipped_traces

    return [*(path.stem for path in shipped_traces()), *_files(".trace")]


@_offered
def profiles(_ctx: typer.Context) -> Iterable[str]:
    """Shipped profiles."""
    from harness.config.shipped import shipped_dir

    return [path.stem for path in (shipped_dir("topologies") / "profiles").glob("*.yaml")]


@_offered
def suites(_ctx: typer.Context) -> Iterable[str]:
    """Shipped suites."""
    from harness.config.shipped import shipped_dir

    return [path.name for path in shipped_dir("suites").iterdir() if path.is_dir() and path.name != "resources"]


def _files(ending: str) -> list[str]:
    return [path.name for path in Path().glob(f"*{ending}")]
