"""``longhaul``: assembles the commands, and turns every error into a message and an exit code."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from importlib import import_module

import typer
from typer.exceptions import Abort, TyperException

from harness.errors import ExitCode, LonghaulError

COMMANDS: tuple[str, ...] = (
    "run",
    "doctor",
    "validate",
    "graph",
    "up",
    "down",
    "status",
    "exec",
    "shell",
    "link",
    "play",
    "fault",
    "heal",
    "measure",
    "top",
    "capture",
    "record",
    "fit",
    "trace",
    "mesh",
    "schema",
    "completion",
    "image",
    "test",
    "selftest",
    "bench",
)
"""Modules of this package, in the order of ``--help``; each has ``register(app)``."""


_ROOM = "make room there, then try again"
_OF_THE_MACHINE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "that file system is read-only",
    errno.EACCES: "labs belong to root: run it with sudo",
    errno.EPERM: "labs belong to root: run it with sudo",
}
"""What a user can mend; any other error of the system is a defect of this program, and keeps its traceback."""


def build_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="longhaul",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Build a WAN on this machine, run real software on its sites, test it, and report.\n\n"
        "[b]Start here[/b]: longhaul run (the whole job on four sites), longhaul doctor (what this machine can do).\n\n"
        "[b]Exit codes[/b]: 0 all passed, 1 a test failed, 2 bad input, 3 the lab broke, 4 INVALID "
        "(the WAN was not as specified), 130 interrupted.",
    )
    for name in COMMANDS:
        import_module(f"harness.cli.{name}").register(app)
    return app


def run_guarded(call: Callable[[], object], program: str = "longhaul") -> int:
    """Call, and say any foreseen error on standard error in the house's form. Returns the exit code."""
    try:
        result = call()
    except LonghaulError as error:
        print(f"{program}: {error}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        return int(error.exit_code)
    except TyperException as error:
        describe = getattr(error, "format_message", None)
        context = getattr(error, "ctx", None)
        print(f"{program}: {describe() if describe else error}", file=sys.stderr)
        if context is not None:
            print(f"  hint: {context.command_path} --help", file=sys.stderr)
        return int(ExitCode.BAD_INPUT)
    except (KeyboardInterrupt, Abort):
        print(f"{program}: interrupted", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        return int(ExitCode.PASSED)
    except OSError as error:
        hint = _OF_THE_MACHINE.get(error.errno or 0)
        if hint is None:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"{program}: {where}{error.strerror}\n  hint: {hint}", file=sys.stderr)
        return int(ExitCode.LAB_BROKE)
    return result if isinstance(result, int) else int(ExitCode.PASSED)


def main() -> None:
    """The console script's entry point."""
    app = build_app()
    sys.exit(run_guarded(lambda: app(standalone_mode=False)))


if __name__ == "__main__":
    main()
