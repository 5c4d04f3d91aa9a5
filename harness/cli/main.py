"""``longhaul``: assembles the commands, and turns every error into a message and an exit code."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from harness.errors import ExitCode, LonghaulError

COMMANDS: tuple[str, ...] = ()
"""Modules of this package, in the order of ``--help``; each has ``register(app)``."""

app = typer.Typer(
    name="longhaul",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Build a WAN on this machine, run real software on its sites, test it, and report.\n\n"
    "Exit codes: 0 all passed, 1 a test failed, 2 bad input, 3 the lab broke, 4 INVALID "
    "(the WAN was not as specified), 130 interrupted.",
)


@app.callback()
def _root() -> None:
    """Options that hold for every command would stand here."""


def main() -> None:
    """The console script's entry point."""
    for name in COMMANDS:
        import_module(f"harness.cli.{name}").register(app)
    try:
        app(standalone_mode=False)
    except LonghaulError as error:
        print(f"longhaul: {error}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("longhaul: interrupted", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    main()
