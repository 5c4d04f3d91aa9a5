"""``syncer speedtest``"""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import typer

from syncer.cli.options import HomeOption, JsonOption
from syncer.errors import InputError, SyncerError

TIMEOUT_S = 5.0
POLL_S = 0.5
LONGEST_S = 60


def register(app: typer.Typer) -> None:
    @app.command()
    def speedtest(
        site: Annotated[str, typer.Argument(help="The other site's name.")],
        home: HomeOption,
        seconds: Annotated[float, typer.Option(min=1, max=LONGEST_S, help="Of load, in each direction.")] = 10.0,
        transport: Annotated[
            str | None, typer.Option(help="udt, tcp or all, one after the other; else the one in use.")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Measure the link to another site, with the running engine's own encrypted session.

        Synthetic data fills the session one way, then the other; the receiving site counts it and throws it away. Files
        go on meanwhile and come first; a rate cap holds. With --transport all the better transport is used from then on
        (unless one is pinned).

        Example: syncer speedtest lima --home ~/sync --seconds 20 --transport all
        """
        from syncer.site.home import TRANSPORTS, Home
        from syncer.site.status import ask

        place = Home(home)
        place.load()
        if transport not in (None, "all", *TRANSPORTS):
            raise InputError(f"{transport!r} is no transport", hint=f"use {', '.join((*TRANSPORTS, 'all'))}")
        question = {"ask": "speedtest", "site": site, "transport": transport or "", "seconds": seconds}
        test = _answered(ask(place, question, timeout_s=TIMEOUT_S))["test"]
        try:
            progress: dict[str, Any] = {"done": False}
            while not progress["done"]:
                time.sleep(POLL_S)
                progress = _answered(ask(place, {"ask": "speed-progress", "test": test}, timeout_s=TIMEOUT_S))
                if not as_json and sys.stderr.isatty():
                    typer.echo(f"\r\x1b[K{_progress_line(progress)}", nl=False, err=True)
        except KeyboardInterrupt:
            ask(place, {"ask": "speed-stop", "test": test}, timeout_s=TIMEOUT_S)
            raise
        finally:
            if not as_json and sys.stderr.isatty():
                typer.echo("\r\x1b[K", nl=False, err=True)
        if as_json:
            typer.echo(json.dumps({"site": site, "transports": progress["rows"], "choice": progress["choice"]}))
        else:
            for line in _report(progress):
                typer.echo(line)
        if not any("goodput_bps" in row.get(way, {}) for row in progress["rows"] for way in ("there", "back")):
            raise SyncerError("nothing could be measured", hint="see: syncer status, syncer log")


def _answered(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        kind = InputError if answer.get("input") else SyncerError
        raise kind(answer["error"], hint=answer.get("hint"))
    return answer


def _progress_line(progress: dict[str, Any]) -> str:
    if "sending_bps" not in progress:
        return str(progress["phase"])
    return (
        f"{progress['phase']}   out {progress['sending_bps'] / 1e6:.1f} Mbit/s, in"
        f" {progress['receiving_bps'] / 1e6:.1f} Mbit/s, RTT {progress['rtt_us'] / 1000:.1f} ms"
    )


def _report(progress: dict[str, Any]) -> list[str]:
    lines = []
    for row in progress["rows"]:
        idle = f"  RTT idle {row['rtt_idle_us'] / 1000:.1f} ms" if "rtt_idle_us" in row else ""
        lines.append(f"{row['transport']}:{idle}" + (f"  {row['error']}" if "error" in row else ""))
        for key, way in (("there", "to it"), ("back", "from it")):
            if key in row:
                lines.append(f"  {way:<8} {_direction(row[key])}")
    return [*lines, f"in use: {progress['choice']}"]


def _direction(result: dict[str, Any]) -> str:
    if "error" in result:
        return str(result["error"])
    parts = [f"{result['goodput_bps'] / 1e6:.1f} Mbit/s"]
    if "rtt_loaded_us" in result:
        parts.append(f"RTT under load {result['rtt_loaded_us'] / 1000:.1f} ms")
    if "loss" in result:
        parts.append(f"loss {result['loss']:.2%}, {result['packets_retransmitted']} packets sent again")
    if result.get("rate_cap_bps"):
        parts.append(f"cap {result['rate_cap_bps'] / 1e6:g} Mbit/s")
    return ", ".join(parts)
