"""``longhaul image``: the WAN core's machine image."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("image")(image)


def image(
    status: Annotated[bool, typer.Option("--status", help="Only say whether it is built; build nothing.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build it anew even if it is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> int:
    """Build the WAN core's machine image, a stock Debian kernel with netem, unless it is built already.

    A host whose own kernel has netem does not need it. Exit code 3 when it cannot be built, or with --status when it
    is missing.

    Examples:

        longhaul image

        longhaul image --status --json
    """
    from harness.wan.image import ImagePaths, ensure_image, find_image

    found: ImagePaths | None
    if status:
        found = find_image()
    else:
        from rich.console import Console

        console = Console(stderr=True)
        with console.status("WAN core image") as spinner:

            def tell(step: str) -> None:
                spinner.update(step)
                if not console.is_terminal:
                    console.print(step, highlight=False)

            found = ensure_image(tell, rebuild=rebuild)
    if as_json:
        built = None if found is None else {"directory": str(found.directory), "kernel": found.release}
        print(json.dumps({"built": found is not None, "image": built}, indent=2))
    elif found is None:
        print("not built")
    else:
        print(f"linux {found.release} in {found.directory}")
    return ExitCode.PASSED if found is not None else ExitCode.LAB_BROKE
