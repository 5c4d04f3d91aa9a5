"""``python -m syncer.udt.perf``: the command line."""

from __future__ import annotations

import json
import secrets
import socket
import sys
import threading

import msgspec
import typer

from syncer.errors import InputError, SyncerError
from syncer.udt.perf import result as results
from syncer.udt.perf.client import measure
from syncer.udt.perf.implementations import IMPLEMENTATIONS, checked, load
from syncer.udt.perf.messages import Ready, Request
from syncer.udt.perf.port import Address, NoServer, Settings
from syncer.udt.perf.quantities import rate_bps, shown_rate, size_bytes
from syncer.udt.perf.server import Outcome, Server

PORT = 5401
_DEFAULT_SECONDS = 10.0
_INTERRUPTED = 130
_IMPLEMENTATION = typer.Option(
    "longhaul", "--implementation", "-i", metavar="|".join(IMPLEMENTATIONS), help="Whose UDT."
)
_MSS = typer.Option(1500, min=100, max=65_535, help="Largest IP packet, bytes. The smaller of both ends' holds.")
_BUFFER = typer.Option("64MiB", help="Send and receive buffer of a connection: 4 times rate times RTT is plenty.")
_JSON = typer.Option(False, "--json", help="One JSON object a measurement on standard output.")

app = typer.Typer(
    name="perf",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure what a path carries over UDT.\n\n"
    "Start `serve` at one end and `send` at the other:\n\n"
    "  far$  python -m syncer.udt.perf serve --port 5401\n\n"
    "  near$ python -m syncer.udt.perf send far.example --port 5401 --seconds 10\n\n"
    "The receiving end counts payload by its own clock. Both ends may run another UDT (--implementation libudt): they "
    "speak the same protocol.\n\n"
    "Exit codes: 0 done, 1 broke or arrived changed, 2 bad input, 3 no server answers, 130 interrupted.",
)


@app.command()
def serve(
    bind: str = typer.Option("0.0.0.0", help="Numeric address to listen on; :: for IPv6."),
    port: int = typer.Option(PORT, min=0, max=65_535, help="UDP port; 0: any free one, which is printed."),
    once: bool = typer.Option(False, help="Leave after one measurement; exit 1 if it failed."),
    implementation: str = _IMPLEMENTATION,
    mss: int = _MSS,
    buffer: str = _BUFFER,
    as_json: bool = _JSON,
) -> None:
    """Wait for measurements, one at a time, until interrupted.

    Examples:

      python -m syncer.udt.perf serve

      python -m syncer.udt.perf serve --bind 198.18.0.2 --port 6000 --once --implementation libudt
    """
    done = threading.Event()
    failures: list[str] = []

    def concluded(outcome: Outcome) -> None:
        peer, request, arrival, departure = outcome
        told = results.concluded(request, load(implementation).name, request.control or "", arrival, departure)
        _print(told, as_json, f"from {peer[0]} port {peer[1]}" + (", reverse" if request.reverse else ""))
        if told.failure is not None or told.verified is False:
            failures.append(told.failure or "changed content")
        if once:
            done.set()

    def failed(peer: Address, reason: str) -> None:
        print(f"perf: {peer[0]} port {peer[1]}: {reason}", file=sys.stderr, flush=True)
        failures.append(reason)
        if once:
            done.set()

    settings = Settings(mss=mss, buffer_bytes=size_bytes(buffer))
    server = Server(load(implementation), (_numeric(bind), port), settings, concluded, failed)
    try:
        address, port = server.address
        if as_json:
            print(json.dumps({"listening": {"address": address, "port": port}}), flush=True)
        else:
            print(f"listening on {address} port {port} ({implementation}); Ctrl-C ends it", flush=True)
        done.wait()
    finally:
        server.close()
    if once and failures:
        raise typer.Exit(1)


