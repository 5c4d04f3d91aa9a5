"""``syncer``: assembles the commands, and turns every error into a message and an exit code."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from syncer.errors import SyncerError

COMMANDS = ("init", "site", "run", "status", "speedtest", "wait", "log")
"""Modules of this package, in the order of ``--help``; each has ``register(app)``."""

app = typer.Typer(
    name="syncer",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Keep a folder the same at several sites, over networks that lose packets.\n\n"
    "A site is a home directory (keys, index, logs) and a folder. Make one on each host with `syncer init`, tell each "
    "about the others with `syncer site add`, then `syncer run`.\n\n"
    "Exit codes: 0 done, 1 failed, 2 bad input, 3 no engine runs, 4 not in sync in time, 130 interrupted.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"syncer {version('longhaul')}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options that hold for every command."""


def main() -> None:
    """The console script's entry point."""
    for name in COMMANDS:
        import_module(f"syncer.cli.{name}").register(app)
    try:
        sys.exit(app(standalone_mode=False))
    except SyncerError as error:
        print(f"syncer: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("syncer: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        print(f"syncer: {error.format_message()}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