@app.command()
def send(
    host: str = typer.Argument(..., help="Name or address of the server."),
    port: int = typer.Option(PORT, min=1, max=65_535),
    seconds: float | None = typer.Option(None, min=0.1, help=f"How long to send. Default {_DEFAULT_SECONDS:.0f}."),
    size: str | None = typer.Option(None, "--bytes", help="How much to send instead, such as 1GB."),
    implementation: str = _IMPLEMENTATION,
    control: str | None = typer.Option(
        None, metavar="bbr|fixed|native|background", help="Congestion control; libudt has native and fixed."
    ),
    rate: str | None = typer.Option(
        None, help="Rate on the wire, such as 100Mbit/s: of --control fixed the rate, of others of longhaul a cap."
    ),
    mss: int = _MSS,
    buffer: str = _BUFFER,
    reverse: bool = typer.Option(False, help="The server sends, this end receives."),
    connections: int = typer.Option(1, min=1, max=128, help="How many at once."),
    verify: bool = typer.Option(False, help="Check by BLAKE3 that the content arrived unchanged (costs CPU)."),
    as_json: bool = _JSON,
) -> None:
    """Measure against a server.

    Examples:

      python -m syncer.udt.perf send far.example

      python -m syncer.udt.perf send far.example --bytes 1GB --verify --reverse

      python -m syncer.udt.perf send 198.18.0.2 --seconds 30 --control fixed --rate 190Mbit/s --json

      python -m syncer.udt.perf send 198.18.0.2 --implementation libudt --connections 4
    """
    if seconds is not None and size is not None:
        raise InputError("--seconds and --bytes exclude each other", hint="give one of the two")
    total = None if size is None else size_bytes(size)
    if total is not None and total < connections:
        raise InputError(f"{total} bytes are too few for {connections} connections", hint="give more --bytes")
    chosen = load(implementation)
    wished = Settings(control, None if rate is None else rate_bps(rate), mss, size_bytes(buffer))
    # In reverse the server judges whether it has what is asked for.
    settings = Settings(mss=mss, buffer_bytes=wished.buffer_bytes) if reverse else wished
    settings = checked(chosen, settings)
    request = Request(
        implementation=chosen.name,
        reverse=reverse,
        connections=connections,
        seed=secrets.randbits(32),
        verify=verify,
        seconds=(seconds or _DEFAULT_SECONDS) if total is None else None,
        bytes=total,
        control=wished.control if reverse else settings.control,
        rate_bps=wished.rate_bps,
    )
    address = _numeric(host), port

    def ready(server: Ready) -> None:
        if not as_json:
            sends, receives = (server.implementation, chosen.name) if reverse else (chosen.name, server.implementation)
            used = server.control if reverse else settings.control
            at = "" if wished.rate_bps is None else f", {shown_rate(wished.rate_bps)} on the wire"
            print(f"{sends} ({used}{at}) sends to {receives} at {address[0]} port {port}", flush=True)

    try:
        server, arrival, departure = measure(chosen, address, request, settings, ready)
    except NoServer as error:
        raise NoServer(
            error.message,
            hint=f"start one there: python -m syncer.udt.perf serve --port {port}; does a firewall let UDP through?",
        ) from None
    used = server.control if reverse else settings.control or ""
    told = results.concluded(request, server.implementation, used, arrival, departure)
    _print(told, as_json, None)
    if told.failure is not None or told.verified is False:
        raise typer.Exit(1)


def _numeric(host: str) -> str:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise InputError(f"'{host}' is no address: {error.strerror}", hint="give a name that resolves") from None
    return str(found[0][4][0])


def _print(result: results.Result, as_json: bool, title: str | None) -> None:
    if as_json:
        text = json.dumps(msgspec.to_builtins(result))
    else:
        text = "\n".join(([title] if title else []) + [results.told_by_second(result), results.told(result)])
    print(text, flush=True)


def main() -> int:
    """The exit code."""
    try:
        code = app(prog_name="python -m syncer.udt.perf", standalone_mode=False) or 0
    except SyncerError as error:
        print(f"perf: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except typer.Exit as leave:
        return leave.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        print(f"perf: {error.format_message()}", file=sys.stderr)
        return 2
    if code == _INTERRUPTED:  # also what typer makes of an interrupt
        print("perf: interrupted", file=sys.stderr)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
